"""The images of a run, cut into slices and written down before any work starts.

A slice's number decides the names of all its outputs, so the manifest is written once: parts first,
`complete.json` last. A generation without it is written anew.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines import storage
from pipelines.storage import ObjectInfo
from pipelines.tables import MANIFEST_SCHEMA

SLICES_PER_PART: Final = 256
"""Slices in one manifest object, each a row group of its own so that a worker reads its slice
alone."""
COMPLETE: Final = "complete.json"


@dataclass(frozen=True, kw_only=True, slots=True)
class ManifestSummary:
    """What `complete.json` says of a generation."""

    generation: int
    """0 for the first."""
    slices: int
    """Numbered from 0."""
    images: int
    """In all slices."""
    size_bytes: int
    """Encoded bytes as listed."""
    skipped: int
    """Objects that were not taken for images."""


def generation_folder(output: str, generation: int) -> str:
    """Say where a generation of the manifest lies.

    Args:
        output: The run.
        generation: Its number.

    Returns:
        A folder's URI.
    """
    return storage.join_uri(output, "manifest", f"generation-{generation:06d}")


def cut_slices(
    images: Iterable[ObjectInfo], *, slice_size: int, slice_bytes: int
) -> Iterator[list[ObjectInfo]]:
    """Cut a stream of images into slices, each sorted by URI.

    Args:
        images: In the order of the listing.
        slice_size: Most images in a slice, at least 1.
        slice_bytes: Most encoded bytes in a slice, as listed; a larger image is a slice of its own.

    Yields:
        The images of each slice.
    """
    current: list[ObjectInfo] = []
    size = 0
    for info in images:
        if current and (len(current) == slice_size or size + info.size > slice_bytes):
            yield _sorted(current)
            current, size = [], 0
        current.append(info)
        size += info.size
    if current:
        yield _sorted(current)


def write_manifest(
    output: str,
    slices: Iterable[Sequence[ObjectInfo]],
    *,
    count_skipped: Callable[[], int],
) -> ManifestSummary:
    """Write the first generation of a run's manifest, holding one part in memory at a time.

    Args:
        output: The run.
        slices: In the order of their numbers.
        count_skipped: Asked once the slices have ended.

    Returns:
        What there is to do.
    """
    folder = generation_folder(output, 0)
    scratch = storage.join_uri(output, ".tmp")
    images = size = number = 0
    numbered = enumerate(slices)
    for part in itertools.count():
        chunk = list(itertools.islice(numbered, SLICES_PER_PART))
        if not chunk:
            break
        name = storage.join_uri(folder, part_name(part))
        storage.write_bytes(name, _encode_part(chunk), scratch=scratch)
        images += sum(len(infos) for _, infos in chunk)
        size += sum(info.size for _, infos in chunk for info in infos)
        number += len(chunk)
    summary = ManifestSummary(
        generation=0, slices=number, images=images, size_bytes=size, skipped=count_skipped()
    )
    complete = json.dumps(asdict(summary), indent=2).encode()
    # Of two drivers at once the first to get here decides; the other takes over what it listed.
    storage.create_bytes(storage.join_uri(folder, COMPLETE), complete, scratch=scratch)
    return read_summary(output) or summary


def read_summary(output: str) -> ManifestSummary | None:
    """Read what a run's manifest holds.

    Args:
        output: The run.

    Returns:
        The summary, or None if no complete manifest is there.
    """
    try:
        data = storage.read_bytes(storage.join_uri(generation_folder(output, 0), COMPLETE))
    except FileNotFoundError:
        return None
    return ManifestSummary(**json.loads(data))


def read_slice(output: str, number: int, *, generation: int = 0) -> list[ObjectInfo]:
    """Read the images of one slice.

    Args:
        output: The run.
        number: The slice.
        generation: Of the manifest.

    Returns:
        Its images, sorted by URI.
    """
    part, group = divmod(number, SLICES_PER_PART)
    uri = storage.join_uri(generation_folder(output, generation), part_name(part))
    with storage.open_range_reader(uri) as file:
        rows = pq.ParquetFile(file).read_row_group(group).to_pylist()
    assert all(row["slice"] == number for row in rows), uri
    return [
        ObjectInfo(uri=row["image"], size=row["size"], etag=row["etag"], mtime=row["mtime"])
        for row in rows
    ]


def part_name(part: int) -> str:
    """Name a part of the manifest.

    Args:
        part: Its number.

    Returns:
        Such as `part-00000.parquet`.
    """
    return f"part-{part:05d}.parquet"


def _sorted(images: list[ObjectInfo]) -> list[ObjectInfo]:
    return sorted(images, key=lambda info: info.uri)


def _encode_part(chunk: Sequence[tuple[int, Sequence[ObjectInfo]]]) -> bytes:
    sink = pa.BufferOutputStream()
    with pq.ParquetWriter(sink, MANIFEST_SCHEMA, compression="zstd") as writer:
        for number, infos in chunk:
            rows = [
                {
                    "slice": number,
                    "image": info.uri,
                    "size": info.size,
                    "etag": info.etag,
                    "mtime": info.mtime,
                }
                for info in infos
            ]
            # One call, one row group: `read_slice` relies on it.
            table = pa.Table.from_pylist(rows, MANIFEST_SCHEMA)
            writer.write_table(table, row_group_size=max(1, len(rows)))
    return bytes(sink.getvalue().to_pybytes())
