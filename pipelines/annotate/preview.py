"""What would a command read, and what would the run be afterwards? Found out without writing."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from pipelines.annotate.config import AnnotateConfig
from pipelines.annotate.kept import find_kept
from pipelines.annotate.leftovers import refuse_unlisted_rows
from pipelines.annotate.planning import (
    check_counts,
    compare,
    describe_nothing,
    follow_comparison,
    follow_listing,
    list_images,
)
from pipelines.audit import audit_receipts
from pipelines.comparison import Changes
from pipelines.errors import InputError
from pipelines.manifest import (
    GenerationCounts,
    Manifest,
    ManifestEntry,
    ManifestSummary,
    SlicePlace,
    cut_slices,
    iter_slices,
    open_manifest,
)
from pipelines.progress import follow
from pipelines.readers import read_slices
from pipelines.receipts import RowCounts, find_committed
from pipelines.storage import ObjectInfo
from pipelines.update import iter_touched, sum_up_update

_SAMPLE: Final = 8
"""Images that a rate is measured on."""
_BATCH: Final = 256
"""Slices that are held while the rows that they keep are looked at (assumed)."""

_Slice = tuple[SlicePlace, Sequence[ManifestEntry]]
"""Where a slice is listed, and its images."""


@dataclass(slots=True)
class _Todo:
    """Images that would be read; counted slice by slice."""

    images: int = 0
    size_bytes: int = 0
    """Their encoded bytes, as listed."""
    slices: int = 0
    """Slices that would be written, be it only that rows are dropped; one that is finished first
    and then updated counts twice."""
    first: list[ObjectInfo] = field(default_factory=list)
    """A few of the images."""

    def add(self, entries: Sequence[ManifestEntry]) -> None:
        """Count a slice.

        Args:
            entries: Its images.
        """
        infos = [entry.info for entry in entries if entry.todo]
        self.images += len(infos)
        self.size_bytes += sum(info.size for info in infos)
        self.slices += 1
        self.first += infos[: _SAMPLE - len(self.first)]


@dataclass(frozen=True, kw_only=True, slots=True)
class Preview:
    """What a command would do."""

    images: int
    """Images of the run afterwards."""
    size_bytes: int
    """Their encoded bytes, as listed."""
    slices: int
    """Slices that they are cut into."""
    skipped: int
    """Objects that are not images by their name."""
    is_begun: bool
    """Whether there is a run to go on with."""
    changes: Changes | None
    """What `--update` and `--retry-failed` would find; None where neither was asked for, or the
    run has not begun."""
    slices_unfinished: int
    """Slices of the manifest that are not done, all of a run that has not begun; of their images
    nobody knows which fail, so that `--retry-failed` may find more."""
    images_to_read: int
    """Images that are not done, new, changed, or to be tried again."""
    bytes_to_read: int
    """Their encoded bytes, as listed."""
    slices_to_write: int
    """Slices that these are in, and those that lose rows; one that is finished first and then
    updated counts twice."""


def preview(config: AnnotateConfig, output: str) -> tuple[Preview, list[ObjectInfo]]:
    """Find out what a command would do, whatever else is at work on the run.

    Args:
        config: What the user said.
        output: The run, resolved.

    Returns:
        What there is to do, and a few of the images that would be read.

    Raises:
        InputError: If there is no image, or rows without a manifest.
        PipelineError: If the run has not as many rows as images.
    """
    manifest = open_manifest(output)
    if manifest is None:
        refuse_unlisted_rows(output)
        return _preview_first(config, output)
    return _preview_rest(config, manifest)


def _preview_first(config: AnnotateConfig, output: str) -> tuple[Preview, list[ObjectInfo]]:
    listing, todo = list_images(config, output), _Todo()
    with follow_listing(listing) as images:
        for entries in cut_slices(
            images, slice_size=config.slice_size, slice_bytes=config.slice_bytes
        ):
            todo.add(entries)
    if not todo.images:
        raise InputError(describe_nothing(config, listing.counts))
    found = Preview(
        images=todo.images,
        size_bytes=todo.size_bytes,
        slices=todo.slices,
        skipped=listing.counts.skipped,
        is_begun=False,
        changes=None,
        slices_unfinished=todo.slices,
        images_to_read=todo.images,
        bytes_to_read=todo.size_bytes,
        slices_to_write=todo.slices,
    )
    return found, todo.first


def _preview_rest(config: AnnotateConfig, manifest: Manifest) -> tuple[Preview, list[ObjectInfo]]:
    todo = _Todo()
    done = audit_receipts(manifest, sorted(find_committed(manifest))).counts
    left = set(range(manifest.summary.slices)) - done.keys()
    if not left:
        check_counts(manifest, done)
    slices = iter_slices(manifest, left)
    _count_slices(
        manifest.output,
        follow(slices, total=len(left), unit="slices", doing="reading the manifest"),
        todo,
    )
    summary, changes, unfinished = manifest.summary, None, todo.slices
    if config.update or config.retry_failed:
        summary, changes = _preview_update(config, manifest, done, todo)
    found = Preview(
        images=summary.images,
        size_bytes=summary.size_bytes,
        slices=summary.slices,
        skipped=summary.skipped,
        is_begun=True,
        changes=changes,
        slices_unfinished=unfinished,
        images_to_read=todo.images,
        bytes_to_read=todo.size_bytes,
        slices_to_write=todo.slices,
    )
    return found, todo.first


def _preview_update(
    config: AnnotateConfig, manifest: Manifest, done: Mapping[int, RowCounts], todo: _Todo
) -> tuple[ManifestSummary, Changes]:
    comparison, listing = compare(config, manifest, done)
    counts = GenerationCounts()

    def iter_done(
        images: Iterable[ObjectInfo] | None,
    ) -> Iterator[_Slice]:
        """Those of the touched slices that have rows; the others are counted here."""
        for number, entries in iter_touched(
            comparison, images, slice_size=config.slice_size, slice_bytes=config.slice_bytes
        ):
            counts.add(number, entries)
            if number in done:
                yield _place_next(manifest, number), entries
            else:
                todo.add(entries)

    with follow_comparison(comparison, listing) as images:
        _count_slices(manifest.output, iter_done(images), todo)
    skipped = manifest.summary.skipped if listing is None else listing.counts.skipped
    return sum_up_update(comparison, counts, skipped), comparison.count()


def _place_next(manifest: Manifest, number: int) -> SlicePlace:
    """Where the next generation would list a slice."""
    previous = manifest.place_of(number).generation
    return SlicePlace(number, manifest.summary.generation + 1, part="", group=0, previous=previous)


def _count_slices(output: str, slices: Iterable[_Slice], todo: _Todo) -> None:
    """Count slices as they would be done: with all images where old rows cannot be kept."""

    def read(batch: Mapping[int, _Slice], number: int) -> Sequence[ManifestEntry]:
        return find_kept(output, *batch[number])[0]

    left = iter(slices)
    while batch := {place.number: (place, of) for place, of in itertools.islice(left, _BATCH)}:
        for entries in read_slices(list(batch), partial(read, batch), doing=None):
            todo.add(entries)
