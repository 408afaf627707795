"""Which run does a folder hold a copy of, and is it all there?"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from pipelines import storage
from pipelines.errors import InputError
from pipelines.manifest import Manifest
from pipelines.readers import read_slices
from pipelines.receipts import Receipt, RowCounts, read_receipt
from pipelines.tables import (
    BOXES,
    FEATURES,
    GUESSES,
    IMAGES,
    RUN_FILE,
    TABLES,
    DamagedTableError,
    count_rows,
    read_notes,
)

COPIED_NOTE: Final = "copied"
"""Entry of the metadata of a copy's files: which rows they are a part of."""
_COPY_NAME: Final = re.compile(r"part-\d{5,}\.parquet")
_DIGEST_BYTES: Final = 16
ANNOTATE_AGAIN: Final = (
    "run the command again that annotated it, which does the slice anew, then copy"
)
"""What to do about a slice that is not as its run should have it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RunRows:
    """The rows of a finished run."""

    digest: str
    """Of all receipts: another one if any row is."""
    counts: Mapping[str, int]
    """Rows by table; 0 of a table that the run has not."""
    slices: Mapping[str, Sequence[str]]
    """Digest of the rows of each slice, by table; "" where a receipt does not tell it."""


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


def is_copy(uri: str) -> bool:
    """Say whether a file in a table's folder is a copy's, be it of another run.

    Args:
        uri: Of the file.

    Returns:
        Whether it is called so, and says so itself.
    """
    if _COPY_NAME.fullmatch(uri.rpartition("/")[2]) is None:
        return False
    try:
        return COPIED_NOTE in read_notes(uri)
    except DamagedTableError:
        return False


def sum_up_rows(manifest: Manifest) -> RunRows:
    """Find out which rows a finished run has, from its receipts.

    Args:
        manifest: Of the run.

    Returns:
        Their number, and what tells them from others.

    Raises:
        InputError: If a receipt is missing, damaged or not as the manifest lists its slice.
    """
    numbers = range(manifest.summary.slices)
    digest, total = hashlib.blake2b(digest_size=_DIGEST_BYTES), RowCounts()
    slices: dict[str, list[str]] = {table: [] for table in TABLES}
    receipts = read_slices(
        numbers, lambda number: _read_receipt(manifest, number), doing="reading receipts"
    )
    for receipt in receipts:
        tables = " ".join(f"{name} {rows}" for name, rows in sorted(receipt.tables.items()))
        digest.update(f"{receipt.name} {tables}\n".encode())
        total += receipt.counts
        for table, of_slice in slices.items():
            rows = receipt.rows if table == IMAGES else receipt.tables.get(table, "")
            of_slice.append(rows)
    counts = {
        IMAGES: total.images,
        BOXES: total.boxes,
        GUESSES: total.guesses,
        FEATURES: total.features,
    }
    return RunRows(digest=digest.hexdigest(), counts=counts, slices=slices)


def _read_receipt(manifest: Manifest, number: int) -> Receipt:
    place = manifest.place_of(number)
    try:
        receipt = read_receipt(manifest.output, number)
    except DamagedTableError as error:
        raise InputError(f"{error}; {ANNOTATE_AGAIN}") from error
    if receipt.is_due(place.generation, place.part, manifest.summary.generation):
        raise InputError(
            f"{manifest.output}: the receipt of slice {number} is not as the manifest lists it; "
            + ANNOTATE_AGAIN
        )
    return receipt


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
