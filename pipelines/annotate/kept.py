"""Which rows of a slice stay when an update or a retry does some of its images again?

Only rows that the slice's receipt answers for. Others may stand there, or none: those of an older
generation that a process put which had long been taken for dead, or what somebody damaged or
deleted. Then all its images are done again.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pipelines import receipts, storage, tables
from pipelines.errors import StorageError
from pipelines.manifest import ManifestEntry, SlicePlace
from pipelines.receipts import KEPT_NOTE, Receipt
from pipelines.tables import DamagedTableError

logger = logging.getLogger(__name__)


class RowsChangedError(StorageError):
    """Rows that are to be kept are not those that stood there when the slice was begun."""


def find_kept(
    output: str, place: SlicePlace, entries: Sequence[ManifestEntry], *, again: bool = False
) -> tuple[Sequence[ManifestEntry], str | None]:
    """Make sure that rows which are to be kept are there; if not, have all images done.

    Args:
        output: The run.
        place: Where the slice is listed.
        entries: Its images, as they are listed there.
        again: Whether the slice was started before: it may be committed, and only the word of that
            be lost with a node. Then nothing is left to do.

    Returns:
        The images, and which receipt answers for those that are not to be done; None if all are.
    """
    if again and _is_committed(output, place):
        return [replace(entry, todo=False) for entry in entries], None
    if all(entry.todo for entry in entries):
        return entries, None
    try:
        receipt = receipts.read_receipt(output, place.number)
    except DamagedTableError as error:
        return _do_all(place, entries, str(error)), None
    doubt = _find_doubt(output, place, receipt)
    if doubt is not None:
        return _do_all(place, entries, doubt), None
    return entries, receipt.name


def _is_committed(output: str, place: SlicePlace) -> bool:
    standing = receipts.find_standing(output, place.number, place.generation, place.part)
    return standing is not None


def _find_doubt(output: str, place: SlicePlace, receipt: Receipt) -> str | None:
    """Why a receipt does not answer for rows that are to be kept; None if it does."""
    if receipt.generation not in {place.previous, place.generation}:
        return (
            f"its receipt is of generation {receipt.generation}, expected {place.previous} or "
            f"{place.generation}"
        )
    generation = place.generation
    if receipt.generation == generation and receipt.is_due(generation, place.part, generation):
        return "its receipt is of another listing of the same generation"
    for name in (tables.IMAGES, *receipt.tables):
        uri = storage.join_uri(output, name, tables.slice_name(place.number))
        try:
            data = tables.load_table(uri)
            tables.check_rows(uri, data)
        except DamagedTableError as error:
            return str(error)
        is_owned = receipt.owns(name, tables.decode_notes(uri, data), ahead=True)
        if name != tables.IMAGES and not is_owned:
            return f"its receipt does not answer for {name}, of another process"
    return None


def _do_all(
    place: SlicePlace, entries: Sequence[ManifestEntry], doubt: str
) -> Sequence[ManifestEntry]:
    logger.warning("slice %d: %s; all %d images are done again", place.number, doubt, len(entries))
    return [replace(entry, todo=True) for entry in entries]


@dataclass(frozen=True, kw_only=True, slots=True)
class KeptRows:
    """The old rows of the images that are not done again."""

    output: str
    """The run."""
    number: int
    """The slice."""
    names: pa.Array[Any]
    """URIs of the images that stay."""
    receipt: Receipt
    """Answers for their rows."""
    images: pa.Table
    """Their rows in `images`."""

    @property
    def notes(self) -> Mapping[str, str]:
        """What the metadata of the slice's new tables say of rows that were kept."""
        return {KEPT_NOTE: self.receipt.name}

    def add_to(self, name: str, fresh: pa.Table) -> pa.Table:
        """Put the old rows of one table beside the new ones; all tables but `images` are read now.

        Args:
            name: The table.
            fresh: Rows of the images that were done again.

        Returns:
            All rows of the slice, sorted by the table's keys.

        Raises:
            RowsChangedError: If the table is not the receipt's.
            DamagedTableError: If it is missing or damaged.
        """
        kept = self.images if name == tables.IMAGES else self._read(name)
        joined = pa.concat_tables([kept.select(fresh.schema.names).cast(fresh.schema), fresh])
        return joined.sort_by([(key, "ascending") for key in tables.KEYS[name]])

    def _read(self, name: str) -> pa.Table:
        uri = storage.join_uri(self.output, name, tables.slice_name(self.number))
        data = tables.load_table(uri)
        if not self.receipt.owns(name, tables.decode_notes(uri, data), ahead=True):
            raise RowsChangedError(_describe_change(uri))
        return _select(uri, data, self.names)


def load_kept(output: str, table: pa.Table) -> KeptRows | None:
    """Read the receipt of the images of a slice that stay.

    Args:
        output: The run.
        table: The slice between the stages: columns `slice`, `image`, `todo` and `receipt`.

    Returns:
        Their rows; None if no image stays.

    Raises:
        RowsChangedError: If the receipt is another one than it was.
        StorageError: If it is missing, damaged, or has no row of an image that stays.
    """
    names = table.filter(pc.invert(table["todo"]))["image"].drop_null().combine_chunks()
    if not len(names):
        return None
    number = table["slice"][0].as_py()
    uri = storage.join_uri(output, tables.IMAGES, tables.slice_name(number))
    data = tables.load_table(uri)
    receipt = Receipt.decode(uri, tables.decode_notes(uri, data))
    if receipt.name != table["receipt"][0].as_py():
        raise RowsChangedError(_describe_change(uri))
    images = _select(uri, data, names)
    if len(images) != len(names):
        raise StorageError(
            f"{uri}: has rows of {len(images)} of the {len(names)} images that an update keeps; "
            "something changed the run from outside: annotate into another --output"
        )
    return KeptRows(output=output, number=number, names=names, receipt=receipt, images=images)


def _select(uri: str, data: bytes, names: pa.Array[Any]) -> pa.Table:
    """The rows of images that stay; a killed attempt may have left others, made anew now."""
    old = tables.decode_table(uri, data)
    return old.filter(pc.is_in(old["image"], value_set=names))


def _describe_change(uri: str) -> str:
    return (
        f"{uri}: something else was put there since the slice was begun, so that its rows cannot "
        "be kept; run the same command again: it does all images of the slice"
    )
