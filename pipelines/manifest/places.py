"""Where does the manifest of each slice stand, and what does it say?"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipelines import storage
from pipelines.errors import StorageError
from pipelines.manifest.entries import ManifestEntry
from pipelines.manifest.generations import (
    SLICES_PER_PART,
    ManifestSummary,
    generation_folder,
    list_manifest,
    read_generation,
)
from pipelines.storage import ObjectInfo
from pipelines.tables import MANIFEST_SCHEMA

_INFO_COLUMNS: Final = ("image", "size", "etag", "mtime", "offset")


class SlicePlace(NamedTuple):
    """Where a slice's images are listed."""

    number: int
    """The slice."""
    generation: int
    """The newest complete one that lists it; its receipt must be of the same."""
    part: str
    """Name of the object of that generation."""
    group: int
    """Row group of that object."""
    previous: int = 0
    """The generation before that lists it, of which rows are kept; 0 if none does."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Manifest:
    """A run's manifest as it stands; small, whatever the number of images."""

    output: str
    """The run."""
    summary: ManifestSummary
    """Of the newest complete generation."""
    first_parts: Sequence[str]
    """Names of the objects of the first generation."""
    touched: Mapping[int, SlicePlace]
    """Slices that a later generation than the first one lists."""
    contested: frozenset[int] = frozenset()
    """Slices of the first generation of which two attempts came to different rows."""

    @property
    def places(self) -> Iterator[SlicePlace]:
        """Every slice of the run, by number."""
        return (self.place_of(number) for number in range(self.summary.slices))

    def place_of(self, number: int) -> SlicePlace:
        """Look a slice up.

        Args:
            number: From 0 to `summary.slices` - 1.

        Returns:
            Its place.
        """
        if number in self.touched:
            return self.touched[number]
        part, group = divmod(number, SLICES_PER_PART)
        return SlicePlace(number, 0, self.first_parts[part], group)


def open_manifest(output: str) -> Manifest | None:
    """Find out which generations there are, and which slices the later ones list.

    Args:
        output: The run.

    Returns:
        The manifest, or None if no generation is complete.
    """
    generations, contested = list_manifest(output)
    if not generations:
        return None
    touched: dict[int, SlicePlace] = {}
    first, *later = (read_generation(output, generation) for generation in generations)
    for summary in later:
        generation = summary.generation
        for part in summary.parts:
            with _open_part(_part_uri(output, generation, part)) as file:
                for group, number in enumerate(_slice_numbers(file)):
                    previous = touched[number].generation if number in touched else 0
                    touched[number] = SlicePlace(number, generation, part, group, previous)
    return Manifest(
        output=output,
        summary=(first, *later)[-1],
        first_parts=first.parts,
        touched=touched,
        contested=contested,
    )


def read_slice(output: str, place: SlicePlace) -> list[ManifestEntry]:
    """Read the images of one slice.

    Args:
        output: The run.
        place: Where they are listed.

    Returns:
        Its images, sorted by URI; none if it has lost them all.
    """
    return _decode(_read_groups(output, [place]))


def iter_slices(
    manifest: Manifest, wanted: Iterable[int] | None = None
) -> Iterator[tuple[SlicePlace, list[ManifestEntry]]]:
    """Read the images of many slices, opening each part once.

    Args:
        manifest: Of the run.
        wanted: Numbers of slices; None for all.

    Yields:
        Place and images of each, by generation, part and row group.
    """
    for places, table in iter_tables(manifest, wanted):
        # Numbers ascend within a part.
        numbers = table["slice"].to_numpy()
        asked = [place.number for place in places]
        starts = np.searchsorted(numbers, asked).tolist()
        ends = np.searchsorted(numbers, asked, side="right").tolist()
        for place, start, end in zip(places, starts, ends, strict=True):
            yield place, _decode(table.slice(start, end - start))


def iter_tables(
    manifest: Manifest, wanted: Iterable[int] | None = None
) -> Iterator[tuple[list[SlicePlace], pa.Table]]:
    """Read the images of many slices as tables, one for each part: no Python object an image.

    Args:
        manifest: Of the run.
        wanted: Numbers of slices; None for all.

    Yields:
        The places of a part, and the images there: columns of `MANIFEST_SCHEMA`, and in a later
        generation `todo`. A slice that has lost all its images has no row.
    """
    numbers = range(manifest.summary.slices) if wanted is None else wanted
    places = sorted((manifest.place_of(number) for number in numbers), key=lambda at: at[1:])
    for _, group in itertools.groupby(places, key=lambda at: at[1:3]):
        of_part = list(group)
        yield of_part, _read_groups(manifest.output, of_part)


def _read_groups(output: str, places: Sequence[SlicePlace]) -> pa.Table:
    """Read some row groups of one part.

    Raises:
        StorageError: If they are of other slices.
    """
    uri = _part_uri(output, places[0].generation, places[0].part)
    with _open_part(uri) as part:
        # Threads cost more than such small groups: three times the CPU time (measured).
        table = part.read_row_groups([place.group for place in places], use_threads=False)
    if pc.unique(table["slice"]).to_pylist() != [place.number for place in places]:
        raise StorageError(f"{uri}: lists other slices than it did; something wrote over it")
    return table.filter(pc.not_equal(table["image"], pa.scalar("")))


@contextmanager
def _open_part(uri: str) -> Iterator[pq.ParquetFile]:
    """Open a part of a manifest.

    Raises:
        StorageError: If it is missing or damaged.
    """
    try:
        with storage.open_range_reader(uri) as file:
            part = pq.ParquetFile(file)
            missing = set(MANIFEST_SCHEMA.names) - set(part.schema_arrow.names)
            if missing:
                raise StorageError(f"{uri}: has no column {', '.join(missing)}; start a new run")
            yield part
    except FileNotFoundError:
        raise StorageError(f"{uri}: missing; something deleted a part of the run") from None
    except (pa.ArrowException, OSError) as error:
        raise StorageError(f"{uri}: not a part of a manifest ({error})") from error


def _part_uri(output: str, generation: int, part: str) -> str:
    return storage.join_uri(generation_folder(output, generation), part)


def _slice_numbers(part: pq.ParquetFile) -> Iterator[int]:
    """The slice of every row group, from the footer alone."""
    column = part.schema_arrow.get_field_index("slice")
    for group in range(part.metadata.num_row_groups):
        statistics: Any = part.metadata.row_group(group).column(column).statistics
        yield statistics.min


def _decode(table: pa.Table) -> list[ManifestEntry]:
    columns = [table[name].to_pylist() for name in _INFO_COLUMNS]
    todo = table["todo"].to_pylist() if "todo" in table.column_names else itertools.repeat(True)
    return [
        ManifestEntry(
            ObjectInfo(uri=uri, size=size, etag=etag, mtime=mtime, offset=offset), todo=is_todo
        )
        for uri, size, etag, mtime, offset, is_todo in zip(*columns, todo, strict=False)
    ]
