"""Which slices are done: one is committed once its receipt, its `images` file, is there.

Of a slice that an update touched, the receipt must be of that generation or a later one, and its
other tables those that the receipt names by a digest of their rows: a put that came late, from a
process that was long taken for dead, may have brought back older ones.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final

from pipelines import storage
from pipelines.manifest import Manifest
from pipelines.tables import IMAGES, ROWS_NOTE, read_notes, read_table, slice_name, slice_number

TABLES_NOTE: Final = "tables"
"""Entry of a receipt's metadata: digests of the rows of the slice's other tables, as JSON."""
KEPT_NOTE: Final = "kept"
"""Entry of the metadata of a table with rows that were kept: the digest of their receipt."""
_READERS: Final = 16
"""Receipts opened at a time (assumed: hides an object store's latency)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RowCounts:
    """What a set of receipts adds up to."""

    images: int = 0
    """Rows in `images`."""
    boxes: int = 0
    """Rows in `boxes`."""
    guesses: int = 0
    """Rows in `guesses`."""
    features: int = 0
    """Rows in `features`."""
    errors: Counter[str] = field(default_factory=Counter)
    """Failed images by reason."""

    @property
    def failed(self) -> int:
        """Images with an error row."""
        return sum(self.errors.values())

    def __add__(self, other: RowCounts) -> RowCounts:
        return RowCounts(
            images=self.images + other.images,
            boxes=self.boxes + other.boxes,
            guesses=self.guesses + other.guesses,
            features=self.features + other.features,
            errors=self.errors + other.errors,
        )

    def encode(self) -> str:
        """Write the counts for a receipt's metadata.

        Returns:
            JSON, read by `decode`.
        """
        values = {
            "images": self.images,
            "boxes": self.boxes,
            "guesses": self.guesses,
            "features": self.features,
            "errors": self.errors,
        }
        return json.dumps(values)

    @classmethod
    def decode(cls, text: str) -> RowCounts:
        """Read what `encode` wrote.

        Args:
            text: JSON.

        Returns:
            The counts.
        """
        values = json.loads(text)
        return cls(**values | {"errors": Counter(values["errors"])})


@dataclass(frozen=True, slots=True)
class Receipt:
    """What the metadata of a receipt say."""

    notes: Mapping[str, str]
    """As they stand in the file."""

    @property
    def generation(self) -> int:
        """That the slice was done for."""
        return int(self.notes["generation"])

    @property
    def rows(self) -> str:
        """Digest of its rows: which receipt it is."""
        return self.notes.get(ROWS_NOTE, "")

    @property
    def tables(self) -> Mapping[str, str]:
        """Digests of the rows of the slice's other tables; none in a run of an older version."""
        digests: dict[str, str] = json.loads(self.notes.get(TABLES_NOTE, "{}"))
        return digests

    @property
    def counts(self) -> RowCounts:
        """Rows of the slice."""
        return RowCounts.decode(self.notes["counts"])

    def owns(self, table: str, notes: Mapping[str, str], *, ahead: bool) -> bool:
        """Say whether a table is the receipt's.

        Args:
            table: Which.
            notes: Its metadata.
            ahead: Count what was made since from this receipt's rows, by an attempt that was killed
                before it put its own receipt.

        Returns:
            Whether it is.
        """
        digest = self.tables.get(table)
        is_named = digest is None or notes.get(ROWS_NOTE) == digest
        return is_named or (ahead and notes.get(KEPT_NOTE) == self.rows)


def read_receipt(output: str, number: int) -> Receipt:
    """Read the receipt of a slice.

    Args:
        output: The run.
        number: The slice.

    Returns:
        What its metadata say.

    Raises:
        StorageError: If it is missing or damaged.
    """
    return Receipt(read_notes(_uri(output, IMAGES, number)))


def list_foreign(output: str, number: int, receipt: Receipt, *, ahead: bool = False) -> list[str]:
    """Find tables of a slice that are not its receipt's.

    Args:
        output: The run.
        number: The slice.
        receipt: Of the slice.
        ahead: As for `Receipt.owns`.

    Returns:
        Their names.

    Raises:
        StorageError: If one is missing or damaged.
    """
    return [
        table
        for table in receipt.tables
        if not receipt.owns(table, read_notes(_uri(output, table, number)), ahead=ahead)
    ]


def find_standing(output: str, number: int, generation: int) -> RowCounts | None:
    """Look whether a slice is committed, by whomever, for a generation or for a later one.

    Args:
        output: The run.
        number: The slice.
        generation: Of the manifest.

    Returns:
        Its rows; None if it is not.

    Raises:
        StorageError: If the receipt or one of its tables is damaged.
    """
    if not storage.exists(_uri(output, IMAGES, number)):
        return None
    receipt = read_receipt(output, number)
    newer = receipt.generation - generation
    if newer < 0 or (not newer and list_foreign(output, number, receipt)):
        return None
    return receipt.counts


def list_receipts(output: str) -> set[int]:
    """Find the slices with a receipt of any generation, with one listing.

    Args:
        output: The run.

    Returns:
        Their numbers.
    """
    names = storage.list_names(storage.join_uri(output, IMAGES))
    return {number for name in names if (number := slice_number(name)) is not None}


def find_committed(manifest: Manifest) -> set[int]:
    """Find the committed slices: one listing, and the metadata of slices that an update touched.

    Args:
        manifest: Of the run.

    Returns:
        Their numbers.
    """
    there = list_receipts(manifest.output)

    def is_current(number: int) -> bool:
        receipt = read_receipt(manifest.output, number)
        is_due = receipt.generation < manifest.touched[number].generation
        return not (is_due or list_foreign(manifest.output, number, receipt))

    # Presence is enough for the first generation.
    touched = sorted(there & manifest.touched.keys())
    with ThreadPoolExecutor(_READERS) as readers:
        current = dict(zip(touched, readers.map(is_current, touched), strict=True))
    return {number for number in there if current.get(number, True)}


def count_rows(output: str, slices: Iterable[int]) -> dict[int, RowCounts]:
    """Read how many rows committed slices have, from their receipts' metadata.

    Args:
        output: The run.
        slices: Numbers of committed slices.

    Returns:
        The counts of each.
    """
    numbers = list(slices)

    def read(number: int) -> RowCounts:
        return read_receipt(output, number).counts

    with ThreadPoolExecutor(_READERS) as readers:
        return dict(zip(numbers, readers.map(read, numbers), strict=True))


def list_failed(
    output: str, counts: Mapping[int, RowCounts], reason: str | None = None
) -> dict[int, set[str]]:
    """Name the failed images.

    Args:
        output: The run.
        counts: Of every committed slice.
        reason: Only images that failed for it; None for any.

    Returns:
        URIs by slice; slices without any are left out.
    """
    numbers = [n for n, of in counts.items() if (of.errors[reason] if reason else of.failed)]

    def read(number: int) -> set[str]:
        columns = ["image", "status", "error_type"]
        rows = read_table(_uri(output, IMAGES, number)).select(columns).to_pylist()
        failed = (row for row in rows if row["status"] == "error")
        return {row["image"] for row in failed if reason in {None, row["error_type"]}}

    with ThreadPoolExecutor(_READERS) as readers:
        return dict(zip(numbers, readers.map(read, numbers), strict=True))


def _uri(output: str, table: str, number: int) -> str:
    return storage.join_uri(output, table, slice_name(number))
