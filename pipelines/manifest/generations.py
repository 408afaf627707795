"""How is a generation of the manifest written, and which are complete?

Parts first, `complete.json` last: without it a generation does not count, and is written anew. It
names its parts, and a part is named by its content, so that no put ever changes one: of drivers
that list at the same time, one of them long taken for dead, each has its own. Whichever
`complete.json` stands, all that it names stands too; other parts are read by nobody.

In `contested/` are notes of slices of the first generation whose receipt alone is not enough.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines import storage
from pipelines.errors import InputError, StorageError
from pipelines.manifest.entries import ManifestEntry
from pipelines.storage import ObjectInfo
from pipelines.tables import MANIFEST_SCHEMA, UPDATE_SCHEMA, slice_name, slice_number

SLICES_PER_PART: Final = 256
"""Slices in one manifest object, each a row group of its own so that a worker reads its slice
alone."""
COMPLETE: Final = "complete.json"
_DIGEST_BYTES: Final = 8
"""Of a part, in its name: two listings of a run differ in a few parts of a few attempts."""
_COMPLETE_URI: Final = re.compile(rf".*/generation-(\d{{6}})/{COMPLETE}")
_CONTESTED: Final = "contested"
_CONTESTED_URI: Final = re.compile(rf".*/generation-000000/{_CONTESTED}/([^/]+)")
_SUFFIX: Final = ".json"


@dataclass(frozen=True, kw_only=True, slots=True)
class ManifestSummary:
    """What `complete.json` says: the run as it is with this generation."""

    generation: int
    """0 for the first."""
    slices: int
    """Of the run, numbered from 0."""
    images: int
    """Of the run, in all slices."""
    size_bytes: int
    """Encoded bytes of the run's images, as listed."""
    skipped: int
    """Objects and members of tars that were not taken for images; an update does not count those of
    tars that it finds unchanged."""
    touched: int
    """Slices that this generation lists."""
    todo: int
    """Images that this generation does."""
    parts: tuple[str, ...]
    """Names of the objects that this generation consists of; others there are those of another
    attempt at it."""


@dataclass(slots=True)
class GenerationCounts:
    """What a generation adds up to while it is written."""

    parts: list[str] = field(default_factory=list)
    touched: int = 0
    slices: int = 0
    """The highest number and one."""
    images: int = 0
    size_bytes: int = 0
    todo: int = 0

    def add(self, number: int, entries: Sequence[ManifestEntry]) -> None:
        """Count one slice.

        Args:
            number: The slice.
            entries: Its images.
        """
        self.touched += 1
        self.slices = max(self.slices, number + 1)
        self.images += len(entries)
        self.size_bytes += sum(entry.info.size for entry in entries)
        self.todo += sum(entry.todo for entry in entries)


def generation_folder(output: str, generation: int) -> str:
    """Say where a generation of the manifest lies.

    Args:
        output: The run.
        generation: Its number.

    Returns:
        A folder's URI.
    """
    return storage.join_uri(output, "manifest", f"generation-{generation:06d}")


def _name_part(part: int, data: bytes) -> str:
    """Such as `part-00000-5f0d8a2b91c4e677.parquet`: by its number and its content."""
    digest = hashlib.blake2b(data, digest_size=_DIGEST_BYTES).hexdigest()
    return f"part-{part:05d}-{digest}.parquet"


def write_generation(
    output: str,
    generation: int,
    slices: Iterable[tuple[int, Sequence[ManifestEntry]]],
    *,
    sum_up: Callable[[GenerationCounts], ManifestSummary],
    check: Callable[[], None],
) -> ManifestSummary | None:
    """Write a generation if it has any slice, holding one part in memory at a time.

    Args:
        output: The run.
        generation: Its number.
        slices: Numbers and images, ascending within each part; a part ends where a number falls.
        sum_up: Makes the summary of the run, once the slices have ended.
        check: Called before each object is written; raises if another driver has taken over.

    Returns:
        The summary that stands (of two drivers at once the first one's), or None.
    """
    folder = generation_folder(output, generation)
    scratch = storage.join_uri(output, ".tmp")
    counts = GenerationCounts()
    for chunk in _cut_parts(slices):
        for number, entries in chunk:
            counts.add(number, entries)
        data = _encode_part(chunk, generation)
        name = _name_part(len(counts.parts), data)
        check()
        storage.write_bytes(storage.join_uri(folder, name), data, scratch=scratch)
        counts.parts.append(name)
    if not counts.parts:
        return None
    summary = sum_up(counts)
    check()
    complete = json.dumps(asdict(summary), indent=2).encode()
    uri = storage.join_uri(folder, COMPLETE)
    # Of two drivers at once the first to get here decides; the other takes over what it listed.
    # Where a store would take both, the later one does: readers see one whole listing or the other.
    if storage.create_bytes(uri, complete, scratch=scratch):
        return summary
    return _read_complete(uri)


def read_summary(output: str) -> ManifestSummary | None:
    """Read what a run's manifest holds.

    Args:
        output: The run.

    Returns:
        The newest complete generation's summary, or None if there is none.
    """
    generations = list_generations(output)
    if not generations:
        return None
    return _read_complete(storage.join_uri(generation_folder(output, generations[-1]), COMPLETE))


def list_generations(output: str) -> list[int]:
    """Find the complete generations with one listing.

    Args:
        output: The run.

    Returns:
        Their numbers, ascending.
    """
    return list_manifest(output)[0]


def list_manifest(output: str) -> tuple[list[int], frozenset[int]]:
    """Find the complete generations, and the slices that were contested, with one listing.

    Args:
        output: The run.

    Returns:
        Numbers of generations, ascending; numbers of slices.
    """
    folder = storage.join_uri(output, "manifest")
    try:
        uris = [info.uri for info in storage.iter_objects(folder)]
    except InputError:
        return [], frozenset()
    complete = filter(None, map(_COMPLETE_URI.fullmatch, uris))
    notes = filter(None, map(_CONTESTED_URI.fullmatch, uris))
    numbers = (slice_number(match[1], _SUFFIX) for match in notes)
    return (
        sorted(int(match[1]) for match in complete),
        frozenset(number for number in numbers if number is not None),
    )


def note_contested(output: str, number: int) -> None:
    """Note that two attempts at a slice of the first generation have different rows.

    A receipt of one of them may then come to stand beside tables of the other, however late: from
    now on every command looks whether they belong together. The note stays for good.

    Args:
        output: The run.
        number: The slice.
    """
    name = slice_name(number, _SUFFIX)
    uri = storage.join_uri(generation_folder(output, 0), _CONTESTED, name)
    data = json.dumps({"slice": number}).encode()
    storage.write_bytes(uri, data, scratch=storage.join_uri(output, ".tmp"))


def read_generation(output: str, generation: int) -> ManifestSummary:
    """Read the summary of a complete generation.

    Args:
        output: The run.
        generation: Its number.

    Returns:
        The summary.
    """
    return _read_complete(storage.join_uri(generation_folder(output, generation), COMPLETE))


def _read_complete(uri: str) -> ManifestSummary:
    try:
        values = json.loads(storage.read_bytes(uri))
    except FileNotFoundError:
        raise StorageError(f"{uri}: missing; something deleted a part of the run") from None
    except ValueError:
        values = None
    names = {field.name for field in fields(ManifestSummary)}
    if (
        not isinstance(values, dict)
        or values.keys() != names
        or not isinstance(values["parts"], list)
    ):
        raise StorageError(f"{uri}: not a manifest of this program; choose another --output")
    return ManifestSummary(**values | {"parts": tuple(values["parts"])})


def _cut_parts(
    slices: Iterable[tuple[int, Sequence[ManifestEntry]]],
) -> Iterable[list[tuple[int, Sequence[ManifestEntry]]]]:
    """Cut a stream of slices into parts whose numbers ascend."""
    part: list[tuple[int, Sequence[ManifestEntry]]] = []
    for number, entries in slices:
        if part and (len(part) == SLICES_PER_PART or number < part[-1][0]):
            yield part
            part = []
        part.append((number, entries))
    if part:
        yield part


def _encode_part(chunk: Sequence[tuple[int, Sequence[ManifestEntry]]], generation: int) -> bytes:
    schema = UPDATE_SCHEMA if generation else MANIFEST_SCHEMA
    sink = pa.BufferOutputStream()
    # Of a group of 128 images, dictionaries and statistics would be half the time and a third of
    # the bytes (measured); readers look at those of the slices' numbers alone.
    with pq.ParquetWriter(
        sink, schema, compression="zstd", use_dictionary=False, write_statistics=["slice"]
    ) as writer:
        for number, entries in chunk:
            table = _make_table(number, entries, schema)
            # One call, one row group: `read_slice` relies on it.
            writer.write_table(table, row_group_size=len(table))
    return bytes(sink.getvalue().to_pybytes())


def _make_table(number: int, entries: Sequence[ManifestEntry], schema: pa.Schema) -> pa.Table:
    """The rows of one slice, made column by column: a dictionary for each would take ten times."""
    # A slice that has lost all its images keeps one row, without an image: row groups of no rows
    # have no number.
    kept = entries or [ManifestEntry(ObjectInfo(uri=""), todo=False)]
    infos = [entry.info for entry in kept]
    columns: dict[str, list[Any]] = {
        "slice": [number] * len(kept),
        "image": [info.uri for info in infos],
        "size": [info.size for info in infos],
        "etag": [info.etag for info in infos],
        "mtime": [info.mtime for info in infos],
        "offset": [info.offset for info in infos],
        "todo": [entry.todo for entry in kept],
    }
    return pa.Table.from_pydict({name: columns[name] for name in schema.names}, schema)
