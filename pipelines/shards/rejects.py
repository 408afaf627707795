"""What was left out of the shards, and why? The rows of `rejects.parquet`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipelines import storage, tables
from pipelines.shards.places import REJECTS_NAME, change

REJECTS_SCHEMA: Final = pa.schema(
    [
        pa.field("split", pa.string(), nullable=False),
        pa.field("name", pa.string(), nullable=False),
        pa.field("reason", pa.string(), nullable=False),
        pa.field("message", pa.string(), nullable=False),
    ]
)
"""`name` is the file's in the source; `reason` one of `ImageReason` or `AnnotationReason`."""


class AnnotationReason(StrEnum):
    """Why an image, or its boxes, are not in the shards; its own damage has an `ImageReason`."""

    UNLABELLED = "unlabelled"
    BAD_ANNOTATION = "bad_annotation"
    BAD_BOXES = "bad_boxes"
    """Of an image whose class is known without them: it is there, and has no boxes."""


class AnnotationError(Exception):
    """What is known about one image is missing or wrong; it is rejected and the rest goes on."""

    def __init__(self, reason: AnnotationReason, message: str) -> None:
        super().__init__(reason, message)
        self.reason = reason
        self.message = message

    def __str__(self) -> str:
        return f"{self.reason}: {self.message}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Reject:
    """One image that is not in the shards, or without its boxes."""

    name: str
    """In the source's own words."""

    reason: str
    message: str


def write_rejects(folder: str, split: str, rejects: Sequence[Reject]) -> None:
    """Put a split's rejects in place of those it had; other splits' rows stay.

    Args:
        folder: Of the shards.
        split: Whose rejects these are.
        rejects: In any order.

    Raises:
        StorageError: The store refused, or what stands there is not such a table.
    """
    uri = storage.join_uri(folder, REJECTS_NAME)
    rows = [
        {"split": split, "name": one.name, "reason": one.reason, "message": one.message}
        for one in rejects
    ]
    ours = pa.Table.from_pylist(rows, REJECTS_SCHEMA)
    change(folder, uri, lambda: _encode(_join(uri, split, ours)))


def _join(uri: str, split: str, ours: pa.Table) -> pa.Table:
    if not storage.exists(uri):
        return ours
    before = tables.read_table(uri)
    others = before.filter(pc.not_equal(before["split"], pa.scalar(split)))
    return pa.concat_tables([others.cast(REJECTS_SCHEMA), ours])


def _encode(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    ordered = table.sort_by([("split", "ascending"), ("name", "ascending")])
    pq.write_table(ordered, sink, compression="zstd")
    data: bytes = sink.getvalue().to_pybytes()
    return data
