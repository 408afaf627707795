"""How far a run is, from its manifest and receipts alone: it never disturbs the run."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Final

from pipelines import storage
from pipelines.audit import count_done
from pipelines.errors import InputError
from pipelines.manifest import open_manifest
from pipelines.receipts import RowCounts
from pipelines.tables import IMAGES, slice_number

RECENT_SECONDS: Final = 600.0
"""The rate is that of the receipts of the last ten minutes."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StatusConfig:
    """Which run."""

    output: str
    """The run's output: a local path or a URI."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Status:
    """How far a run is."""

    output: str
    """The run."""
    slices: int
    """Slices of the manifest."""
    slices_done: int
    """Slices that are committed."""
    images: int
    """Images of the manifest."""
    images_done: int
    """Images with a row."""
    failed: int
    """Of these, images with an error row."""
    errors: dict[str, int]
    """Failed images by reason."""
    boxes: int
    """Rows in `boxes` of the committed slices."""
    guesses: int
    """Rows in `guesses` of the committed slices."""
    features: int
    """Rows in `features` of the committed slices."""
    images_per_second: float | None
    """Rate over the last ten minutes; None if no slice was committed in them."""
    seconds_since_last: float | None
    """Since a slice was committed last; None if none is. Nothing else tells whether somebody is at
    work: a driver that was killed cannot say so."""
    seconds_left: float | None
    """Time to the end at that rate; None if it is unknown, 0 once the run is done."""


def read_status(config: StatusConfig) -> Status:
    """Find out how far a run is.

    Args:
        config: Which run.

    Returns:
        Counts, rate and time left.

    Raises:
        InputError: If there is no run there.
    """
    output = storage.resolve_uri(config.output)
    manifest = open_manifest(output)
    if manifest is None:
        raise InputError(f"{config.output}: no run there, or its manifest is still being written")
    done = count_done(manifest)
    written = {number: at for number, at in _list_receipts(output).items() if number in done}
    counts = sum(done.values(), RowCounts())
    now = time.time()
    rate = _measure_rate(written, counts.images, now)
    left = manifest.summary.images - counts.images
    return Status(
        output=output,
        slices=manifest.summary.slices,
        slices_done=len(done),
        images=manifest.summary.images,
        images_done=counts.images,
        failed=counts.failed,
        errors=dict(counts.errors.most_common()),
        boxes=counts.boxes,
        guesses=counts.guesses,
        features=counts.features,
        images_per_second=rate,
        # The store's clock may be ahead of this one.
        seconds_since_last=max(0.0, now - max(written.values())) if written else None,
        seconds_left=0.0 if left == 0 else left / rate if rate else None,
    )


def _list_receipts(output: str) -> dict[int, float]:
    """Find the receipts and when each was written."""
    folder = storage.join_uri(output, IMAGES)
    try:
        names = {info.uri.rsplit("/", 1)[-1]: info.mtime for info in storage.iter_objects(folder)}
    except InputError:
        return {}
    found = {slice_number(name): mtime for name, mtime in names.items()}
    return {number: mtime for number, mtime in found.items() if number is not None}


def _measure_rate(written: dict[int, float], images: int, now: float) -> float | None:
    """Images per second between the first and the last recent receipt."""
    recent = sorted(mtime for mtime in written.values() if now - mtime <= RECENT_SECONDS)
    if not recent:
        return None
    span = now - recent[0]
    if span <= 0:
        return None
    # The first receipt's own work lies before the span.
    return (len(recent) - 1) * images / len(written) / span or None
