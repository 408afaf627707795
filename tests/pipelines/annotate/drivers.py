"""Drivers on the session's Ray, in processes of their own, that are killed, paused and relieved."""

from __future__ import annotations

import random
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import ray

from pipelines import lease, storage
from pipelines.lease import LeaseTimes
from pipelines.manifest import read_summary
from tests.builders import (
    annotate_flags,
    annotate_without_ray,
    assert_same_rows,
    finish_without_ray,
    look_again,
    run_command,
)
from tests.pipelines.annotate.file_reads import FileReads
from tests.pipelines.annotate.killed import assert_all_is_whole, list_done

ROOT = Path(__file__).parents[3]
SLOW = LeaseTimes(heartbeat=5.0, lease=30.0)
"""Of drivers that are paused: not in the middle of a heartbeat, to be written on waking."""
QUICK = LeaseTimes(heartbeat=0.2, lease=3.0)
"""Of the one that takes over."""


@contextmanager
def start_driver(config, log, *flags):
    """A command in a process of its own, on the cluster of this one; it is killed at the end."""
    address = ray.get_runtime_context().gcs_address
    times = [str(SLOW.heartbeat), str(SLOW.lease)]
    command = [sys.executable, "-m", "tests.pipelines.annotate.driver", *times]
    with (
        log.open("ab") as output,
        subprocess.Popen(
            [*command, *annotate_flags(config), *flags, "--address", address],
            cwd=ROOT,
            stdout=output,
            stderr=output,
        ) as driver,
    ):
        try:
            yield driver
        finally:
            driver.kill()


def list_objects(output):
    """Every object of the manifest and the tables, with what tells its versions apart."""
    return {
        (str(path.relative_to(output)), path.stat().st_ino, path.stat().st_mtime_ns)
        for folder in ("manifest", "boxes", "images")
        for path in Path(output, folder).rglob("*.*")
    }


def torture_first_run(config, log, *, kills, seed):
    """Run with drivers that are killed by -9, and one that finishes; all is done from the start.

    Returns:
        The output of a run that nobody disturbed, whose rows are the same.
    """
    undisturbed = f"{config.output}-undisturbed"
    annotate_without_ray(config, undisturbed)
    objects = len(list_objects(undisturbed))
    committed = set()
    for moment in _draw_moments(kills, objects, seed):
        committed = _kill_at(config, log, (), count=moment, before=set(), committed=committed)
    finish_undisturbed(config)
    assert_same_rows(config.output, undisturbed)
    return undisturbed


def torture_drivers(config, stages, log, *, kills, seed, pause, flags=("--update",)):
    """Update with drivers that are killed by -9, perhaps one that is paused, and one that finishes.

    The paused one is relieved after a lease time of silence, woken when the run has ended, and must
    have no effect then. Its actors keep their CPUs meanwhile: the cluster must have some to spare.

    Args:
        config: of a finished run over a bucket that has changed since.
        stages: what the plain stages are told, for an update that nobody disturbs.
        log: file for what the drivers say.
        kills: how many.
        seed: of the moments: so many objects were put.
        pause: whether one is paused before another one finishes.
        flags: of the command, `--update` among them.

    Returns:
        The output of an update that nobody disturbed, whose rows are the same.
    """
    before, generation = list_objects(config.output), read_summary(config.output).generation
    undisturbed = f"{config.output}-undisturbed"
    shutil.copytree(config.output, undisturbed, copy_function=shutil.copy2)
    put_before = list_objects(undisturbed)
    look_again(config, undisturbed, retry_failed="--retry-failed" in flags)
    finish_without_ray(config, replace(stages, output=undisturbed))
    objects = len(list_objects(undisturbed) - put_before)

    # The last slices are left for the one that relieves the paused one.
    *moments, last = _draw_moments(kills + 1, objects - 4, seed)
    moments += [] if pause else [last]
    committed = set()
    for moment in moments:
        committed = _kill_at(
            config,
            log,
            flags,
            count=moment,
            before=before,
            committed=committed,
            after=generation,
        )
    if pause:
        pause_and_relieve(config, log, flags, count=last, before=before, after=generation)
    else:
        finish_undisturbed(config, *flags)
    assert_same_rows(config.output, undisturbed)
    return undisturbed


def _draw_moments(kills, objects, seed):
    """So many objects were put; the last one may be anybody's."""
    return sorted(random.Random(seed).sample(range(1, objects - 1), kills))


def _wait_for(driver, config, log, *, count, before):
    while len(list_objects(config.output) - before) < count:
        assert driver.poll() is None, log.read_text()
        time.sleep(0.005)


def _wait_for_lease(driver, config, log):
    """Until its heart has beaten: one that is paused while it takes over may take it again."""
    uri = storage.join_uri(config.output, lease.LEASE_FILE)
    while not _beats(lease.read_holder(uri), driver):
        assert driver.poll() is None, log.read_text()
        time.sleep(0.005)


def _beats(holder, driver):
    return holder is not None and f"/{driver.pid}/" in holder.process and holder.heartbeat > 0


def _kill_at(config, log, flags, *, count, before, committed, after=-1):
    """Start a driver and kill it when so many objects were put; returns what is committed then."""
    with FileReads(config.images) as reads, start_driver(config, log, *flags) as driver:
        _wait_for(driver, config, log, count=count, before=before)
        driver.kill()
        driver.wait()
        assert not reads.names() & committed, "an image of a committed slice was read again"
    if Path(config.output, "images").exists():
        assert_all_is_whole(config.output)
    return list_done(config.output, after=after)


def finish_undisturbed(config, *flags):
    """Run the same command in this process."""
    ended = run_command(*annotate_flags(config), *flags)
    assert ended.code == 0, ended.err


def pause_and_relieve(config, log, flags, *, count, before, after):
    """Pause a driver, let another one take over, and wake the first one when all is done."""
    with start_driver(config, log, *flags) as paused:
        # Workers of a killed driver may have put what is waited for, before this one holds the run.
        _wait_for_lease(paused, config, log)
        _wait_for(paused, config, log, count=count, before=before)
        paused.send_signal(signal.SIGSTOP)
        committed = list_done(config.output, after=after)
        with FileReads(config.images) as reads:
            relieve(config, flags)
            assert not reads.names() & committed
        ended = list_objects(config.output)
        paused.send_signal(signal.SIGCONT)
        code = paused.wait(60)
        assert code == 1, f"exit code {code}: {log.read_text()[-2000:]}"
        said = log.read_text()
        # Ray may have the last word: it was out of touch with this driver, too.
        assert "this driver commits no more" in said, said[-3000:]
        assert "Traceback" not in said, said[-3000:]
        assert list_objects(config.output) == ended


def relieve(config, flags):
    """Run the same command in this process: it waits for a lease time, and does what is left."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lease, "DEFAULT_TIMES", QUICK)
        ended = run_command(*annotate_flags(config), *flags)
    assert ended.code == 0, ended.err
    assert "watching its heartbeat for 3 s" in ended.err
