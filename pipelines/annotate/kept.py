"""Which rows of a slice stay when an update or a retry does some of its images again?

Only rows that the slice's receipt answers for. Others may stand there: those of an older generation
that a process put which had long been taken for dead. Then all its images are done again.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace

import pyarrow as pa
import pyarrow.compute as pc

from pipelines import receipts, storage, tables
from pipelines.errors import StorageError
from pipelines.manifest import ManifestEntry, SlicePlace
from pipelines.receipts import KEPT_NOTE, Receipt
from pipelines.storage import OvertakenError, describe_overtaken

logger = logging.getLogger(__name__)


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

    Raises:
        StorageError: If a table is missing or damaged.
    """
    if again and receipts.find_standing(output, place.number, place.generation) is not None:
        return [replace(entry, todo=False) for entry in entries], None
    if all(entry.todo for entry in entries):
        return entries, None
    receipt = receipts.read_receipt(output, place.number)
    strange = receipts.list_foreign(output, place.number, receipt, ahead=True)
    if receipt.generation not in {place.previous, place.generation}:
        strange.append(tables.IMAGES)
    if not strange:
        return entries, receipt.rows
    logger.warning(
        "slice %d: an old process put its %s over newer rows; all %d images are done again",
        place.number,
        " and ".join(strange),
        len(entries),
    )
    return [replace(entry, todo=True) for entry in entries], None


class KeptRows:
    """The old rows of the images that are not done again."""

    def __init__(self, output: str, table: pa.Table) -> None:
        """Say which images stay, and read their receipt if there are any.

        Args:
            output: The run.
            table: The slice between the stages: columns `slice`, `image`, `todo` and `receipt`.

        Raises:
            OvertakenError: If the receipt is another one than it was.
            StorageError: If it is missing, damaged, or has no row of an image that stays.
        """
        self._output = output
        self._number = table["slice"][0].as_py()
        self._images = table.filter(pc.invert(table["todo"]))["image"].drop_null()
        if len(self._images):
            self._read_receipt(table["receipt"][0].as_py())

    @property
    def notes(self) -> Mapping[str, str]:
        """What the metadata of the slice's new tables say of rows that were kept."""
        return {KEPT_NOTE: self._receipt.rows} if len(self._images) else {}

    def add_to(self, name: str, fresh: pa.Table) -> pa.Table:
        """Put the old rows of one table beside the new ones.

        Args:
            name: The table.
            fresh: Rows of the images that were done again.

        Returns:
            All rows of the slice, sorted by the table's keys.

        Raises:
            OvertakenError: If the table is not the receipt's.
            StorageError: If it is missing or damaged.
        """
        if not len(self._images):
            return fresh
        kept = self._old_images if name == tables.IMAGES else self._read(name)
        joined = pa.concat_tables([kept.select(fresh.schema.names).cast(fresh.schema), fresh])
        return joined.sort_by([(key, "ascending") for key in tables.KEYS[name]])

    def _read_receipt(self, expected: str) -> None:
        uri, data = self._load(tables.IMAGES)
        self._receipt = Receipt(tables.decode_notes(uri, data))
        if self._receipt.rows != expected:
            raise OvertakenError(describe_overtaken(uri))
        self._old_images = self._select(uri, data)
        if len(self._old_images) != len(self._images):
            raise StorageError(
                f"{uri}: has rows of {len(self._old_images)} of the {len(self._images)} images "
                "that an update keeps; something changed the run from outside: annotate into "
                "another --output"
            )

    def _read(self, name: str) -> pa.Table:
        uri, data = self._load(name)
        if not self._receipt.owns(name, tables.decode_notes(uri, data), ahead=True):
            raise OvertakenError(describe_overtaken(uri))
        return self._select(uri, data)

    def _load(self, name: str) -> tuple[str, bytes]:
        uri = storage.join_uri(self._output, name, tables.slice_name(self._number))
        return uri, tables.load_table(uri)

    def _select(self, uri: str, data: bytes) -> pa.Table:
        """The rows of images that stay; a killed attempt may have left others, made anew now."""
        old = tables.decode_table(uri, data)
        return old.filter(pc.is_in(old["image"], value_set=self._images.combine_chunks()))
