"""Which rows of a slice stay when an update or a retry does some of its images again?"""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from pipelines import storage, tables
from pipelines.errors import StorageError


class KeptRows:
    """The old rows of the images that are not done again."""

    def __init__(self, output: str, number: int, table: pa.Table) -> None:
        """Say which images stay; nothing is read before their rows are asked for.

        Args:
            output: The run.
            number: The slice.
            table: The slice between the stages: columns `image` and `todo`.
        """
        self._output = output
        self._number = number
        kept = table.filter(pc.invert(table["todo"]))["image"]
        self._images = kept.drop_null()

    def add_to(self, name: str, fresh: pa.Table) -> pa.Table:
        """Put the old rows of one table beside the new ones.

        Args:
            name: The table.
            fresh: Rows of the images that were done again.

        Returns:
            All rows of the slice, sorted by the table's keys.

        Raises:
            StorageError: If an image that stays has no row in the receipt.
        """
        if not len(self._images):
            return fresh
        uri = storage.join_uri(self._output, name, tables.slice_name(self._number))
        old = tables.read_table(uri)
        # A killed attempt may have left this table ahead of the receipt: its rows are made anew.
        kept = old.filter(pc.is_in(old["image"], value_set=self._images.combine_chunks()))
        if name == tables.IMAGES and len(kept) != len(self._images):
            raise StorageError(
                f"{uri}: has rows of {len(kept)} of the {len(self._images)} images that an update "
                "keeps; something changed the run from outside: annotate into another --output"
            )
        joined = pa.concat_tables([kept.select(fresh.schema.names).cast(fresh.schema), fresh])
        return joined.sort_by([(key, "ascending") for key in tables.KEYS[name]])
