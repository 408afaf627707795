"""Which run does a folder hold a copy of, and is it all there?"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

from pipelines import storage
from pipelines.manifest import Manifest
from pipelines.receipts import RowCounts, read_receipt
from pipelines.tables import BOXES, FEATURES, GUESSES, IMAGES, RUN_FILE, count_rows, read_notes

COPIED_NOTE: Final = "copied"
"""Entry of the metadata of a copy's files: which rows they are a part of."""
_COPY_NAME: Final = re.compile(r"part-\d{5,}\.parquet")
_READERS: Final = 16
"""Receipts opened at a time (assumed: hides an object store's latency)."""
_DIGEST_BYTES: Final = 16


@dataclass(frozen=True, kw_only=True, slots=True)
class RunRows:
    """The rows of a finished run."""

    digest: str
    """Of all receipts: another one if any row is."""
    counts: Mapping[str, int]
    """Rows by table; 0 of a table that the run has not."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CopyContents:
    """What a copy holds."""

    rows: dict[str, int]
    """Rows of each table."""
    files: dict[str, int]
    """Files of each table."""


def copy_name(place: int) -> str:
    """Name a file of a copy.

    Args:
        place: In its table, from 0.

    Returns:
        The name, without its folder.
    """
    return f"part-{place:05d}.parquet"


def is_copy(name: str) -> bool:
    """Say whether a table's file is one of a copy.

    Args:
        name: Without its folder.

    Returns:
        Whether it is called so.
    """
    return _COPY_NAME.fullmatch(name) is not None


def sum_up_rows(manifest: Manifest) -> RunRows:
    """Find out which rows a finished run has, from its receipts.

    Args:
        manifest: Of the run.

    Returns:
        Their number, and what tells them from others.

    Raises:
        DamagedTableError: If a receipt is missing or damaged.
    """
    numbers = range(manifest.summary.slices)
    digest, total = hashlib.blake2b(digest_size=_DIGEST_BYTES), RowCounts()
    with ThreadPoolExecutor(_READERS) as readers:
        for receipt in readers.map(lambda number: read_receipt(manifest.output, number), numbers):
            tables = " ".join(f"{name} {rows}" for name, rows in sorted(receipt.tables.items()))
            digest.update(f"{receipt.name} {tables}\n".encode())
            total += receipt.counts
    counts = {
        IMAGES: total.images,
        BOXES: total.boxes,
        GUESSES: total.guesses,
        FEATURES: total.features,
    }
    return RunRows(digest=digest.hexdigest(), counts=counts)


def read_copy(to: str, run: bytes, rows: RunRows, tables: list[str]) -> CopyContents | None:
    """Look whether a copy stands already, whole.

    Args:
        to: The folder.
        run: `run.json` of the run.
        rows: Of the run, as it stands now.
        tables: That the run has.

    Returns:
        What it holds; None if that is anything but these rows.

    Raises:
        DamagedTableError: If one of its files is damaged.
    """
    try:
        if storage.read_bytes(storage.join_uri(to, RUN_FILE)) != run:
            return None
    except FileNotFoundError:
        return None
    found, files = {}, {}
    for table in tables:
        folder = storage.join_uri(to, table)
        names = sorted(storage.list_names(folder))
        if names != [copy_name(place) for place in range(len(names))]:
            return None
        uris = [storage.join_uri(folder, name) for name in names]
        if any(read_notes(uri).get(COPIED_NOTE) != rows.digest for uri in uris):
            return None
        found[table], files[table] = sum(map(count_rows, uris)), len(uris)
        if found[table] != rows.counts[table]:
            return None
    return CopyContents(rows=found, files=files)
