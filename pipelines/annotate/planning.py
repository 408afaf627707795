"""Which slices are to be done: the generations of the manifest, and what is left of them."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Generator, Iterator, Mapping, Set
from concurrent.futures import Future
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass
from itertools import chain
from types import MappingProxyType
from typing import Final

from pipelines import receipts, storage
from pipelines.annotate.auditor import Auditor
from pipelines.annotate.config import AnnotateConfig
from pipelines.audit import Audit
from pipelines.comparison import Changes, Comparison
from pipelines.errors import ImageReason, InputError, PipelineError
from pipelines.lists import is_list
from pipelines.manifest import (
    GenerationCounts,
    Manifest,
    ManifestSummary,
    SlicePlace,
    cut_slices,
    open_manifest,
    write_generation,
)
from pipelines.progress import Progress, follow
from pipelines.receipts import RowCounts
from pipelines.selection import SelectionCounts, select_images
from pipelines.storage import ObjectInfo
from pipelines.update import write_update
from pipelines.wording import tell_count

logger = logging.getLogger(__name__)

_DISPATCH_SEED: Final = 2013
"""Of the fixed order in which slices are dispatched, so that no prefix of a bucket is hammered."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Listing:
    """A run's images as they are listed now."""

    images: Iterator[ObjectInfo]
    """In the store's order or the list's."""
    counts: SelectionCounts
    """What was left out; complete once the iterator has ended."""


def list_images(
    config: AnnotateConfig, output: str, known_tars: Mapping[str, str] = MappingProxyType({})
) -> Listing:
    """List the images of a run; nothing is read before they are iterated.

    Args:
        config: What the user said.
        output: The run, which is left out.
        known_tars: Etags of tars that are given in place of their members if they have not changed.

    Returns:
        The images.
    """
    counts = SelectionCounts()
    found = select_images(
        storage.resolve_uri(config.images),
        output=output,
        suffixes=config.suffixes,
        counts=counts,
        # A limit counts members.
        known_tars=known_tars if config.limit is None else {},
        limit=config.limit,
    )
    return Listing(images=found, counts=counts)


def follow_listing(listing: Listing, expected: int | None = None) -> closing[Generator[ObjectInfo]]:
    """Show how far a listing is, which may take long.

    Args:
        listing: Not yet iterated.
        expected: About how many images it has; None if nobody knows.

    Returns:
        A context: the images.
    """
    return closing(follow(listing.images, total=expected, unit="images", doing="listing"))


def peek_images(
    config: AnnotateConfig, output: str, known_tars: Mapping[str, str] = MappingProxyType({})
) -> Listing:
    """List the images of a run, and make sure that there is one before anything is written.

    Args:
        config: What the user said.
        output: The run.
        known_tars: As for `list_images`.

    Returns:
        The images, all of them.

    Raises:
        InputError: If there is none.
    """
    listing = list_images(config, output, known_tars)
    # Behind millions of other objects it may be long in coming.
    with Progress(None, unit="images", doing="listing", at_once=False):
        first = next(listing.images, None)
    if first is None:
        raise InputError(describe_nothing(config, listing.counts))
    return Listing(images=chain([first], listing.images), counts=listing.counts)


def describe_nothing(config: AnnotateConfig, counts: SelectionCounts) -> str:
    """Say why there is nothing to do.

    Args:
        config: What the user said.
        counts: What was left out of a listing that has ended.

    Returns:
        The message.
    """
    folder = config.images.rstrip("/")
    others = tell_count(counts.skipped, "other object")
    hint = f"; for the images in tars name these: {folder}/*.tar" if counts.tars else ""
    return (
        f"--images {config.images}: no image there ({others}); "
        f"expected names that end in {' '.join(config.suffixes)}{hint}"
    )


def write_first_generation(
    config: AnnotateConfig, output: str, listing: Listing, check: Callable[[], None]
) -> Manifest:
    """Cut the images into slices and write them down.

    Args:
        config: How large a slice is.
        output: The run.
        listing: The images.
        check: Raises if another driver has taken over.

    Returns:
        The manifest that stands.

    Raises:
        PipelineError: If it vanished while it was written.
    """

    def sum_up(counts: GenerationCounts) -> ManifestSummary:
        return ManifestSummary(
            generation=0,
            slices=counts.touched,
            images=counts.images,
            size_bytes=counts.size_bytes,
            skipped=listing.counts.skipped,
            touched=counts.touched,
            todo=counts.todo,
            parts=tuple(counts.parts),
        )

    with follow_listing(listing) as images:
        slices = cut_slices(images, slice_size=config.slice_size, slice_bytes=config.slice_bytes)
        write_generation(output, 0, enumerate(slices), sum_up=sum_up, check=check)
    manifest = open_manifest(output)
    if manifest is None:
        raise PipelineError(f"{output}: its manifest vanished while it was written; start again")
    summary = manifest.summary
    logger.info(
        "manifest: %s in %s; %s left out",
        tell_count(summary.images, "image"),
        tell_count(summary.slices, "slice"),
        tell_count(summary.skipped, "other object was", "other objects were"),
    )
    return manifest


def compare(
    config: AnnotateConfig, manifest: Manifest, counts: Mapping[int, RowCounts]
) -> tuple[Comparison, Listing | None]:
    """Hold the images against a run's manifest, as `--update` and `--retry-failed` ask.

    Args:
        config: What the user said.
        manifest: Of the run.
        counts: Rows of the slices whose failed images are known.

    Returns:
        The comparison, and what it is to be told of: the images as they are listed now, or None to
        retry failed ones alone.

    Raises:
        InputError: If no image is there any more.
    """
    failed = receipts.list_failed(manifest.output, counts) if config.retry_failed else {}
    changed = receipts.list_failed(manifest.output, counts, ImageReason.CHANGED)
    comparison = Comparison(
        manifest,
        failed,
        None if config.update else sorted(failed),
        is_list=is_list(storage.resolve_uri(config.images)),
        # Of a list the versions may be older than the objects, and stay so.
        doubted=set(chain.from_iterable(changed.values())) if config.update else (),
    )
    # An empty listing is a bucket that is not mounted rather than one whose images are all gone.
    listing = peek_images(config, manifest.output, comparison.tars) if config.update else None
    return comparison, listing


def follow_comparison(
    comparison: Comparison, listing: Listing | None
) -> AbstractContextManager[Iterator[ObjectInfo] | None]:
    """Show how far a listing is that is compared, if there is one.

    Args:
        comparison: Made by `compare`.
        listing: Likewise.

    Returns:
        A context: the images.
    """
    # A tar that has not changed is one entry, however many images it holds.
    expected = None if comparison.tars else comparison.manifest.summary.images
    return nullcontext() if listing is None else follow_listing(listing, expected)


def write_next_generation(
    config: AnnotateConfig,
    manifest: Manifest,
    counts: Mapping[int, RowCounts],
    check: Callable[[], None],
) -> Changes | None:
    """Look again, as `--update` and `--retry-failed` ask, and write down what there is to do.

    Args:
        config: What the user said.
        manifest: Of the run, all of it committed.
        counts: Rows of every slice.
        check: Raises if another driver has taken over.

    Returns:
        What has changed; None if another driver's listing came to stand, so that it has to be done
        and then looked at again.

    Raises:
        InputError: If no image is there any more.
    """
    comparison, listing = compare(config, manifest, counts)
    with follow_comparison(comparison, listing) as images:
        changes = write_update(
            comparison,
            images,
            slice_size=config.slice_size,
            slice_bytes=config.slice_bytes,
            count_skipped=lambda: 0 if listing is None else listing.counts.skipped,
            check=check,
        )
    if changes is None:
        logger.warning(
            "%s: another driver's listing came to stand; it is done, then the images are looked at "
            "again",
            manifest.output,
        )
        return None
    if config.update:
        logger.info(
            "since the last listing: %s new, %s changed, %s gone",
            *(f"{n:,}" for n in (changes.added, changes.changed, changes.vanished)),
        )
    if config.retry_failed:
        logger.info(
            "failed images to try again: %s%s",
            f"{changes.retried + (0 if config.update else changes.changed):,}",
            "" if config.update else "; what is new or gone is not looked for without --update",
        )
    return changes


def check_counts(manifest: Manifest, counts: Mapping[int, RowCounts]) -> None:
    """Make sure that a run whose slices are all committed has as many rows as images.

    Args:
        manifest: Of the run.
        counts: Rows of every slice.

    Raises:
        PipelineError: If it has not.
    """
    images, listed = sum(of.images for of in counts.values()), manifest.summary.images
    if images != listed:
        raise PipelineError(
            f"{manifest.output}: its receipts count {images:,} images, its manifest lists "
            f"{listed:,}; something changed the run from outside: annotate into another --output"
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Pending:
    """What is left of a run, and the rows of what is not."""

    places: tuple[SlicePlace, ...]
    """Slices to be done, in the order of their dispatch."""
    committed: frozenset[int]
    """The other slices."""
    audit: Future[Audit]
    """What the receipts of the committed slices say, opened beside the work."""


def find_pending(
    manifest: Manifest, known: dict[int, RowCounts], due: Set[int], auditor: Auditor
) -> Pending:
    """Find the slices that are not committed.

    Args:
        manifest: Of the run.
        known: Rows of committed slices, as far as they are known.
        due: Slices that are not, though their receipts are there.
        auditor: Looks at the receipts of the others.

    Returns:
        What is left.
    """
    committed = receipts.find_committed(manifest) - due
    order = list(range(manifest.summary.slices))
    random.Random(_DISPATCH_SEED).shuffle(order)
    places = tuple(manifest.place_of(number) for number in order if number not in committed)
    unknown = sorted(committed - known.keys())
    return Pending(
        places=places,
        committed=frozenset(committed),
        audit=auditor.begin(manifest, unknown, is_beside=bool(places)),
    )
