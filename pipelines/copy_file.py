"""How do slices grow into one large file, laid out for queries?"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.tables import choose_dictionaries

_GROUP_ROWS: Final = 131_072
"""About as many rows in a row group: few enough to be skipped by its statistics (assumed)."""
_GROUP_BYTES: Final = 64 * 2**20
"""About as many bytes in a row group, uncompressed (assumed)."""
_NOTES_OF_A_SLICE: Final = frozenset(
    {b"counts", b"tables", b"kept", b"listed", b"slice", b"rows", b"file"}
)


class GrowingFile:
    """A file while slices are put into it: in memory are its bytes so far and one row group."""

    def __init__(self, schema: pa.Schema, notes: Mapping[str, str]) -> None:
        """Begin a file.

        Args:
            schema: Of its slices, with the metadata of one.
            notes: What else its metadata say.
        """
        self.rows = 0
        """So far."""
        self._schema = schema.with_metadata(_describe(schema.metadata or {}, notes))
        self._sink = pa.BufferOutputStream()
        self._writer = pq.ParquetWriter(
            self._sink,
            self._schema,
            compression="zstd",
            use_dictionary=choose_dictionaries(schema),
        )
        self._group: list[pa.Table] = []
        self._group_rows = 0
        self._group_bytes = 0
        self._group_file_bytes = 0

    @property
    def size(self) -> int:
        """About as many bytes are in it."""
        return self._sink.tell() + self._group_file_bytes

    def add(self, table: pa.Table, size: int) -> None:
        """Put a slice into it.

        Args:
            table: Its rows.
            size: Bytes of the file that they came from.
        """
        self.rows += len(table)
        self._group.append(table)
        self._group_rows += len(table)
        self._group_bytes += table.nbytes
        self._group_file_bytes += size
        if self._count_groups() >= 1:
            self._write_group()

    def finish(self) -> bytes:
        """Write what is left.

        Returns:
            The file.
        """
        if self._group_rows:
            self._write_group()
        self._writer.close()
        return self._sink.getvalue().to_pybytes()

    def _count_groups(self) -> float:
        return max(self._group_rows / _GROUP_ROWS, self._group_bytes / _GROUP_BYTES)

    def _write_group(self) -> None:
        # A slice of many features fills more than one.
        groups = max(1, round(self._count_groups()))
        joined = pa.concat_tables([self._schema.empty_table(), *self._group])
        self._writer.write_table(joined, row_group_size=max(1, math.ceil(len(joined) / groups)))
        self._group = []
        self._group_rows = self._group_bytes = self._group_file_bytes = 0


def _describe(metadata: Mapping[bytes, bytes], notes: Mapping[str, str]) -> dict[bytes, bytes]:
    """What a slice's metadata say of the whole run; some are of the slice alone."""
    kept = {name: value for name, value in metadata.items() if name not in _NOTES_OF_A_SLICE}
    return kept | {name.encode(): value.encode() for name, value in notes.items()}
