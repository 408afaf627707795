"""The next generation of a run's manifest: the slices that an update or a retry touches."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from pipelines.comparison import Changes, Comparison
from pipelines.manifest import (
    GenerationCounts,
    ManifestEntry,
    ManifestSummary,
    cut_slices,
    write_generation,
)
from pipelines.storage import ObjectInfo


def iter_touched(
    comparison: Comparison,
    listing: Iterable[ObjectInfo] | None,
    *,
    slice_size: int,
    slice_bytes: int,
) -> Iterator[tuple[int, list[ManifestEntry]]]:
    """Compare, and go through the slices of the next generation.

    Args:
        comparison: Of the run's manifest; used up.
        listing: The images as they are now, see `Comparison.take_listing`; None to retry failed
            ones alone.
        slice_size: Most images in a new slice.
        slice_bytes: Most encoded bytes in a new slice, as listed.

    Yields:
        Number and images of each slice: first the new ones, then those that change.
    """
    if listing is None:
        comparison.take_store()
    else:
        added = comparison.take_listing(listing)
        new = cut_slices(added, slice_size=slice_size, slice_bytes=slice_bytes)
        yield from enumerate(new, start=comparison.manifest.summary.slices)
    yield from comparison.touched_slices()


def sum_up_update(
    comparison: Comparison, counts: GenerationCounts, skipped: int
) -> ManifestSummary:
    """Describe a run as it is with its next generation.

    Args:
        comparison: Whose touched slices have ended.
        counts: Of these.
        skipped: Objects that were not taken for images.

    Returns:
        The run.
    """
    before, changes = comparison.manifest.summary, comparison.count()
    return ManifestSummary(
        generation=before.generation + 1,
        slices=max(before.slices, counts.slices),
        images=before.images + changes.added - changes.vanished,
        size_bytes=before.size_bytes + counts.size_bytes - comparison.old_size_bytes,
        skipped=skipped,
        touched=counts.touched,
        todo=counts.todo,
        parts=tuple(counts.parts),
    )


def write_update(
    comparison: Comparison,
    listing: Iterable[ObjectInfo] | None,
    *,
    slice_size: int,
    slice_bytes: int,
    count_skipped: Callable[[], int],
    check: Callable[[], None],
) -> Changes | None:
    """Compare, and write the next generation if there is work.

    Args:
        comparison: Of the run's manifest, all of it committed; used up.
        listing: The images as they are now, see `Comparison.take_listing`; None to retry failed
            ones alone.
        slice_size: Most images in a new slice.
        slice_bytes: Most encoded bytes in a new slice, as listed.
        count_skipped: Asked once the listing has ended.
        check: Called before each object is written; raises if another driver has taken over.

    Returns:
        What changed; nothing was written if it is nothing. None if another driver's listing came to
        stand as this generation, which knows nothing of it.
    """
    before, own = comparison.manifest.summary, None

    def sum_up(counts: GenerationCounts) -> ManifestSummary:
        nonlocal own
        own = sum_up_update(
            comparison, counts, before.skipped if listing is None else count_skipped()
        )
        return own

    touched = iter_touched(comparison, listing, slice_size=slice_size, slice_bytes=slice_bytes)
    standing = write_generation(
        comparison.manifest.output, before.generation + 1, touched, sum_up=sum_up, check=check
    )
    return comparison.count() if standing == own else None
