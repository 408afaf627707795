"""Which objects are a run's images: a prefix, a glob, a list, or tars; streamed in a fixed order.

A tar is opened where it is named: by itself, by a glob that ends in `.tar`, or in a list. Below a
prefix, and in an S3 Inventory, it is an object like others: a bucket may hold terabytes of backups.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from types import MappingProxyType

from pipelines import storage
from pipelines.errors import InputError
from pipelines.lists import is_inventory, is_list, iter_inventory, iter_list, refuse_changes
from pipelines.once import Names, take_once
from pipelines.storage import ObjectInfo
from pipelines.tars import TarIndex, is_compressed, is_tar, read_ahead, refuse_compressed

_MOST_NAMED = 5
"""Of what is refused for the same reason; the rest is counted."""


@dataclass(slots=True)
class _Refused:
    """What a selection met that cannot be done: all of it is told at once, not one at a time."""

    kind: str
    """What is wrong with them, in words."""
    count: int = 0
    first: list[str] = field(default_factory=list)
    reason: str = ""

    def add(self, name: str, reason: str = "") -> None:
        """Count one more."""
        self.count += 1
        self.reason = self.reason or reason
        if len(self.first) < _MOST_NAMED:
            self.first.append(name)

    def describe(self) -> str:
        """Name the first ones, and the reason of the very first."""
        more = self.count - len(self.first)
        names = ", ".join(self.first) + (f" and {more:,} more" if more else "")
        which = "the first: " if self.count > 1 else ""
        reason = f" ({which}{self.reason})" if self.reason else ""
        return f"{self.kind}, {self.count:,} in all: {names}{reason}"


@dataclass(slots=True)
class SelectionCounts:
    """What a selection met; complete once its iterator has ended."""

    skipped: int = 0
    """Objects that are not images by their name, folder keys, and such members of tars; but not
    those of tars that are known."""
    tars: int = 0
    """Tars among the skipped objects."""


def select_images(
    images: str,
    *,
    output: str,
    suffixes: Sequence[str],
    counts: SelectionCounts,
    known_tars: Mapping[str, str] = MappingProxyType({}),
    limit: int | None = None,
) -> Iterator[ObjectInfo]:
    """Stream the images of a run; what is wrong with tars and lists is told at the end, at once.

    Args:
        images: A folder, a glob, a list of URIs, or a tar; resolved.
        output: The run's own output, left out where it lies inside.
        suffixes: Endings of images' names, matched in any case. A list is taken as it is, but for
            an S3 Inventory, which is a listing.
        counts: Counts what is left out.
        known_tars: Etags by URI. A tar of that version is given itself, in place of its images.
        limit: Most images, what follows is not looked at; None for all.

    Yields:
        Images, each once, in the store's order or the list's; those of a tar in the tar's.

    Raises:
        InputError: If the bucket, folder, list or tar is missing, the list holds a URI twice or
            changes while it is read, the images lie inside the output, or a tar is damaged or cut
            off.
    """
    tars = _Refused("tars that cannot be read to their end, for none is left out in silence")
    twins = _Refused(f"list {images}: entries that are in it twice")
    refused = (tars, twins)
    found = _select(images, output, suffixes, counts, known_tars, refused)
    with refuse_changes(images) if is_list(images) else nullcontext():
        yield from itertools.islice(found, limit)
    told = "; ".join(of.describe() for of in refused if of.count)
    if told:
        raise InputError(f"{told}; mend them, or name the others in a list")


def _select(
    images: str,
    output: str,
    suffixes: Sequence[str],
    counts: SelectionCounts,
    known_tars: Mapping[str, str],
    refused: tuple[_Refused, _Refused],
) -> Iterator[ObjectInfo]:
    damaged, twins = refused
    endings = tuple(suffix.lower() for suffix in suffixes)
    inside_output = output.rstrip("/") + "/"
    if is_list(images):
        if not is_inventory(images):
            found = _leave_twins(_check_entries(images), twins)
            yield from _open_tars(found, endings, counts, known_tars, damaged)
            return
        found = _leave_twins(iter_inventory(images), twins)
        yield from _take_images(_leave_out(found, inside_output), endings, counts)
        return
    if (images.rstrip("/") + "/").startswith(inside_output):
        raise InputError(f"--images {images} lies inside --output {output}: choose another output")
    # Where a key holds * or [, the folder of that very name comes first.
    is_glob = storage.is_glob(images) and not _is_folder(images)
    found = storage.iter_glob(images) if is_glob else storage.iter_objects(images)
    # A store may break its promise, and a second entry would be a second row.
    outside = take_once(_leave_out(found, inside_output))
    if _names_archive(images, is_glob=is_glob):
        refuse_compressed(images)
        # One tar needs no listing, which https has none of.
        tars = outside if is_glob else [ObjectInfo(uri=images)]
        yield from _open_tars(tars, endings, counts, known_tars, damaged)
        return
    yield from _take_images(outside, endings, counts)


def _leave_out(found: Iterable[ObjectInfo], start: str) -> Iterator[ObjectInfo]:
    return (info for info in found if not info.uri.startswith(start))


def _take_images(
    found: Iterable[ObjectInfo], endings: tuple[str, ...], counts: SelectionCounts
) -> Iterator[ObjectInfo]:
    """Give the images of a listing, and count the rest."""
    for info in found:
        if info.is_folder_key or not info.uri.lower().endswith(endings):
            counts.skipped += 1
            counts.tars += is_tar(info.uri)
            continue
        yield info


def _open_tars(
    found: Iterable[ObjectInfo],
    endings: tuple[str, ...],
    counts: SelectionCounts,
    known_tars: Mapping[str, str],
    damaged: _Refused,
) -> Iterator[ObjectInfo]:
    """Give the images of tars in place of these."""
    for are_tars, group in itertools.groupby(found, key=lambda info: is_tar(info.uri)):
        if not are_tars:
            yield from group
            continue
        tars = (
            TarIndex(info, suffixes=endings, known_etag=known_tars.get(info.uri, ""))
            for info in group
        )
        for tar in read_ahead(tars):
            try:
                yield from tar
            except InputError as error:
                damaged.add(tar.uri, str(error).removeprefix(f"{tar.uri}: "))
            counts.skipped += tar.skipped


def _names_archive(images: str, *, is_glob: bool) -> bool:
    """Say whether tars are named, packed or plain, and no folder that is called like one."""
    if not (is_tar(images) or is_compressed(images)):
        return False
    return is_glob or storage.find_object(images) is not None


def _is_folder(uri: str) -> bool:
    try:
        return next(storage.iter_objects(uri), None) is not None
    except InputError:
        return False


def _check_entries(uri: str) -> Iterator[tuple[int, ObjectInfo]]:
    """The entries of a list, but for what none may name.

    Raises:
        InputError: If one does.
    """
    for number, info in iter_list(uri):
        if "?" in info.uri and not storage.is_local(info.uri):
            raise InputError(f"list {uri}, entry {number}: has a query string; give plain URIs")
        if storage.is_local(info.uri) and not storage.is_local(uri):
            raise InputError(
                f"list {uri}, entry {number}: a local path in a list from a remote store; "
                "give URIs of the store"
            )
        refuse_compressed(info.uri)
        if storage.split_member(info.uri) is not None:
            raise InputError(
                f"list {uri}, entry {number}: {info.uri} is a member of a tar; list the tar"
            )
        # A tar is opened, so that what a list says of its version is not needed, and may be old.
        yield number, ObjectInfo(uri=info.uri) if is_tar(info.uri) else info


def _leave_twins(
    entries: Iterable[tuple[int, ObjectInfo]], twins: _Refused
) -> Iterator[ObjectInfo]:
    """Pass on what is named for the first time, and note the rest."""
    seen = Names()
    for number, info in entries:
        if info.uri in seen:
            twins.add(f"entry {number} ({info.uri})")
            continue
        seen.add(info.uri)
        yield info
