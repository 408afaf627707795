"""Which slices are done: one is committed once its receipt, its `images` file, is there.

Of a slice that an update touched, the receipt must be of that generation or a later one, and its
other tables those that the receipt names by a digest of their rows: a put that came late, from a
process that was long taken for dead, may have brought others. So it is with the few slices of the
first generation that were contested: an attempt put its rows over different ones. Of all others
presence is enough to begin with; their receipts are opened beside the work.
"""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from pipelines import storage
from pipelines.manifest import Manifest, open_manifest
from pipelines.readers import read_slices
from pipelines.tables import (
    IMAGES,
    ROWS_NOTE,
    DamagedTableError,
    read_notes,
    read_table,
    slice_name,
    slice_number,
)
from pipelines.wording import tell_count

logger = logging.getLogger(__name__)

TABLES_NOTE: Final = "tables"
"""Entry of a receipt's metadata: digests of the rows of the slice's other tables, as JSON."""
KEPT_NOTE: Final = "kept"
"""Entry of the metadata of a table with rows that were kept: the digest of their receipt."""
SLICE_NOTE: Final = "slice"
"""Entry of a receipt's metadata: whose it is."""
LISTED_NOTE: Final = "listed"
"""Entry of a receipt's metadata: the part of the manifest that listed the slice's images."""
_MOST_NAMED: Final = 5
"""Of receipts that are no slice's; the rest is counted."""


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


@dataclass(frozen=True, kw_only=True, slots=True)
class Receipt:
    """What the metadata of a receipt say."""

    slice: int | None
    """Whose it is; None where that is not told."""
    generation: int
    """That the slice was done for."""
    listed: str
    """Part of the manifest that listed its images; "" where that is not told."""
    rows: str
    """Digest of its rows."""
    tables: Mapping[str, str]
    """Digests of the rows of the slice's other tables; none in a run of an older version."""
    counts: RowCounts
    """Rows of the slice."""

    @classmethod
    def decode(cls, uri: str, notes: Mapping[str, str]) -> Receipt:
        """Read what a commit wrote.

        Args:
            uri: Where it is from.
            notes: Metadata of the file.

        Returns:
            The receipt.

        Raises:
            DamagedTableError: If it is none.
        """
        try:
            return cls(
                slice=int(notes[SLICE_NOTE]) if SLICE_NOTE in notes else None,
                generation=int(notes["generation"]),
                listed=notes.get(LISTED_NOTE, ""),
                rows=notes.get(ROWS_NOTE, ""),
                tables=json.loads(notes.get(TABLES_NOTE, "{}")),
                counts=RowCounts.decode(notes["counts"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise DamagedTableError(f"{uri}: not a receipt of this program ({error!r})") from error

    @property
    def name(self) -> str:
        """Which receipt it is: a retry that fails again has the rows of the one before."""
        return f"{self.generation}-{self.rows}"

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
        return is_named or (ahead and notes.get(KEPT_NOTE) == self.name)

    def is_due(self, generation: int, listed: str, newest: int) -> bool:
        """Say whether the slice is to be done again, by its receipt alone.

        Args:
            generation: The newest complete one that lists the slice.
            listed: Part of the manifest that lists it.
            newest: Generation of the manifest. What is later is of a driver that knows a newer one.

        Returns:
            Whether the receipt is of another generation than that, or of another listing for it.
            One between the two is of an update whose listing another driver's replaced.
        """
        if self.generation == generation:
            return self.listed not in {"", listed}
        return self.generation <= newest


def read_receipt(output: str, number: int) -> Receipt:
    """Read the receipt of a slice.

    Args:
        output: The run.
        number: The slice.

    Returns:
        What its metadata say.

    Raises:
        DamagedTableError: If it is missing or damaged, or another slice's.
    """
    uri = _uri(output, IMAGES, number)
    receipt = Receipt.decode(uri, read_notes(uri))
    if receipt.slice not in {None, number}:
        raise DamagedTableError(f"{uri}: the receipt of slice {receipt.slice}, put in its place")
    return receipt


def list_foreign(output: str, number: int, receipt: Receipt) -> list[str]:
    """Find tables of a slice that are not its receipt's, are missing or damaged.

    Args:
        output: The run.
        number: The slice.
        receipt: Of the slice.

    Returns:
        Their names.
    """

    def is_owned(table: str) -> bool:
        try:
            notes = read_notes(_uri(output, table, number))
        except DamagedTableError:
            return False
        return receipt.owns(table, notes, ahead=False)

    return [table for table in receipt.tables if not is_owned(table)]


def find_standing(output: str, number: int, generation: int, listed: str) -> RowCounts | None:
    """Look whether a slice is committed, by whomever, for a generation or for a later one.

    Opens its receipt and, of the same generation, the metadata of its other tables.

    Args:
        output: The run.
        number: The slice.
        generation: The newest complete one that lists the slice, as far as the caller knows.
        listed: Part of the manifest that lists it there.

    Returns:
        Its rows; None if it is not.
    """
    try:
        receipt = read_receipt(output, number)
    except DamagedTableError:
        return None
    is_later = receipt.generation > generation
    newest = _find_newest(output, number, generation, listed) if is_later else generation
    if receipt.is_due(generation, listed, newest):
        return None
    if receipt.generation == generation and list_foreign(output, number, receipt):
        return None
    return receipt.counts


def _find_newest(output: str, number: int, generation: int, listed: str) -> int:
    """The manifest's generation; of one that lists the slice elsewhere by now, no later one."""
    manifest = open_manifest(output)
    if manifest is None or number >= manifest.summary.slices:
        return generation
    place = manifest.place_of(number)
    is_known = (place.generation, place.part) == (generation, listed)
    return manifest.summary.generation if is_known else generation


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
    """Find the committed slices: one listing, and a look at those that an update touched.

    Presence is enough for the first generation, but for slices that were contested. Of these and of
    touched ones the receipt and the metadata of each other table are opened. Receipts of slices
    that the manifest does not have are no slice's: a warning names them.

    Args:
        manifest: Of the run.

    Returns:
        Their numbers, all below `manifest.summary.slices`.
    """
    listed = list_receipts(manifest.output)
    there = listed & set(range(manifest.summary.slices))
    if strays := sorted(listed - there):
        _warn_of_strays(manifest, strays)

    def is_whole(number: int) -> bool:
        place = manifest.place_of(number)
        standing = find_standing(manifest.output, number, place.generation, place.part)
        return standing is not None

    doubtful = sorted(there & (manifest.touched.keys() | manifest.contested))
    looks = read_slices(doubtful, is_whole, doing="looking at slices that were touched")
    whole = dict(zip(doubtful, looks, strict=True))
    return {number for number in there if whole.get(number, True)}


def _warn_of_strays(manifest: Manifest, strays: Sequence[int]) -> None:
    logger.warning(
        "%s: %s there, but the manifest ends with slice %d; readers of the folder take the rows "
        "for the run's: if no other command is at work on it, move %s and the tables of the same "
        "name away",
        storage.join_uri(manifest.output, IMAGES),
        tell_count(len(strays), "receipt of no slice is", "receipts of no slice are"),
        manifest.summary.slices - 1,
        ", ".join(map(slice_name, strays[:_MOST_NAMED]))
        + (f" and {len(strays) - _MOST_NAMED:,} more" if len(strays) > _MOST_NAMED else ""),
    )


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

    return dict(zip(numbers, read_slices(numbers, read, doing="reading failed rows"), strict=True))


def _uri(output: str, table: str, number: int) -> str:
    return storage.join_uri(output, table, slice_name(number))
