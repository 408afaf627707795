"""Which slices are done: one is committed once its `images` file, its receipt, is there."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final

from pipelines import storage
from pipelines.tables import IMAGES, read_notes, slice_name, slice_number

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


def list_committed(output: str) -> set[int]:
    """Find the committed slices with one listing; presence is enough in the first generation.

    Args:
        output: The run.

    Returns:
        Their numbers.
    """
    names = storage.list_names(storage.join_uri(output, IMAGES))
    return {number for name in names if (number := slice_number(name)) is not None}


def count_rows(output: str, slices: Iterable[int]) -> RowCounts:
    """Add up the rows of committed slices from their receipts' metadata.

    Args:
        output: The run.
        slices: Numbers of committed slices.

    Returns:
        The sum.
    """

    def read(number: int) -> RowCounts:
        notes = read_notes(storage.join_uri(output, IMAGES, slice_name(number)))
        return RowCounts.decode(notes["counts"])

    with ThreadPoolExecutor(_READERS) as readers:
        return sum(readers.map(read, slices), RowCounts())
