"""An annotation run from start to end: who drives it, its manifest, the slices left, the report."""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Iterator, Set
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

from overfeat.predict_config import Task
from pipelines import storage
from pipelines.annotate import invocations
from pipelines.annotate.auditor import Auditor, open_auditor
from pipelines.annotate.config import AnnotateConfig
from pipelines.annotate.engine import Engine, Machines
from pipelines.annotate.graph import run_graph
from pipelines.annotate.leftovers import refuse_unlisted_rows
from pipelines.annotate.planning import (
    Listing,
    Pending,
    check_counts,
    find_pending,
    peek_images,
    write_first_generation,
    write_next_generation,
)
from pipelines.annotate.resolve import ResolvedModel, resolve_model
from pipelines.annotate.run_file import OpenRun, check_device, create_run, find_run
from pipelines.annotate.stages import STAGES, StageConfig
from pipelines.comparison import Changes
from pipelines.errors import InputError, PipelineError
from pipelines.lease import Lease, LeaseLostError
from pipelines.manifest import Manifest, open_manifest, read_summary
from pipelines.progress import Progress
from pipelines.receipts import RowCounts
from pipelines.tables import RUN_FILE
from pipelines.weights import ModelFiles, fetch_model
from pipelines.wording import tell_count

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class AnnotateReport:
    """How a run stands after one invocation."""

    output: str
    """Where the tables are."""
    fingerprint: str
    """Of the settings that decide the rows."""
    generation: int
    """Of the manifest: how many updates and retries there have been."""
    tasks: tuple[Task, ...]
    """What is asked of each image."""
    images: int
    """Images of the manifest, each with a row now."""
    failed: int
    """Of these, images with an error row."""
    errors: dict[str, int]
    """Failed images by reason."""
    boxes: int
    """Rows in `boxes`."""
    guesses: int
    """Rows in `guesses`."""
    features: int
    """Rows in `features`."""
    changes: Changes | None
    """What `--update` and `--retry-failed` found to do; None if neither was asked for."""
    images_read: int
    """Images read by this invocation; 0 if all slices had been committed before."""
    slices: int
    """Slices of the manifest."""
    slices_done: int
    """Slices committed by this invocation."""
    seconds: float
    """Wall time of this invocation."""
    images_per_second: float
    """Of this invocation, start-up of the cluster included."""
    stage_seconds: dict[str, float]
    """Seconds spent in each stage, added over all workers."""
    failed_too_many: bool
    """Whether the failed part is above `--max-failed-ratio`."""


def annotate(config: AnnotateConfig) -> AnnotateReport:
    """Annotate images, or go on with a run where it stood.

    Args:
        config: What the user said.

    Returns:
        How the run stands; every image of its manifest has a row.

    Raises:
        InputError: If nothing was started: no image, no checkpoint, a command that does not fit it,
            another configuration there, another driver at work.
        StorageError: If a store refused or failed for good.
        ResourceError: If the cluster is too small.
        PipelineError: If another driver took the run over.
    """
    started = datetime.now(UTC)
    output = storage.resolve_uri(config.output)
    files = fetch_model(config.weights)
    model = resolve_model(config, files)
    # Says at once that the output's bucket does not exist.
    storage.list_names(output)
    listing = None if open_manifest(output) else peek_images(config, output)
    with Lease(output) as lease, open_auditor() as auditor:
        try:
            report = _drive(_Driver(config, output, files, model, lease, auditor), listing, started)
        except PipelineError as error:
            # Of what was refused before it began there is nothing to tell.
            if not isinstance(error, InputError):
                invocations.note_failure(output, started, error)
            raise
        invocations.write_report(output, started, asdict(report))
    return report


@dataclass(frozen=True, slots=True)
class _Driver:
    """What one invocation works with from its start."""

    config: AnnotateConfig
    output: str
    files: ModelFiles
    model: ResolvedModel
    lease: Lease
    auditor: Auditor


@dataclass(slots=True)
class _Tally:
    """What is known of the run's rows, and what this invocation did."""

    counts: dict[int, RowCounts] = field(default_factory=dict)
    images_read: int = 0
    slices_done: int = 0
    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(STAGES, 0.0))

    def sum(self) -> RowCounts:
        return sum(self.counts.values(), RowCounts())


def _drive(driver: _Driver, listing: Listing | None, started: datetime) -> AnnotateReport:
    """Finish the run's newest generation, then the next one if one is asked for."""
    config, output = driver.config, driver.output
    if listing is not None:
        refuse_unlisted_rows(output)
    _warn_of_store(output)
    with ExitStack() as stack:
        engine = Engine(config, stack)
        run = find_run(config, output, driver.model) or _create_run(driver, engine)
        manifest = _open_manifest(driver, run, listing)
        tally = _Tally()
        changes: Changes | None = None
        _finish(driver, engine, run, manifest, tally)
        # Of a listing that is another driver's nothing is known: it is done, then looked at again.
        while (config.update or config.retry_failed) and changes is None:
            changes = _look_again(driver, engine, run, manifest, tally)
            manifest = open_manifest(output) or manifest
            _finish(driver, engine, run, manifest, tally)
    return _report(driver, run, manifest, tally, changes, started)


def _create_run(driver: _Driver, engine: Engine) -> OpenRun:
    machines = engine.join()
    return create_run(
        driver.config,
        driver.output,
        driver.files,
        driver.model,
        device=machines.device,
        dtype=machines.dtype,
    )


def _look_again(
    driver: _Driver, engine: Engine, run: OpenRun, manifest: Manifest, tally: _Tally
) -> Changes | None:
    """Write the next generation; None if another driver's came to stand.

    Raises:
        InputError: If its images are refused before this command has done any.
        PipelineError: If they are refused after it has.
    """

    def check() -> None:
        # Asked before anything is written: a cluster that may not do the work leaves none behind.
        _join(engine, run)
        driver.lease.confirm()

    try:
        return write_next_generation(driver.config, manifest, tally.counts, check)
    except InputError as error:
        if not tally.slices_done:
            raise
        done = f"{tally.slices_done:,} slices that were left are done; then: {error}"
        raise PipelineError(done) from error


def _warn_of_store(output: str) -> None:
    scratch = storage.join_uri(output, ".tmp")
    if not storage.supports_create_if_absent(scratch, scratch=scratch):
        logger.warning(
            "%s: this store cannot create an object only if it is absent, so that two drivers that "
            "start within a moment of each other may both work; the rows stay right even so",
            output,
        )


def _open_manifest(driver: _Driver, run: OpenRun, listing: Listing | None) -> Manifest:
    found = open_manifest(run.output)
    if found is not None:
        return found
    if listing is None:
        raise InputError(f"{run.output}: its manifest vanished while it was read; start again")
    try:
        return write_first_generation(driver.config, run.output, listing, driver.lease.confirm)
    except InputError:
        # A list that is refused further down: nothing was started, so nothing may stand in the way.
        # What stands there may be another driver's by now.
        with suppress(LeaseLostError):
            if run.is_new:
                driver.lease.confirm()
                storage.delete([storage.join_uri(run.output, RUN_FILE)])
        raise


def _finish(
    driver: _Driver, engine: Engine, run: OpenRun, manifest: Manifest, tally: _Tally
) -> None:
    """Do the slices that are left, and know the rows of all of them afterwards.

    A slice whose receipt turns out to be damaged, or of another listing, is done again.

    Raises:
        PipelineError: If the engine left some out, the manifest was replaced meanwhile, or it lists
            another number of images than there are rows.
    """
    due: Set[int] = frozenset()
    while True:
        pending = find_pending(manifest, tally.counts, due, driver.auditor)
        _do_slices(driver, engine, run, manifest, pending, tally)
        audit = pending.audit.result()
        tally.counts |= audit.counts
        due = audit.due
        if not due:
            break
        logger.warning(
            "%s: %s of committed slices are not as their manifest lists them; these are done again",
            run.output,
            tell_count(len(due), "receipt"),
        )
    # Of two drivers at once, in a store that takes both puts, the other one's may come late.
    if read_summary(run.output) != manifest.summary:
        raise PipelineError(
            f"{run.output}: its manifest was replaced by another driver's while slices were done; "
            "run the same command again, which does those that are listed otherwise there"
        )
    check_counts(manifest, tally.counts)


def _do_slices(
    driver: _Driver,
    engine: Engine,
    run: OpenRun,
    manifest: Manifest,
    pending: Pending,
    tally: _Tally,
) -> None:
    """Do slices, and keep the rows of each.

    Raises:
        PipelineError: If the engine left some out.
    """
    # Rows of slices that are to be done anew count no more.
    for place in pending.places:
        tally.counts.pop(place.number, None)
    done = 0
    for row in _follow(driver, manifest, pending, _run(driver, engine, run, pending)):
        driver.lease.check()
        tally.counts[row["slice"]] = RowCounts.decode(row["counts"])
        tally.images_read += row["images_read"]
        for stage, spent in json.loads(row["seconds"]).items():
            tally.seconds[stage] += spent
        done += 1
    tally.slices_done += done
    if done != len(pending.places):
        raise PipelineError(
            f"{run.output}: {done:,} of {len(pending.places):,} slices were committed though the "
            "engine ended well; run the same command again"
        )


def _follow(
    driver: _Driver, manifest: Manifest, pending: Pending, tables: Iterator[Any]
) -> Iterator[dict[str, Any]]:
    """Pass on the summary of each slice, showing how far the run is."""
    if not pending.places:
        return
    summary = manifest.summary
    if pending.committed:
        logger.info(
            "%s of %s slices were committed before; their images are not read again",
            f"{len(pending.committed):,}",
            f"{summary.slices:,}",
        )
    old = sum(1 for place in pending.places if place.generation == 0)
    # Slices are about equally large, and those of a later generation have about as much to do.
    total = round(summary.images * old / summary.slices)
    if summary.generation:
        total += round(summary.todo * (len(pending.places) - old) / summary.touched)
    # Other slices have failed images too, and one that is done anew keeps rows of them.
    failed, where = 0, " in these slices" if summary.generation or pending.committed else ""
    with Progress(total, unit="images") as progress:
        for table in tables:
            for row in table.to_pylist():
                failed += RowCounts.decode(row["counts"]).failed
                progress.advance(row["images_read"], f"{failed:,} failed{where}")
                yield row
        progress.settle()


def _run(driver: _Driver, engine: Engine, run: OpenRun, pending: Pending) -> Iterator[Any]:
    """Do what is left; a cluster is joined with the first summary that is asked for."""
    config, features = driver.config, run.model.features
    machines = _join(engine, run)
    stage_config = StageConfig(
        output=run.output,
        fingerprint=run.fingerprint,
        lease=driver.lease.id,
        plans=run.model.plans,
        tasks=config.tasks,
        channels=None if features is None else features.channels,
        predict=config.predict_config(),
        limits=config.image_limits(),
        image_timeout=config.image_timeout,
    )
    yield from run_graph(
        pending.places,
        driver.files,
        stage_config,
        placement=machines.placement,
        device=machines.device,
        dtype=machines.dtype,
        threads=config.threads,
        cpus_per_read=config.cpus_per_read,
    )


def _join(engine: Engine, run: OpenRun) -> Machines:
    machines = engine.join()
    check_device(run, device=machines.device, dtype=machines.dtype)
    return machines


def _report(
    driver: _Driver,
    run: OpenRun,
    manifest: Manifest,
    tally: _Tally,
    changes: Changes | None,
    started: datetime,
) -> AnnotateReport:
    total = tally.sum()
    seconds = (datetime.now(UTC) - started).total_seconds()
    return AnnotateReport(
        output=run.output,
        fingerprint=run.fingerprint,
        generation=manifest.summary.generation,
        tasks=driver.config.tasks,
        images=total.images,
        failed=total.failed,
        errors=dict(Counter(total.errors).most_common()),
        boxes=total.boxes,
        guesses=total.guesses,
        features=total.features,
        changes=changes,
        images_read=tally.images_read,
        slices=manifest.summary.slices,
        slices_done=tally.slices_done,
        seconds=round(seconds, 3),
        images_per_second=round(tally.images_read / seconds, 2),
        stage_seconds={stage: round(spent, 3) for stage, spent in tally.seconds.items()},
        failed_too_many=total.failed > driver.config.max_failed_ratio * total.images,
    )
