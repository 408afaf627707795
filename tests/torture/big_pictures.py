"""Do photographs of 24 megapixels pass through a small object store and none of it to disk?"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from PIL import Image

from pipelines.annotate.run import annotate
from pipelines.shards.photographs import find_photograph
from tests.builders import make_checkpoint, make_config, read_rows
from tests.pipelines.annotate.processes import NoSuchProcess, find_family
from tests.torture.own_ray import own_ray
from tests.torture.record import Record

_SIZE = (6000, 4000)
PIXELS_BYTES = 3 * _SIZE[0] * _SIZE[1]
"""Of one photograph, decoded."""
_NAMES = ("astronaut", "chelsea", "coffee", "rocket")
_LOOK_S = 0.1
_SLICE = 16
_CPUS = 4


@dataclass(slots=True)
class StoreUse:
    """What Ray's object store held at its peak."""

    peak_bytes: int = 0
    capacity_bytes: int = 0
    spilled_bytes: int = 0
    worker_bytes: int = 0
    """Resident memory of the largest worker, shared memory included."""


def torture_big_pictures(seed: int, *, images: int, store_bytes: int = 4 * 2**30) -> Record:
    """Annotate large photographs, and look at the object store ten times a second."""
    del seed  # nothing is drawn
    with own_ray(_CPUS, store_bytes=store_bytes):
        record, use = annotate_photographs(images)
    assert use.peak_bytes < store_bytes
    return record


def annotate_photographs(images: int) -> tuple[Record, StoreUse]:
    """Annotate so many on the Ray of this process."""
    with TemporaryDirectory() as folder:
        size_bytes = write_large_photographs(Path(folder, "in"), images)
        weights = make_checkpoint(Path(folder, "weights"))
        config = make_config(folder, weights, slice_size=_SLICE, workers=1)
        with store_watched() as use:
            report = annotate(config)
        found = read_rows(config.output, "images")["image"].to_pylist()
    assert report.failed == 0, report.errors
    record = Record(
        rows=len(found),
        lost=images - len(set(found)),
        doubled=len(found) - len(set(found)),
        notes=(
            f"{images} photographs of 24 megapixels, {size_bytes / 2**30:.1f} GiB of JPEG and "
            f"{images * PIXELS_BYTES / 2**30:.0f} GiB of pixels",
            f"object store: {use.peak_bytes / 2**20:.0f} MiB at its peak of "
            f"{use.capacity_bytes / 2**20:.0f}, {use.spilled_bytes / 2**20:.0f} MiB spilled",
            f"largest worker: {use.worker_bytes / 2**20:.0f} MiB resident",
        ),
    )
    return record, use


def write_large_photographs(folder: Path, count: int) -> int:
    """Enlarge some photographs, and give each many names; returns the bytes that they list."""
    folder.mkdir()
    for number in range(count):
        path = folder / f"photo-{number:04d}.jpg"
        if number < len(_NAMES):
            small = Image.open(find_photograph(_NAMES[number])).convert("RGB")
            small.resize(_SIZE, Image.Resampling.BICUBIC).save(path, quality=95)
        else:
            path.hardlink_to(folder / f"photo-{number % len(_NAMES):04d}.jpg")
    return sum(path.stat().st_size for path in folder.iterdir())


@contextmanager
def store_watched() -> Iterator[StoreUse]:
    """Follow the object store of this Ray's one node while the block lasts."""
    use, ended = StoreUse(), threading.Event()

    def look() -> None:
        while not ended.wait(_LOOK_S):
            _look_at_store(use)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield use
    finally:
        ended.set()
        thread.join()


def _look_at_store(use: StoreUse) -> None:
    import ray
    from ray._private.internal_api import node_stats

    (node,) = ray.nodes()
    place = (node["NodeManagerAddress"], node["NodeManagerPort"])
    stats = node_stats(*place, include_memory_info=False).store_stats
    use.peak_bytes = max(use.peak_bytes, stats.object_store_bytes_used)
    use.capacity_bytes = stats.object_store_bytes_avail
    use.spilled_bytes = max(use.spilled_bytes, stats.spilled_bytes_total)
    for process in find_family(os.getpid()):
        with suppress(NoSuchProcess):
            if " ".join(process.cmdline()).startswith("ray::Map"):
                use.worker_bytes = max(use.worker_bytes, process.memory_info().rss)
