"""Updates in processes of their own that are killed by -9 at seeded moments, and then finished.

A moment is a call of `fsync`: before each the bytes are there under no name, after each under the
final one. For a test of seconds and for a run of hours: more rounds, more kills.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from pipelines.annotate.run import annotate
from pipelines.manifest import iter_slices, open_manifest, read_summary
from tests.builders import (
    assert_same_rows,
    encode_picture,
    list_all,
    make_picture,
    read_file,
    read_rows,
)
from tests.pipelines.annotate.fake_model import FakeModel
from tests.pipelines.annotate.file_reads import FileReads
from tests.pipelines.annotate.plain_engine import install_plain_engine

# A server that has imported all this and forks: a start costs milliseconds, not seconds.
_processes = multiprocessing.get_context("forkserver")
_processes.set_forkserver_preload([__name__])


class _Moments:
    """Counts the calls of `fsync`, and ends the process at one of them."""

    def __init__(self, patch, last=0):
        self.count, self.last = 0, last
        self._fsync = os.fsync
        patch.setattr(os, "fsync", self)

    def __call__(self, file):
        self.count += 1
        if self.count == self.last:
            os.kill(os.getpid(), signal.SIGKILL)
        self._fsync(file)


def _drive(config, last):
    with pytest.MonkeyPatch.context() as patch:
        install_plain_engine(patch, FakeModel())
        _Moments(patch, last)
        annotate(config)


def run_killed(config, moment):
    """Run a command in another process; says whether the moment came before the end."""
    process = _processes.Process(target=_drive, args=(config, moment))
    process.start()
    process.join()
    assert process.exitcode in {0, -signal.SIGKILL}
    return process.exitcode != 0


def count_moments(config):
    """Run a command in this process to its end."""
    with pytest.MonkeyPatch.context() as patch:
        install_plain_engine(patch, FakeModel())
        moments = _Moments(patch)
        annotate(config)
    return moments.count


def change_bucket(folder, source):
    """Some images come, some are others now, some are no images, some go."""
    numbers = sorted(int(path.stem) for path in Path(folder).iterdir())
    first = numbers[-1] + 1
    for number in [*range(first, first + source.randint(1, 9)), *source.sample(numbers, 2)]:
        data = encode_picture(make_picture(source.randrange(10**6), height=8, width=8))
        Path(folder, f"{number:06d}.jpg").write_bytes(data if source.random() < 0.9 else b"bad")
    for number in source.sample(numbers, source.randint(1, 3)):
        Path(folder, f"{number:06d}.jpg").unlink()


def torture_update(config, *, kills, seed):
    """Change the bucket, then update it with a command that is killed some times.

    Returns:
        How many kills struck; the rows are those of an update that nobody disturbed.
    """
    source = random.Random(seed)
    change_bucket(config.images, source)
    asked = replace(config, update=True, retry_failed=True)
    undisturbed = f"{config.output}-undisturbed"
    shutil.rmtree(undisturbed, ignore_errors=True)
    shutil.copytree(config.output, undisturbed)
    moments = count_moments(replace(asked, output=undisturbed))

    before = read_summary(config.output).generation
    struck, committed = 0, set()
    for _ in range(kills):
        # A later attempt has less to do.
        moment = source.randint(1, max(2, moments // (1 + struck)))
        with FileReads(config.images) as reads:
            struck += run_killed(asked, moment)
            assert not reads.names() & committed, "an image of a committed slice was read again"
        committed = list_done(config.output, after=before)
        assert_all_is_whole(config.output)
    with FileReads(config.images) as reads:
        count_moments(asked)
        assert not reads.names() & committed, "an image of a committed slice was read again"
    assert_same_rows(config.output, undisturbed)
    assert not any(name.startswith("lease") for name in list_all(config.output))
    return struck


def list_done(output, *, after):
    """Good images that the newest generation asked for, of slices that are committed.

    Bad ones may be read again: of a command that was killed after its last commit the next one is
    another retry.
    """
    manifest = open_manifest(output)
    if manifest is None or manifest.summary.generation == after:
        return set()
    committed = _list_committed(manifest)
    if not committed:
        return set()
    rows = read_rows(output, "images").to_pylist()
    good = {row["image"] for row in rows if row["status"] == "ok"}
    return {
        Path(entry.info.uri).name
        for place, entries in iter_slices(manifest)
        if place.number in committed and place.generation == manifest.summary.generation
        for entry in entries
        if entry.todo and entry.info.uri in good
    }


def _list_committed(manifest):
    """Slices whose receipt is of the generation that lists them, or newer.

    By the files alone: what the program itself takes for committed is under test.
    """
    committed = set()
    for place in manifest.places:
        receipt = Path(manifest.output, "images", f"slice-{place.number:06d}.parquet")
        if receipt.exists():
            generation = int(pq.read_schema(receipt).metadata[b"generation"])
            committed |= {place.number} if generation >= place.generation else set()
    return committed


def assert_all_is_whole(output):
    """Every file under a final name can be read, and no image stands twice in a table."""
    for table in ("images", "boxes"):
        names = [str(path) for path in Path(output, table).iterdir()]
        keys = ["image"] if table == "images" else ["image", "box"]
        rows = [tuple(row[key] for key in keys) for name in names for row in _read(name)]
        assert len(rows) == len(set(rows))


def _read(name):
    return read_file(name).to_pylist()
