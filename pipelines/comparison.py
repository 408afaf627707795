"""What has changed since the images of a run were listed?

The old listing is held as digests of names and versions, 33 bytes an image, and the new one is
streamed, so that memory is bounded whatever the names. An image listed without size and etag counts
as unchanged, for nothing tells that it is not; one that had none before, as a link that led
nowhere, has changed once the store lists it with some. A tar that has not changed is one entry of
the new listing: its members are those that the manifest has of it. What a list of URIs says of a
version is a hint, for it may be older than the objects: where it tells of a change, the store
itself is asked.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipelines.digests import NAME_WORDS, digest_infos, digest_names, digest_versions
from pipelines.lookup import look_up_members, look_up_objects
from pipelines.manifest import (
    Manifest,
    ManifestEntry,
    iter_slices,
    iter_tables,
)
from pipelines.progress import Progress, follow
from pipelines.storage import ObjectInfo

_CHUNK: Final = 65_536
"""Images of the new listing, or looked up in the store, that are compared at once."""
_Number = TypeVar("_Number", bound=np.generic)
_VERSION_COLUMNS: Final[dict[str, pa.DataType]] = {
    "place": pa.int64(),
    "size": pa.int64(),
    # Not `string`, which ends at 2 GiB.
    "etag": pa.large_string(),
    "mtime": pa.float64(),
    "offset": pa.int64(),
}
_VERSION_SCHEMA: Final = pa.schema(_VERSION_COLUMNS)


@dataclass(frozen=True, kw_only=True, slots=True)
class Changes:
    """What an update or a retry asks for."""

    added: int = 0
    """Images that are new."""
    changed: int = 0
    """Images with another version than was listed."""
    vanished: int = 0
    """Images that are gone."""
    retried: int = 0
    """Failed images that are done again though they have not changed."""


class _KnownTars:
    """The tars of a manifest: a number for each, and the version that their members are of."""

    def __init__(self) -> None:
        self.etags: dict[str, str] = {}
        self.numbers: dict[str, int] = {}

    def find(self, table: pa.Table) -> NDArray[np.int32]:
        """The tars of some images, by number; -1 for whole objects."""
        found = np.full(len(table), -1, dtype=np.int32)
        members = np.flatnonzero(table["offset"].is_valid())
        columns = (_list(table.take(members), name) for name in ("image", "etag", "mtime"))
        for at, image, etag, mtime in zip(members, *columns, strict=True):
            tar = ObjectInfo(uri=image, offset=0).object_uri
            found[at] = self.numbers.setdefault(tar, len(self.numbers))
            # Of members of two versions one has changed, whatever the tar is now; and of a member
            # that was looked up alone nobody knows what else is in that version.
            if self.etags.setdefault(tar, etag) != etag or not mtime:
                self.etags[tar] = ""
        return found


class Comparison:
    """The images of a run's manifest, compared with a new listing or with the store."""

    def __init__(
        self,
        manifest: Manifest,
        failed: Mapping[int, set[str]],
        slices: Sequence[int] | None,
        *,
        is_list: bool = False,
        doubted: Iterable[str] = (),
    ) -> None:
        """Read the manifest.

        Args:
            manifest: Of the run, as it stands.
            failed: Names of the failed images that are to be done again, by slice.
            slices: Numbers of those that may change; None for all, as a listing needs.
            is_list: Whether the listing is a list of URIs and not the store's own.
            doubted: Images of which the store is asked whatever the listing says: they were not
                as the manifest has them when they were read.
        """
        self.manifest = manifest
        self._failed = failed
        self._is_list = is_list
        self._doubted = doubted
        self._tars = _KnownTars()
        names, versions = [np.zeros((0, NAME_WORDS), np.uint64)], [np.zeros(0, np.uint64)]
        numbers, tars = [np.zeros(0, np.int32)], [np.zeros(0, np.int32)]
        wanted = range(manifest.summary.slices) if slices is None else slices
        with Progress(
            len(wanted), unit="slices", doing="reading the manifest", at_once=False
        ) as progress:
            for places, table in iter_tables(manifest, wanted):
                images, sizes, etags = (_list(table, name) for name in ("image", "size", "etag"))
                names.append(digest_names(images))
                versions.append(digest_versions(sizes, etags, _list(table, "offset")))
                tars.append(self._tars.find(table))
                numbers.append(table["slice"].to_numpy())
                progress.advance(len(places))
        unsorted = _join(names)
        order = np.argsort(unsorted[:, 0])
        self._names = unsorted[order]
        del unsorted
        self._versions = _join(versions)[order]
        self._slices = _join(numbers)[order]
        self._tar_numbers = _join(tars)[order]
        self._seen = np.zeros(len(order), dtype=np.bool_)
        self._found: list[pa.Table] = []
        self._newer = _Versions([])
        self._added = 0
        self.old_size_bytes = 0
        """Encoded bytes that the touched slices had before."""

    @property
    def tars(self) -> Mapping[str, str]:
        """The etag of each tar in the manifest, "" where its members differ in it."""
        return self._tars.etags

    def take_listing(self, images: Iterable[ObjectInfo]) -> Iterator[ObjectInfo]:
        """Compare a new listing, image by image.

        Args:
            images: In the order of the listing; a tar in place of its members if it is in `tars`
                and has not changed.

        Yields:
            The images that are new; the others are remembered.
        """
        unchanged: set[int] = set()
        stream = self._take_tars(images, unchanged)
        while chunk := list(itertools.islice(stream, _CHUNK)):
            places = self._find([info.uri for info in chunk])
            known = np.flatnonzero(places >= 0)
            self._seen[places[known]] = True
            # What a list says of a version that was unknown tells nothing of the object.
            is_compared = self._versions[places[known]] != 0
            compared = known[is_compared] if self._is_list else known
            listed = [chunk[at] for at in compared]
            self._remember(places[compared], self._ask(places[compared], listed))
            self._added += len(chunk) - len(known)
            yield from (chunk[at] for at in np.flatnonzero(places < 0))
        self._seen |= np.isin(self._tar_numbers, np.array(sorted(unchanged), dtype=np.int32))
        failed = self._failed.values() if self._is_list else ()
        self._look_up({*self._doubted, *itertools.chain.from_iterable(failed)})

    def _ask(self, places: NDArray[np.int64], listed: list[ObjectInfo]) -> list[ObjectInfo]:
        """Ask the store for the versions of images that are others in a list than they were."""
        if not self._is_list:
            return listed
        versions = digest_infos(listed)
        is_other = (versions != self._versions[places]) & (versions != 0)
        # The index of a tar is of the store.
        names = [listed[at].uri for at in np.flatnonzero(is_other) if listed[at].offset is None]
        found = {info.uri: info for info in look_up_objects(names)}
        return [found.get(info.uri, info) for info in listed]

    def _take_tars(self, images: Iterable[ObjectInfo], unchanged: set[int]) -> Iterator[ObjectInfo]:
        """Note the tars that have not changed, and pass on all else."""
        for info in images:
            number = self._tars.numbers.get(info.uri)
            if number is None:
                yield info
            else:
                unchanged.add(number)

    def take_store(self) -> None:
        """Look up the failed images alone; all others count as unchanged.

        The other members of a tar that has changed are left to the next update.
        """
        self._seen[:] = True
        self._look_up(set(itertools.chain.from_iterable(self._failed.values())))

    def _look_up(self, wanted: Set[str]) -> None:
        """Ask the store for the versions of images, but of those that are known to have changed."""
        names = sorted(wanted)
        places = self._find(names)
        newer = [table["place"].to_numpy() for table in self._found]
        is_open = (
            (places >= 0) & self._seen[places] & ~np.isin(places, np.concatenate([[], *newer]))
        )
        is_member = self._tar_numbers[places] >= 0
        objects = itertools.compress(names, is_open & ~is_member)
        members = itertools.compress(names, is_open & is_member)
        found = itertools.chain(look_up_objects(objects), look_up_members(members, self.tars))
        asked = follow(found, total=int(is_open.sum()), unit="images", doing="asking the store")
        while chunk := list(itertools.islice(asked, _CHUNK)):
            self._remember(self._find([info.uri for info in chunk]), chunk)

    def touched_slices(self) -> Iterator[tuple[int, list[ManifestEntry]]]:
        """Go through the slices that change; asked once the listing has ended.

        Yields:
            Number and images of each: the vanished ones left out, the new versions in place.
        """
        self._newer = _Versions(self._found)
        changed = self._slices[self._newer.places]
        vanished = self._slices[~self._seen]
        failed = np.fromiter(self._failed, dtype=np.int32)
        numbers = np.unique(np.concatenate([changed, vanished, failed]))
        for place, entries in iter_slices(self.manifest, numbers.tolist()):
            self.old_size_bytes += sum(entry.info.size for entry in entries)
            yield place.number, self._renew(entries, self._failed.get(place.number, set()))

    def count(self) -> Changes:
        """Sum up; asked once the touched slices have ended.

        Returns:
            What there is to do.
        """
        failed = self._find([name for names in self._failed.values() for name in names])
        newer = self._newer.places
        # Of an image whose version a list did not tell nobody can say that it has changed.
        changed = newer[self._versions[newer] != 0] if self._is_list else newer
        retried = np.setdiff1d(failed[self._seen[failed]], changed)
        return Changes(
            added=self._added,
            changed=len(np.setdiff1d(newer, retried)),
            vanished=int((~self._seen).sum()),
            retried=len(retried),
        )

    def _find(self, names: Sequence[str]) -> NDArray[np.int64]:
        """Where known images stand; -1 for the others."""
        wanted = digest_names(names)
        found = np.full(len(wanted), -1, dtype=np.int64)
        left = np.arange(len(wanted))
        at = np.searchsorted(self._names[:, 0], wanted[:, 0])
        # Names of equal first words stand side by side; that there is a second one is rare.
        while len(left := left[at < len(self._names)]):
            at = at[at < len(self._names)]
            same = self._names[at] == wanted[left]
            is_found = same.all(axis=1)
            found[left[is_found]] = at[is_found]
            is_open = same[:, 0] & ~is_found
            left, at = left[is_open], at[is_open] + 1
        return found

    def _remember(self, places: NDArray[np.int64], infos: Sequence[ObjectInfo]) -> None:
        """Keep new versions, as Arrow: ten million Python objects would take four gigabytes."""
        sizes, etags = [info.size for info in infos], [info.etag for info in infos]
        offsets = [info.offset for info in infos]
        versions = digest_infos(infos)
        is_newer = (versions != self._versions[places]) & (versions != 0)
        mtimes = [info.mtime for info in infos]
        table = pa.Table.from_pydict(
            {"place": places, "size": sizes, "etag": etags, "mtime": mtimes, "offset": offsets},
            _VERSION_SCHEMA,
        )
        self._found.append(table.filter(pa.array(is_newer)))

    def _renew(self, entries: Sequence[ManifestEntry], failed: Set[str]) -> list[ManifestEntry]:
        """The images of a slice as they are now."""
        infos = [entry.info for entry in entries]
        places = self._find([info.uri for info in infos])
        changed = self._newer.find(places, infos)
        return [
            ManifestEntry(changed.get(at, info), todo=at in changed or info.uri in failed)
            for at, info in enumerate(infos)
            if self._seen[places[at]]
        ]


class _Versions:
    """New versions of known images, by their places."""

    def __init__(self, found: list[pa.Table]) -> None:
        """Join what was found; the list is emptied, for it is as large as the whole."""
        joined = pa.concat_tables([_VERSION_SCHEMA.empty_table(), *found])
        found.clear()
        places = joined["place"].to_numpy()
        # Sorting the rows themselves would hold them three times.
        self._order = np.argsort(places)
        self.places = places[self._order]
        self._rows = joined.drop_columns("place").combine_chunks()

    def find(self, places: NDArray[np.int64], infos: Sequence[ObjectInfo]) -> dict[int, ObjectInfo]:
        """The changed ones of these images, by their position among them."""
        at = np.searchsorted(self.places, places)
        is_inside = at < len(self.places)
        hits = np.flatnonzero(is_inside)[self.places[at[is_inside]] == places[is_inside]]
        rows = self._rows.take(pa.array(self._order[at[hits]])).to_pylist()
        return {
            hit: ObjectInfo(uri=infos[hit].uri, **row)
            for hit, row in zip(hits.tolist(), rows, strict=True)
        }


def _join(pieces: list[NDArray[_Number]]) -> NDArray[_Number]:
    """Join arrays; the pieces are emptied, for they are as large as the whole."""
    joined = np.concatenate(pieces)
    pieces.clear()
    return joined


def _list(table: pa.Table, column: str) -> list[Any]:
    return table[column].to_pylist()
