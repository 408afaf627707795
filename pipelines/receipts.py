"""Which slices are done: one is committed once its receipt, its `images` file, is there.

Of a slice that an update touched, the receipt must be of that generation or a later one.
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
from pipelines.tables import IMAGES, read_notes, read_table, slice_name, slice_number

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
    """Find the committed slices: one listing, and the receipts of slices that an update touched.

    Args:
        manifest: Of the run.

    Returns:
        Their numbers.
    """
    there = list_receipts(manifest.output)

    def is_current(number: int) -> bool:
        notes = read_notes(_receipt_uri(manifest.output, number))
        return int(notes["generation"]) >= manifest.touched[number].generation

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
        return RowCounts.decode(read_notes(_receipt_uri(output, number))["counts"])

    with ThreadPoolExecutor(_READERS) as readers:
        return dict(zip(numbers, readers.map(read, numbers), strict=True))


def list_failed(output: str, counts: Mapping[int, RowCounts]) -> dict[int, set[str]]:
    """Name the failed images.

    Args:
        output: The run.
        counts: Of every committed slice.

    Returns:
        URIs by slice; slices without any are left out.
    """
    numbers = [number for number, of in counts.items() if of.failed]

    def read(number: int) -> set[str]:
        images = read_table(_receipt_uri(output, number)).select(["image", "status"]).to_pylist()
        return {row["image"] for row in images if row["status"] == "error"}

    with ThreadPoolExecutor(_READERS) as readers:
        return dict(zip(numbers, readers.map(read, numbers), strict=True))


def _receipt_uri(output: str, number: int) -> str:
    return storage.join_uri(output, IMAGES, slice_name(number))
