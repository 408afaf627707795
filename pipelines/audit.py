"""Are committed slices as their manifest lists them? Their receipts tell, and nothing else."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from pipelines.manifest import Manifest
from pipelines.readers import read_slices
from pipelines.receipts import RowCounts, list_receipts, read_receipt
from pipelines.tables import DamagedTableError

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class Audit:
    """What the receipts of some slices say."""

    counts: dict[int, RowCounts]
    """Rows of each slice that is done as its manifest lists it."""
    due: frozenset[int]
    """The others: their receipts are damaged or gone, or of another listing or another slice."""


def audit_receipts(
    manifest: Manifest,
    slices: Iterable[int],
    has_left: Callable[[], bool] = lambda: False,
    *,
    is_quiet: bool = False,
) -> Audit:
    """Hold the receipts of slices against the manifest.

    Args:
        manifest: Of the run.
        slices: Numbers.
        has_left: Asked before each: nobody waits for the answer any more, and it may be anything.
        is_quiet: Whether nothing is said of it if it takes long.

    Returns:
        What they say. A warning names each that is damaged.
    """
    numbers = list(slices)

    def read(number: int) -> RowCounts | None:
        if has_left():
            return None
        place = manifest.place_of(number)
        try:
            receipt = read_receipt(manifest.output, number)
        except DamagedTableError as error:
            logger.warning("%s; the slice counts as not done", error)
            return None
        is_due = receipt.is_due(place.generation, place.part, manifest.summary.generation)
        return None if is_due else receipt.counts

    answers = read_slices(numbers, read, doing=None if is_quiet else "reading receipts")
    found = dict(zip(numbers, answers, strict=True))
    counts = {number: of_slice for number, of_slice in found.items() if of_slice is not None}
    return Audit(counts=counts, due=frozenset(found.keys() - counts.keys()))


def count_done(manifest: Manifest) -> dict[int, RowCounts]:
    """Count the rows of slices that are done as far as their receipts tell; no table is opened.

    Args:
        manifest: Of the run.

    Returns:
        The counts of each; a slice whose receipt is damaged, or gone meanwhile, is left out.
    """
    there = list_receipts(manifest.output) & set(range(manifest.summary.slices))
    return audit_receipts(manifest, sorted(there)).counts
