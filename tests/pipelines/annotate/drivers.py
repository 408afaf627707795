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

from pipelines import lease
from pipelines.lease import LeaseTimes
from pipelines.manifest import read_summary
from tests.builders import (
    annotate_flags,
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
def start_driver(config, log):
    """An update in a process of its own, on the cluster of this one; it is killed at the end."""
    address = ray.get_runtime_context().gcs_address
    times = [str(SLOW.heartbeat), str(SLOW.lease)]
    command = [sys.executable, "-m", "tests.pipelines.annotate.driver", *times]
    flags = [*annotate_flags(config), "--update", "--address", address]
    with (
        log.open("ab") as output,
        subprocess.Popen([*command, *flags], cwd=ROOT, stdout=output, stderr=output) as driver,
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


def torture_drivers(config, stages, log, *, kills, seed, pause):
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
    """
    before, generation = list_objects(config.output), read_summary(config.output).generation
    undisturbed = f"{config.output}-undisturbed"
    shutil.copytree(config.output, undisturbed, copy_function=shutil.copy2)
    put_before = list_objects(undisturbed)
    look_again(config, undisturbed)
    finish_without_ray(config, replace(stages, output=undisturbed))
    objects = len(list_objects(undisturbed) - put_before)

    def wait_for(count, driver):
        while len(list_objects(config.output) - before) < count:
            assert driver.poll() is None, log.read_text()
            time.sleep(0.005)

    # The last slices are left for the one that relieves the paused one.
    *moments, last = sorted(random.Random(seed).sample(range(1, objects - 5), kills + 1))
    moments += [] if pause else [last]
    committed = set()
    for moment in moments:
        with FileReads(config.images) as reads, start_driver(config, log) as driver:
            wait_for(moment, driver)
            driver.kill()
            driver.wait()
            assert not reads.names() & committed
        assert_all_is_whole(config.output)
        committed = list_done(config.output, after=generation)
    if pause:
        with start_driver(config, log) as paused:
            wait_for(last, paused)
            paused.send_signal(signal.SIGSTOP)
            committed = list_done(config.output, after=generation)
            with FileReads(config.images) as reads:
                relieve(config)
                assert not reads.names() & committed
            ended = list_objects(config.output)
            paused.send_signal(signal.SIGCONT)
            assert paused.wait(60) == 1
            assert "this driver commits no more" in log.read_text().splitlines()[-1]
            assert list_objects(config.output) == ended
    else:
        ended = run_command(*annotate_flags(config), "--update")
        assert ended.code == 0, ended.err
    assert_same_rows(config.output, undisturbed)


def relieve(config):
    """Run the same command in this process: it waits for a lease time, and does what is left."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lease, "DEFAULT_TIMES", QUICK)
        ended = run_command(*annotate_flags(config), "--update")
    assert ended.code == 0, ended.err
    assert "watching its heartbeat for 3 s" in ended.err
