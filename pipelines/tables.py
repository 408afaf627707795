"""The tables' columns and files: explicit schemas, zstd Parquet, provenance in the metadata."""

from __future__ import annotations

import hashlib
import io
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines import storage
from pipelines.errors import ObjectChangedError, StorageError

SCHEMA_VERSION: Final = "1"
"""Raised when a column is added, removed or given another meaning."""

IMAGES: Final = "images"
BOXES: Final = "boxes"
GUESSES: Final = "guesses"
FEATURES: Final = "features"
TABLE_OF_TASK: Final = {"detect": BOXES, "localize": GUESSES, "features": FEATURES}
"""What is asked of images, and where the answers stand; classes stand in `images`."""
TABLES: Final = (*TABLE_OF_TASK.values(), IMAGES)
"""Every table, in the order in which a slice's are written; the receipt last."""
_GROUP_BYTES: Final = 128 * 2**20
"""Uncompressed, in a row group (assumed: what a reader can hold several of); features reach it."""
ROWS_NOTE: Final = "rows"
"""Entry of a file's metadata: a digest of its rows, as they stand in it."""
_FILE_NOTE: Final = "file"
"""Another one: a digest of the file, in which the one of the rows, reversed, stands for it."""
_DIGEST_BYTES: Final = 16
_REPLACED_TIMES: Final = 3
"""Times that a table may be replaced between two requests for it (assumed: nothing puts it so often
that it is not read between)."""
_ARROW_NOTE: Final = "ARROW:schema"
RUN_FILE: Final = "run.json"
"""Beside the tables: the run's configuration, model and versions."""


def _required(name: str, kind: pa.DataType) -> pa.Field[pa.DataType]:
    return pa.field(name, kind, nullable=False)


IMAGES_SCHEMA: Final = pa.schema(
    [
        _required("image", pa.string()),
        _required("slice", pa.int32()),
        _required("etag", pa.string()),
        _required("size", pa.int64()),
        pa.field("width", pa.int32()),
        pa.field("height", pa.int32()),
        _required("status", pa.string()),
        pa.field("error_type", pa.string()),
        pa.field("error", pa.string()),
        _required("n_boxes", pa.int32()),
        _required("truncated_boxes", pa.bool_()),
        _required("labels", pa.list_(pa.string())),
        _required("scores", pa.list_(pa.float32())),
        _required("fingerprint", pa.string()),
    ]
)

BOXES_SCHEMA: Final = pa.schema(
    [
        _required("image", pa.string()),
        _required("box", pa.int32()),
        _required("label_id", pa.int32()),
        _required("label", pa.string()),
        _required("score", pa.float32()),
        _required("evidence", pa.float32()),
        _required("x_min", pa.float32()),
        _required("y_min", pa.float32()),
        _required("x_max", pa.float32()),
        _required("y_max", pa.float32()),
        _required("n_windows", pa.int32()),
    ]
)

GUESSES_SCHEMA: Final = pa.schema(
    [
        _required("image", pa.string()),
        _required("rank", pa.int32()),
        _required("label_id", pa.int32()),
        _required("label", pa.string()),
        _required("score", pa.float32()),
        _required("x_min", pa.float32()),
        _required("y_min", pa.float32()),
        _required("x_max", pa.float32()),
        _required("y_max", pa.float32()),
    ]
)

MANIFEST_SCHEMA: Final = pa.schema(
    [
        _required("slice", pa.int32()),
        _required("image", pa.string()),
        _required("size", pa.int64()),
        _required("etag", pa.string()),
        _required("mtime", pa.float64()),
        # Of members of tars: what makes the manifest their index. Null for whole objects.
        pa.field("offset", pa.int64()),
    ]
)

UPDATE_SCHEMA: Final = MANIFEST_SCHEMA.append(_required("todo", pa.bool_()))
"""Of later generations of the manifest: `todo` is false for images whose rows are kept."""

KEYS: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        IMAGES: ("image",),
        BOXES: ("image", "box"),
        GUESSES: ("image", "rank"),
        FEATURES: ("image", "scale", "row", "col"),
    }
)
"""What the rows of each table are sorted by."""


def features_schema(channels: int) -> pa.Schema:
    """Lay out the `features` table of a run.

    Args:
        channels: Numbers in a vector: those of the run's one layer.

    Returns:
        The columns.
    """
    return pa.schema(
        [
            _required("image", pa.string()),
            _required("scale", pa.int32()),
            _required("row", pa.int32()),
            _required("col", pa.int32()),
            _required("vector", pa.list_(pa.float32(), channels)),
        ]
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Provenance:
    """Which run a file belongs to."""

    fingerprint: str
    """Of the settings that decide the rows."""
    generation: int
    """Of the manifest that the slice was done for."""


def slice_name(number: int, suffix: str = ".parquet") -> str:
    """Name an object of a slice, the same in every folder and every attempt.

    Args:
        number: The slice's number.
        suffix: Ending that says what kind of object it is.

    Returns:
        Such as `slice-000000.parquet`.
    """
    return f"slice-{number:06d}{suffix}"


def slice_number(name: str, suffix: str = ".parquet") -> int | None:
    """Read the slice's number from an object's name: the inverse of `slice_name`.

    Args:
        name: Name without its folder.
        suffix: Ending that it must have.

    Returns:
        The number; None for another object.
    """
    digits = name.removeprefix("slice-").removesuffix(suffix)
    is_slice = digits.isdecimal() and name == slice_name(int(digits), suffix)
    return int(digits) if is_slice else None


def encode_table(table: pa.Table, schema: pa.Schema, provenance: Provenance, **notes: str) -> bytes:
    """Write a table as the bytes of a Parquet file.

    Args:
        table: Rows, in their final order.
        schema: The contract; a column that does not fit is an error, never widened.
        provenance: Which run it belongs to.
        **notes: More entries for the file's metadata.

    Returns:
        The file; its metadata hold a digest of its rows, too.
    """
    metadata = {
        "schema_version": SCHEMA_VERSION,
        "fingerprint": provenance.fingerprint,
        "generation": str(provenance.generation),
        **notes,
    }
    exact = table.select(schema.names).cast(schema).replace_schema_metadata(metadata)
    groups = max(1, math.ceil(exact.nbytes / _GROUP_BYTES))
    sink = io.BytesIO()
    with pq.ParquetWriter(
        sink, exact.schema, compression="zstd", use_dictionary=choose_dictionaries(schema)
    ) as writer:
        writer.write_table(exact, row_group_size=max(1, math.ceil(len(exact) / groups)))
        with sink.getbuffer() as written:
            digest, start = hashlib.blake2b(written, digest_size=_DIGEST_BYTES), len(written)
        rows = digest.hexdigest()
        writer.add_key_value_metadata({ROWS_NOTE: rows, _FILE_NOTE: rows[::-1]})
    with sink.getbuffer() as whole:
        footer = bytes(whole[start:])
        digest.update(footer)
        whole[start:] = footer.replace(rows[::-1].encode(), digest.hexdigest().encode())
    return sink.getvalue()


def choose_dictionaries(schema: pa.Schema) -> Any:  # noqa: ANN401 (the stubs know no names there)
    """Choose the columns in which repeated values are looked for.

    Args:
        schema: Of a table.

    Returns:
        What a Parquet writer takes as `use_dictionary`.
    """
    vectors = {field.name for field in schema if pa.types.is_fixed_size_list(field.type)}
    # Vectors hardly repeat: 270 MB took 2.2 s with the search and 0.7 s without (measured).
    return [name for name in schema.names if name not in vectors] if vectors else True


def read_table(uri: str) -> pa.Table:
    """Read one table file.

    Args:
        uri: The file.

    Returns:
        Its rows.

    Raises:
        DamagedTableError: If it is missing or damaged.
    """
    return decode_table(uri, load_table(uri))


def load_table(uri: str) -> bytes:
    """Read the bytes of one table file.

    Args:
        uri: The file.

    Returns:
        The file.

    Raises:
        DamagedTableError: If it is missing.
    """
    with _explained(uri):
        return storage.read_bytes(uri)


def decode_table(uri: str, data: bytes) -> pa.Table:
    """Read the bytes of one table file.

    Args:
        uri: Where they are from.
        data: The file.

    Returns:
        Its rows.

    Raises:
        DamagedTableError: If it is damaged.
    """
    with _explained(uri):
        # Not `read_table`, which takes a millisecond to plan a scan of one small file (measured).
        return pq.ParquetFile(pa.BufferReader(data)).read()


def read_notes(uri: str) -> Mapping[str, str]:
    """Read the metadata of one table file, without its rows.

    Args:
        uri: The file.

    Returns:
        What `encode_table` put there.

    Raises:
        DamagedTableError: If it is missing or damaged.
    """
    for _ in range(_REPLACED_TIMES):
        # Whoever puts it again, as an update does with receipts, puts all of it.
        with suppress(ObjectChangedError):
            return _read_notes(uri)
    return _read_notes(uri)


def _read_notes(uri: str) -> Mapping[str, str]:
    with _explained(uri), storage.open_range_reader(uri) as file:
        return _decode_notes(pq.ParquetFile(file))


def count_rows(uri: str) -> int:
    """Count the rows of one table file, without reading them.

    Args:
        uri: The file.

    Returns:
        As its footer has it.

    Raises:
        DamagedTableError: If it is missing or damaged.
    """
    with _explained(uri), storage.open_range_reader(uri) as file:
        return int(pq.ParquetFile(file).metadata.num_rows)


def check_rows(uri: str, data: bytes) -> None:
    """Make sure that a table file is the one that was written: one flipped bit is seen.

    Args:
        uri: Where it is from.
        data: The file.

    Raises:
        DamagedTableError: If it is not.
    """
    notes = decode_notes(uri, data)
    start = len(data) - 8 - int.from_bytes(data[-8:-4], "little")
    with memoryview(data)[:start] as written:
        digest = hashlib.blake2b(written, digest_size=_DIGEST_BYTES)
    rows, file = digest.hexdigest(), notes.get(_FILE_NOTE, "")
    digest.update(data[start:].replace(file.encode(), rows[::-1].encode()))
    if (notes.get(ROWS_NOTE), file) != (rows, digest.hexdigest()):
        raise DamagedTableError(f"{uri}: is not as it was written; something damaged it")


def decode_notes(uri: str, data: bytes) -> Mapping[str, str]:
    """Read the metadata of the bytes of one table file.

    Args:
        uri: Where they are from.
        data: The file.

    Returns:
        What `encode_table` put there.

    Raises:
        DamagedTableError: If it is damaged.
    """
    with _explained(uri):
        return _decode_notes(pq.ParquetFile(pa.BufferReader(data)))


def _decode_notes(file: pq.ParquetFile) -> Mapping[str, str]:
    metadata = file.metadata.metadata or {}
    notes = {key.decode(): value.decode() for key, value in metadata.items()}
    notes.pop(_ARROW_NOTE, None)
    return notes


class DamagedTableError(StorageError):
    """A table file is missing, or is none of this program."""


@contextmanager
def _explained(uri: str) -> Iterator[None]:
    """Tell what is wrong with a table file.

    Raises:
        DamagedTableError: If it is missing or damaged.
    """
    try:
        yield
    except FileNotFoundError:
        raise DamagedTableError(f"{uri}: missing; something deleted a part of the run") from None
    # Of a damaged footer Arrow says OSError; and its words may be no text any more.
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        words = " ".join(str(error).split())
        raise DamagedTableError(f"{uri}: not a table of this program ({words})") from error
