"""Does a store that takes no more end a command with a sentence, and does the next one finish it?

Full disks, read-only file systems and denials at any fsync of a disk, denials of all images from
any read on, revoked keys before any write to S3. Nothing partial may stand under a final name, and
the rows are those of a run without outage.
"""

from __future__ import annotations

import os
import random
import re
import shutil
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from pipelines import lease, storage
from pipelines.annotate.config import AnnotateConfig
from pipelines.annotate.run import annotate
from pipelines.errors import ImageError, ImageReason, StorageError
from pipelines.storage import ObjectInfo
from tests.builders import encode_picture, make_checkpoint, make_config, make_picture
from tests.pipelines.annotate.fake_model import FakeModel
from tests.pipelines.annotate.killed import change_bucket, count_moments
from tests.pipelines.annotate.outages import SENTENCES, Countdown, assert_whole
from tests.pipelines.annotate.plain_engine import install_plain_engine
from tests.torture.apart import tell
from tests.torture.comparison import Comparison, compare_runs
from tests.torture.record import Record
from tests.torture.stores import RCLONE, open_store

_MOST_EACH = 3
"""Outages of a command before the one that ends."""
_SHARE_OF_READS = 0.2
"""Of the outages on a disk."""
_IMPATIENT = lease.LeaseTimes(heartbeat=0.1, lease=0.3)
"""A lease that cannot be given back is waited for."""
_REVOKED = "key revoked before a write"
_UNREADABLE = "images denied from a read on"
_DENIED = "no valid credentials|access denied"
"""To a question without a body (HEAD) the store does not say what is wrong with the key."""

Strike = Callable[[AnnotateConfig], str | None]
"""Runs a command into an outage; names it, or None if the command ended before it."""


def torture_outages(seed: int, *, outages: int) -> Record:
    """Let the disk, and then the keys, fail so often each: in first runs, updates and retries."""
    source, struck, total = random.Random(seed), Counter[str](), Comparison()
    with TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        folder = Path(name)
        install_plain_engine(patch, FakeModel())
        patch.setattr(lease, "DEFAULT_TIMES", _IMPATIENT)
        weights = make_checkpoint(folder / "weights")
        while struck.total() < outages:
            total += _torture_disk(folder / f"{struck.total()}", weights, source, struck)
        tell(f"{dict(struck)}, {total}")
        with open_store(RCLONE, folder / "s3") as root:
            while struck[_REVOKED] < outages:
                place = f"{root}/{struck[_REVOKED]}"
                total += _torture_keys(place, folder, weights, source, struck)
        tell(f"{dict(struck)}, {total}")
    return Record(faults=dict(struck), rows=total.rows, lost=total.lost, doubled=total.doubled)


def _torture_disk(
    folder: Path, weights: str, source: random.Random, struck: Counter[str]
) -> Comparison:
    """A first run, and then an update with a retry."""
    config = make_config(str(folder), weights, slice_size=3)
    twin = f"{config.output}-undisturbed"
    for number in range(10):
        storage.write_bytes(f"{config.images}/{number:06d}.jpg", _draw(number))
    total = Comparison()
    for asked in (config, replace(config, update=True, retry_failed=True)):
        moments = count_moments(replace(asked, output=twin))

        def strike(config: AnnotateConfig, moments: int = moments) -> str | None:
            if source.random() < _SHARE_OF_READS:
                return _deny_reads(config, source)
            return _fill_disk(config, source, moments)

        _suffer(asked, strike, struck)
        total += compare_runs(config.output, twin)
        shutil.rmtree(twin)
        shutil.copytree(config.output, twin)
        change_bucket(config.images, source)
    return total


def _torture_keys(
    root: str, folder: Path, weights: str, source: random.Random, struck: Counter[str]
) -> Comparison:
    """The same in a bucket; the run without outage has its tables on disk."""
    config = make_config(root, weights, slice_size=3)
    twin = replace(config, output=str(folder / "twin"))
    total = Comparison()
    for start in (0, 7):
        for number in range(start, start + 7):
            data = _draw(number + start) if source.random() < 0.8 else b"bad"
            storage.write_bytes(f"{config.images}/{number:06d}.jpg", data)
        flags = {"update": start > 0, "retry_failed": start > 0}
        annotate(replace(twin, **flags))
        _suffer(replace(config, **flags), lambda config: _revoke_key(config, source), struck)
        total += compare_runs(config.output, twin.output)
    shutil.rmtree(twin.output)
    return total


def _suffer(config: AnnotateConfig, strike: Strike, struck: Counter[str]) -> None:
    """Run a command into outages, and then to its end."""
    for _ in range(_MOST_EACH):
        outage = strike(config)
        assert_whole(config.output)
        struck.update([outage] if outage else [])
    annotate(config)


def _fill_disk(config: AnnotateConfig, source: random.Random, moments: int) -> str | None:
    code = source.choice(list(SENTENCES))

    threads = set[str]()

    def fail() -> None:
        threads.add(threading.current_thread().name)
        raise OSError(code, os.strerror(code))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", Countdown(os.fsync, source.randrange(moments), fail))
        return _expect(config, threads, SENTENCES[code], os.strerror(code).lower())


def _deny_reads(config: AnnotateConfig, source: random.Random) -> str | None:
    threads, read, left = set[str](), storage.read_objects, source.randrange(4)

    def read_or_deny(objects: Sequence[ObjectInfo], **options: Any) -> list[Any]:
        nonlocal left
        left -= 1
        if left >= 0:
            return read(objects, **options)
        threads.add(threading.current_thread().name)
        return [ImageError(ImageReason.ACCESS_DENIED, f"{info.uri}: denied") for info in objects]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(storage, "read_objects", read_or_deny)
        return _expect(config, threads, "the credentials may read none", _UNREADABLE)


def _revoke_key(config: AnnotateConfig, source: random.Random) -> str | None:
    threads = set[str]()
    with pytest.MonkeyPatch.context() as patch:

        def revoke() -> None:
            threads.add(threading.current_thread().name)
            patch.setenv("AWS_SECRET_ACCESS_KEY", "one-that-is-no-longer-good")

        countdown = Countdown(storage.write_bytes, source.randrange(12), revoke)
        patch.setattr(storage, "write_bytes", countdown)
        return _expect(config, threads, _DENIED, _REVOKED)


def _expect(config: AnnotateConfig, threads: set[str], sentence: str, name: str) -> str | None:
    """Run a command that must end with a sentence if a thread but the lease's met the outage."""
    said = None
    try:
        annotate(config)
    except StorageError as error:
        said = str(error)
    if said is None:
        # A heartbeat behind the last write is missed by nobody.
        assert threads <= {"lease"}, f"{name}: the command ended well"
        return None
    assert re.search(sentence, said), said
    return name


def _draw(number: int) -> bytes:
    return encode_picture(make_picture(number, height=8, width=8))
