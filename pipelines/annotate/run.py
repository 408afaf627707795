"""An annotation run from start to end: `run.json`, the manifest, the slices left, the report."""

from __future__ import annotations

import json
import logging
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from itertools import chain, islice
from typing import Any, Final

from overfeat.member import Dtype
from pipelines import manifest, receipts, storage
from pipelines.annotate.config import AnnotateConfig
from pipelines.annotate.graph import resolve_device, run_graph
from pipelines.annotate.resolve import ResolvedModel, resolve_model
from pipelines.annotate.settings import row_settings
from pipelines.annotate.stages import STAGES, StageConfig
from pipelines.cluster import Placement, join_cluster, place_workers
from pipelines.errors import InputError, PipelineError
from pipelines.fingerprint import Value, compute_fingerprint, refuse_other_settings
from pipelines.manifest import ManifestSummary
from pipelines.progress import Progress
from pipelines.receipts import RowCounts
from pipelines.selection import SelectionCounts, select_images
from pipelines.storage import ObjectInfo
from pipelines.tables import RUN_FILE
from pipelines.versions import describe_versions
from pipelines.weights import ModelFiles, fetch_model

logger = logging.getLogger(__name__)

_DISPATCH_SEED: Final = 2013
"""Of the fixed order in which slices are dispatched, so that no prefix of a bucket is hammered."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AnnotateReport:
    """How a run stands after one invocation."""

    output: str
    """Where the tables are."""
    fingerprint: str
    """Of the settings that decide the rows."""
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
            another configuration there.
        StorageError: If a store refused or failed for good.
        ResourceError: If the cluster is too small.
    """
    started = datetime.now(UTC)
    output = storage.resolve_uri(config.output)
    files = fetch_model(config.weights)
    model = resolve_model(config, files)
    # Says at once that the output's bucket does not exist.
    storage.list_names(output)
    counts = SelectionCounts()
    first = _peek_images(config, output, counts)
    with join_cluster(config.address) as is_ours:
        # Nothing can join an instance of our own.
        placement = _place(config, wait_seconds=0 if is_ours else config.wait_for_resources)
        run = _open_run(config, output, files, model, placement)
        summary = _open_manifest(config, run, first, counts)
        pending, before = _find_pending(output, summary)
        work = _Work(run=run, files=files, placement=placement, config=config)
        done = _do_slices(work, pending, summary, before)
    return _report(config, run, summary, before, done, started)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Run:
    """A run whose `run.json` is there and agrees with the command."""

    output: str
    fingerprint: str
    model: ResolvedModel
    device: str
    dtype: Dtype
    is_new: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class _Work:
    """What the slices are done with."""

    run: _Run
    files: ModelFiles
    placement: Placement
    config: AnnotateConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class _Done:
    """What this invocation did."""

    slices: int
    counts: RowCounts
    stage_seconds: dict[str, float]


def _peek_images(
    config: AnnotateConfig, output: str, counts: SelectionCounts
) -> Iterator[ObjectInfo] | None:
    # None if the manifest is there: nothing is listed twice. An empty bucket is told before
    # anything is written.
    if manifest.read_summary(output) is not None:
        return None
    found = select_images(
        storage.resolve_uri(config.images), output=output, suffixes=config.suffixes, counts=counts
    )
    images = islice(found, config.limit)
    first = next(images, None)
    if first is None:
        endings = " ".join(config.suffixes)
        raise InputError(
            f"--images {config.images}: no image there ({counts.skipped} other objects); "
            f"expected names that end in {endings}"
        )
    return chain([first], images)


def _place(config: AnnotateConfig, *, wait_seconds: float) -> Placement:
    return place_workers(
        workers=config.workers,
        threads=config.threads,
        cpus_per_read=config.cpus_per_read,
        wait_seconds=wait_seconds,
    )


def _open_run(
    config: AnnotateConfig,
    output: str,
    files: ModelFiles,
    model: ResolvedModel,
    placement: Placement,
) -> _Run:
    """Create `run.json`, or check that the one there is of the same configuration."""
    device, dtype = resolve_device(placement, config.dtype)
    settings = row_settings(config, model, device=device, dtype=dtype)
    uri = storage.join_uri(output, RUN_FILE)
    fingerprint = compute_fingerprint(settings)
    document = _describe_run(config, files, fingerprint, settings)
    scratch = storage.join_uri(output, ".tmp")
    data = json.dumps(document, indent=2).encode()
    is_new = storage.create_bytes(uri, data, scratch=scratch)
    if not is_new:
        there = _read_run(uri)
        refuse_other_settings(output, found=there["settings"], wanted=settings)
        _warn_of_versions(there["versions"])
    return _Run(
        output=output,
        fingerprint=fingerprint,
        model=model,
        device=device,
        dtype=dtype,
        is_new=is_new,
    )


def _read_run(uri: str) -> dict[str, Any]:
    try:
        there: dict[str, Any] = json.loads(storage.read_bytes(uri))
    except ValueError:
        there = {}
    if not isinstance(there, dict) or not {"settings", "versions"} <= there.keys():
        raise InputError(f"{uri}: not the {RUN_FILE} of an annotation run; choose another --output")
    return there


def _describe_run(
    config: AnnotateConfig, files: ModelFiles, fingerprint: str, settings: dict[str, Value]
) -> dict[str, Any]:
    return {
        "fingerprint": fingerprint,
        "settings": settings,
        "configuration": asdict(config),
        "model": {
            "weights": list(config.weights),
            "digest": files.digest,
            "architectures": [member.config.architecture for member in files.members],
            "classes": list(files.classes),
        },
        "versions": describe_versions(),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _warn_of_versions(there: dict[str, str]) -> None:
    here = describe_versions()
    for name in sorted(there.keys() | here.keys()):
        if there.get(name) != here.get(name):
            logger.warning(
                "%s was %s when the run started and is %s now: new rows agree within a tolerance",
                name,
                there.get(name),
                here.get(name),
            )


def _open_manifest(
    config: AnnotateConfig,
    run: _Run,
    images: Iterator[ObjectInfo] | None,
    counts: SelectionCounts,
) -> ManifestSummary:
    found = manifest.read_summary(run.output)
    if found is not None:
        return found
    if images is None:
        raise InputError(f"{run.output}: its manifest vanished while it was read; start again")
    slices = manifest.cut_slices(
        images, slice_size=config.slice_size, slice_bytes=config.slice_bytes
    )
    try:
        summary = manifest.write_manifest(run.output, slices, count_skipped=lambda: counts.skipped)
    except InputError:
        # A list that is refused further down: nothing was started, so nothing may stand in the way.
        if run.is_new:
            storage.delete([storage.join_uri(run.output, RUN_FILE)])
        raise
    logger.info("manifest: %s images in %s slices", f"{summary.images:,}", f"{summary.slices:,}")
    return summary


def _find_pending(output: str, summary: ManifestSummary) -> tuple[list[int], RowCounts]:
    """List the slices without a receipt in dispatch order, and count the rows of the others."""
    committed = receipts.list_committed(output)
    order = list(range(summary.slices))
    random.Random(_DISPATCH_SEED).shuffle(order)
    pending = [number for number in order if number not in committed]
    before = receipts.count_rows(output, sorted(committed))
    if committed:
        logger.info(
            "%s of %s slices were committed before; their %s images are not read again",
            f"{len(committed):,}",
            f"{summary.slices:,}",
            f"{before.images:,}",
        )
    return pending, before


def _do_slices(
    work: _Work, pending: Sequence[int], summary: ManifestSummary, before: RowCounts
) -> _Done:
    counts = RowCounts()
    seconds = dict.fromkeys(STAGES, 0.0)
    done = 0
    if not pending:
        return _Done(slices=0, counts=counts, stage_seconds=seconds)
    with Progress(summary.images, unit="images", done=before.images) as progress:
        for table in _run(work, pending):
            for row in table.to_pylist():
                slice_counts = RowCounts.decode(row["counts"])
                counts += slice_counts
                done += 1
                for stage, spent in json.loads(row["seconds"]).items():
                    seconds[stage] += spent
                failed = before.failed + counts.failed
                progress.advance(slice_counts.images, f"{failed:,} failed")
    if done != len(pending):
        raise PipelineError(
            f"{work.run.output}: {done:,} of {len(pending):,} slices were committed though the "
            "engine ended well; run the same command again"
        )
    return _Done(slices=done, counts=counts, stage_seconds=seconds)


def _run(work: _Work, pending: Sequence[int]) -> Iterator[Any]:
    config, run = work.config, work.run
    features = run.model.features
    stage_config = StageConfig(
        output=run.output,
        fingerprint=run.fingerprint,
        generation=0,
        plans=run.model.plans,
        tasks=config.tasks,
        channels=None if features is None else features.channels,
        predict=config.predict_config(),
        limits=config.image_limits(),
    )
    return run_graph(
        pending,
        work.files,
        stage_config,
        placement=work.placement,
        device=run.device,
        dtype=run.dtype,
        threads=config.threads,
        cpus_per_read=config.cpus_per_read,
    )


def _report(
    config: AnnotateConfig,
    run: _Run,
    summary: ManifestSummary,
    before: RowCounts,
    done: _Done,
    started: datetime,
) -> AnnotateReport:
    """Sum up, and leave the report in the run's `runs` folder."""
    total = before + done.counts
    seconds = (datetime.now(UTC) - started).total_seconds()
    report = AnnotateReport(
        output=run.output,
        fingerprint=run.fingerprint,
        images=total.images,
        failed=total.failed,
        errors=dict(Counter(total.errors).most_common()),
        boxes=total.boxes,
        guesses=total.guesses,
        features=total.features,
        images_read=done.counts.images,
        slices=summary.slices,
        slices_done=done.slices,
        seconds=round(seconds, 3),
        images_per_second=round(done.counts.images / seconds, 2),
        stage_seconds={stage: round(spent, 3) for stage, spent in done.stage_seconds.items()},
        failed_too_many=total.failed > config.max_failed_ratio * total.images,
    )
    name = f"{started.strftime('%Y%m%dT%H%M%S.%f')}Z.json"
    uri = storage.join_uri(run.output, "runs", name)
    scratch = storage.join_uri(run.output, ".tmp")
    storage.write_bytes(uri, json.dumps(asdict(report), indent=2).encode(), scratch=scratch)
    return report
