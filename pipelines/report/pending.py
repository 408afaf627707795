"""Is the run finished? How many slices have no receipt, or that of an older update?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pipelines.manifest import open_manifest


@dataclass(frozen=True, kw_only=True, slots=True)
class PendingSlices:
    """What is still to be done, counted."""

    n_planned: int | None
    """Slices of the manifest; None without a complete manifest."""
    n_pending: int
    """Those that are not committed."""
    n_ahead: int
    """Slices with boxes and without a receipt: in flight, or left so by a killed run."""

    @property
    def is_finished(self) -> bool | None:
        """Whether all is committed; None where no manifest says what all is."""
        if self.n_pending or self.n_ahead:
            return False
        return None if self.n_planned is None else True


def count_pending(output: str, receipts: Mapping[int, int], n_ahead: int) -> PendingSlices:
    """Compare the manifest with the receipts.

    Args:
        output: URI of the run.
        receipts: by the number of each slice that has one, the generation that it is of.
        n_ahead: see `PendingSlices.n_ahead`.

    Returns:
        The slices, counted.

    Raises:
        StorageError: the manifest cannot be read.
    """
    manifest = open_manifest(output)
    if manifest is None:
        return PendingSlices(n_planned=None, n_pending=0, n_ahead=n_ahead)
    pending = sum(receipts.get(place.number, -1) < place.generation for place in manifest.places)
    return PendingSlices(n_planned=manifest.summary.slices, n_pending=pending, n_ahead=n_ahead)
