"""What do ten million images cost the driver of a run, before and beside the work itself?

The command is the real `annotate`, over a listing of the real S3 protocol; only Ray is played by
a loop that puts a receipt for each slice. Each size has a process of its own, which is measured.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa
import pytest

from pipelines import manifest
from pipelines.annotate import run
from pipelines.annotate.config import AnnotateConfig
from pipelines.annotate.run import AnnotateReport, annotate
from pipelines.annotate.stages import STAGES, SUMMARY_SCHEMA, StageConfig
from pipelines.comparison import Changes
from pipelines.manifest import SlicePlace
from pipelines.receipts import RowCounts
from pipelines.status import StatusConfig, read_status
from pipelines.tables import IMAGES, IMAGES_SCHEMA, Provenance, encode_table, slice_name
from tests.builders import make_checkpoint
from tests.pipelines.annotate.fake_model import FakeModel
from tests.pipelines.annotate.plain_engine import install_plain_engine
from tests.torture.apart import run_apart, tell
from tests.torture.endless_bucket import BUCKET, PREFIX, BucketState, serve_endless
from tests.torture.record import Record

SIZES = (10_000, 100_000, 1_000_000, 10_000_000)
MAX_RSS_BYTES = 2 * 2**30
MAX_SLOWDOWN = 3.0
"""Processor time an image of a larger size may take, against that of a hundred thousand."""
_STEP = 1000
"""Of so many images one has changed and one has gone when the run is updated."""
_LINKS = 10_000
"""Receipts that are one file on disk; the file system allows some ten thousand names."""
_STEADY = 100_000
"""Below, what a command takes to start is most of its time."""


class StoppedError(BaseException):
    """The driver ended here: nothing may catch it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ScaleCost:
    """What one size took."""

    images: int
    """Of the first listing."""
    plan_s: float
    """Seconds from the command to the first slice, listing and manifest included."""
    resume_s: float
    """Seconds from the same command to the first slice, half of them committed."""
    update_s: float
    """Seconds of a whole update, the listing and the touched slices' receipts included."""
    status_s: float
    """Seconds to count the finished run."""
    processor_s: float
    """Seconds of the processor for all of it: who else uses the machine does not count, nor does
    the server of the listing."""
    peak_bytes: int
    """Resident memory of the driver at its peak."""


@dataclass(slots=True)
class _Engine:
    """Takes the place of the graph: commits slices, or stops at the half."""

    slice_size: int
    full_slices: int
    """Slices of the first generation that have as many images as that."""
    stops: bool = False
    """Whether the driver dies when half of the slices are committed."""
    started: float = 0.0
    """When the last command had its first slice to do, in seconds."""
    todo: int = 0
    """Slices that it had to do."""
    _receipts: dict[tuple[int, int, int], Path] = field(default_factory=dict)

    def run_graph(
        self, slices: Sequence[SlicePlace], files: object, config: StageConfig, **options: object
    ) -> Iterator[pa.Table]:
        del files, options
        self.started, self.todo = time.perf_counter(), len(slices)
        for done, place in enumerate(slices):
            if self.stops and done >= len(slices) // 2:
                raise StoppedError
            yield self._commit(place, config.output)

    def _commit(self, place: SlicePlace, output: str) -> pa.Table:
        images = self._count(place, output)
        counts = RowCounts(images=images, errors=Counter())
        uri = Path(output, IMAGES, slice_name(place.number))
        uri.unlink(missing_ok=True)
        uri.hardlink_to(self._receipt(place, counts, Path(output)))
        row = {
            "slice": place.number,
            "images_read": images,
            "counts": counts.encode(),
            "seconds": '{"' + '": 0, "'.join(STAGES) + '": 0}',
        }
        return pa.Table.from_pylist([row], SUMMARY_SCHEMA)

    def _count(self, place: SlicePlace, output: str) -> int:
        """The last slice and touched ones are not full."""
        if place.generation == 0 and place.number < self.full_slices:
            return self.slice_size
        return len(manifest.read_slice(output, place))

    def _receipt(self, place: SlicePlace, counts: RowCounts, output: Path) -> Path:
        key = (place.generation, counts.images, place.number // _LINKS)
        if key not in self._receipts:
            provenance = Provenance(fingerprint="f", generation=place.generation)
            table = IMAGES_SCHEMA.empty_table()
            data = encode_table(table, IMAGES_SCHEMA, provenance, counts=counts.encode())
            (output / IMAGES).mkdir(exist_ok=True)
            path = output.parent / "receipts" / "-".join(map(str, key))
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(data)
            self._receipts[key] = path
        return self._receipts[key]


def measure_size(images: int) -> ScaleCost:
    """Plan, resume, update and count a run of so many images, in this process."""
    began = time.process_time()
    with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        config = AnnotateConfig(
            images=f"s3://{BUCKET}/{PREFIX}",
            output=str(Path(folder, "out")),
            weights=(make_checkpoint(Path(folder, "weights")),),
        )
        engine = _Engine(slice_size=config.slice_size, full_slices=images // config.slice_size)
        install_plain_engine(patch, FakeModel())
        patch.setattr(run, "run_graph", engine.run_graph)
        with serve_endless(BucketState(count=images)):
            plan_s = _plan(config, engine)
            tell(f"scale: {images:,} images planned in {plan_s:.1f} s")
            resume_s = _resume(config, engine, images)
        later = BucketState(count=images, step=_STEP, added=images // _STEP)
        with serve_endless(later):
            update_s = _update(config, images)
        tell(f"scale: {images:,} images updated in {update_s:.1f} s")
        return ScaleCost(
            images=images,
            plan_s=plan_s,
            resume_s=resume_s,
            update_s=update_s,
            status_s=_count_finished(config, images),
            processor_s=time.process_time() - began,
            peak_bytes=read_peak(),
        )


def _plan(config: AnnotateConfig, engine: _Engine) -> float:
    engine.stops = True
    started = time.perf_counter()
    with pytest.raises(StoppedError):
        annotate(config)
    return engine.started - started


def _resume(config: AnnotateConfig, engine: _Engine, images: int) -> float:
    slices, engine.stops = engine.todo, False
    started = time.perf_counter()
    report = annotate(config)
    assert engine.todo == slices - slices // 2
    assert (report.images, report.slices) == (images, slices)
    return engine.started - started


def _update(config: AnnotateConfig, images: int) -> float:
    started = time.perf_counter()
    report: AnnotateReport = annotate(replace(config, update=True))
    each = images // _STEP
    assert report.changes == Changes(added=each, changed=each, vanished=each)
    assert report.images == images
    return time.perf_counter() - started


def _count_finished(config: AnnotateConfig, images: int) -> float:
    started = time.perf_counter()
    status = read_status(StatusConfig(output=config.output))
    assert status.slices_done == status.slices
    assert status.images_done == status.images == images
    return time.perf_counter() - started


def read_peak() -> int:
    """Resident memory of this process at its peak, bytes.

    Not `getrusage`, which begins with what the process that started this one had.
    """
    status = Path("/proc/self/status").read_text("ascii")
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


def torture_scale(seed: int, *, largest: int) -> Record:
    """Measure one size after the other, up to the largest."""
    del seed  # nothing is drawn
    costs = [run_apart(measure_size, size) for size in SIZES if size <= largest]
    check_costs(costs)
    return Record(notes=_notes(costs), table=_tabulate(costs))


def check_costs(costs: Sequence[ScaleCost]) -> None:
    """Make sure that memory is bounded, and that time grows with the images and no faster."""
    for cost in costs:
        assert cost.peak_bytes < MAX_RSS_BYTES, cost
    steady = [cost for cost in costs if cost.images >= _STEADY]
    for cost in steady:
        slowdown = _spend_each(cost) / _spend_each(steady[0])
        assert slowdown < MAX_SLOWDOWN, cost


def _spend_each(cost: ScaleCost) -> float:
    """Microseconds of the processor an image."""
    return 1e6 * cost.processor_s / cost.images


def _notes(costs: Sequence[ScaleCost]) -> tuple[str, ...]:
    total = sum(cost.images for cost in costs)
    return (f"{total:,} images listed, planned, resumed, updated and counted",)


def _tabulate(costs: Sequence[ScaleCost]) -> tuple[tuple[str, ...], ...]:
    head = (
        "images",
        "plan, s",
        "resume, s",
        "update, s",
        "status, s",
        "processor, us an image",
        "peak, MiB",
    )
    return (head, *(_row(cost) for cost in costs))


def _row(cost: ScaleCost) -> tuple[str, ...]:
    each: list[Any] = [cost.plan_s, cost.resume_s, cost.update_s, cost.status_s]
    return (
        f"{cost.images:,}",
        *(f"{seconds:.1f}" for seconds in each),
        f"{_spend_each(cost):.0f}",
        f"{cost.peak_bytes / 2**20:.0f}",
    )
