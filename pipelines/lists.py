"""What does a list of URIs name? Text, a line each, or Parquet; an S3 Inventory in Parquet, too.

Both are streamed: reading a list of a hundred million lines takes no more memory than a short one.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import PurePosixPath
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines import storage
from pipelines.errors import InputError
from pipelines.storage import ObjectInfo

LIST_SUFFIXES: Final = (".txt", ".parquet")
"""An `--images` that ends so is a list of URIs: a line each, or the column `image`."""
_BATCH_ROWS: Final = 65_536
_NOT_UTF8: Final = re.compile(r"[\udc80-\udcff]")
"""What is decoded from bytes that are none."""
_LARGEST_SIZE: Final = 2**63 - 1
_INVENTORY: Final = ("bucket", "key")
"""Columns that every S3 Inventory has."""


def is_list(images: str) -> bool:
    """Say whether a list of URIs is named.

    Args:
        images: As the user named them.

    Returns:
        Whether it is. A folder of such a name is none: that of an object store is told by a slash
        at its end, a local one by a look at the disk.
    """
    return images.lower().endswith(LIST_SUFFIXES) and not _is_local_folder(images)


@contextmanager
def refuse_changes(uri: str) -> Iterator[None]:
    """Make sure that a list stays as it is while the body reads it.

    What is read of another store is of one version; a local list may be written over meanwhile, and
    the rest of its images would count as gone.

    Args:
        uri: Of the list.

    Yields:
        Nothing.

    Raises:
        InputError: If it is another one by then, whatever the body found wrong with it.
    """
    before = _find_version(uri)
    try:
        yield
    except InputError:
        _check_same(uri, before)
        raise
    _check_same(uri, before)


def is_inventory(uri: str) -> bool:
    """Say whether a list is an S3 Inventory: by its columns, if it is Parquet.

    Args:
        uri: Of the list.

    Returns:
        Whether it is.

    Raises:
        InputError: If it cannot be read.
    """
    if not _is_parquet(uri):
        return False
    with _open_table(uri) as table:
        names = table.schema_arrow.names
    return "image" not in names and set(_INVENTORY) <= set(names)


def iter_list(uri: str) -> Iterator[tuple[int, ObjectInfo]]:
    """Stream the entries of a list, with size and etag where they are told.

    Args:
        uri: Of the list.

    Yields:
        The number of a line or row, from 1, and what it names.

    Raises:
        InputError: If it cannot be read, or is none.
    """
    yield from _parquet_entries(uri) if _is_parquet(uri) else _text_entries(uri)


def iter_inventory(uri: str) -> Iterator[tuple[int, ObjectInfo]]:
    """Stream the objects of an S3 Inventory: newest versions alone, and no delete markers.

    In Parquet keys are as they are; in CSV they would be URL-encoded, which is not read here.

    Args:
        uri: Of one of its data files.

    Yields:
        The number of a row, from 1, and the object, as a listing shows it.

    Raises:
        InputError: If it cannot be read.
    """
    columns = (*_INVENTORY, "size", "e_tag", "is_latest", "is_delete_marker")
    for number, row in _iter_rows(uri, columns):
        if row.get("is_latest") is False or row.get("is_delete_marker"):
            continue
        bucket, key = (_take_text(uri, number, row, name) for name in _INVENTORY)
        # A key is literal: what looks like a query string there is none.
        found = storage.resolve_uri(f"s3://{bucket}/") + key
        yield number, _describe(uri, number, found, row.get("size"), row.get("e_tag"))


def _text_entries(uri: str) -> Iterator[tuple[int, ObjectInfo]]:
    _check_there(uri)
    try:
        with (
            storage.open_range_reader(uri) as file,
            # A line ends at \n alone; what is not UTF-8 is found line by line.
            io.TextIOWrapper(file, "utf-8-sig", "surrogateescape", newline="\n") as lines,
        ):
            for number, line in enumerate(lines, start=1):
                if _NOT_UTF8.search(line):
                    raise InputError(
                        f"list {uri}, entry {number}: not UTF-8 text; give one URI a line"
                    )
                # A name may begin or end with a space: only the line's end is none of it.
                entry = line.rstrip("\r\n")
                if entry.strip():
                    yield number, ObjectInfo(uri=_resolve(uri, number, entry))
    except FileNotFoundError:
        raise InputError(_say_missing(uri)) from None


def _parquet_entries(uri: str) -> Iterator[tuple[int, ObjectInfo]]:
    for number, row in _iter_rows(uri, ("image", "size", "etag")):
        name = _resolve(uri, number, _take_text(uri, number, row, "image"))
        yield number, _describe(uri, number, name, row.get("size"), row.get("etag"))


def _resolve(uri: str, number: int, entry: str) -> str:
    """What an entry names; a relative path may begin with a space.

    Raises:
        InputError: If it is an indented URI or absolute path rather.
    """
    name = entry.lstrip()
    if name != entry and (name.startswith("/") or "://" in name):
        raise InputError(
            f"list {uri}, entry {number}: {entry!r} begins with a space, expected a URI or a path "
            "as it is; write it without, or a name that begins so with ./ before it"
        )
    return storage.resolve_uri(entry)


def _describe(uri: str, number: int, name: str, size: int | None, etag: str | None) -> ObjectInfo:
    """An object as a list tells of it.

    Raises:
        InputError: If it cannot have that size.
    """
    if not 0 <= (size or 0) <= _LARGEST_SIZE:
        raise InputError(
            f"list {uri}, entry {number}: the column size holds {size}, expected bytes from 0 on; "
            "correct it, or leave the column out"
        )
    # The S3 API has etags in quotes.
    return ObjectInfo(uri=name, size=size or 0, etag=(etag or "").strip('"'))


def _take_text(uri: str, number: int, row: dict[str, Any], column: str) -> str:
    """What a row names.

    Raises:
        InputError: If it names nothing.
    """
    name = row[column]
    if not isinstance(name, str):
        raise InputError(
            f"list {uri}, entry {number}: the column {column} holds {name!r}, expected "
            f"{'a URI' if column == 'image' else f'the {column} of an object'}; leave the row out, "
            "or name an object"
        )
    return name


def _iter_rows(uri: str, columns: tuple[str, ...]) -> Iterator[tuple[int, dict[str, Any]]]:
    """The rows of a Parquet list by their numbers from 1: the columns of these that it has.

    Raises:
        InputError: If it lacks what names an object, or a column is of another kind.
    """
    with _open_table(uri) as table:
        schema = table.schema_arrow
        if columns[0] not in schema.names:
            raise InputError(
                f"list {uri}: columns {', '.join(schema.names)}; expected one named image, or "
                "bucket and key as an S3 Inventory has them"
            )
        known = [name for name in columns if name in schema.names]
        for name in known:
            if schema.names.count(name) > 1:
                raise InputError(f"list {uri}: has several columns named {name}; leave one")
            _check_kind(uri, name, schema.field(name).type)
        batches = table.iter_batches(_BATCH_ROWS, columns=known)
        number = 0
        for batch in batches:
            for row in batch.to_pylist():
                number += 1
                yield number, row


def _check_kind(uri: str, column: str, kind: pa.DataType) -> None:
    """Make sure that a column holds what its name says; what names objects is seen row by row.

    Raises:
        InputError: If it does not.
    """
    value = kind.value_type if pa.types.is_dictionary(kind) else kind
    if column == "size":
        is_fit, expected = pa.types.is_integer(value), "whole numbers of bytes"
    elif column.startswith("is_"):
        is_fit, expected = pa.types.is_boolean(value), "true or false"
    elif column in {"etag", "e_tag"}:
        is_fit = pa.types.is_string(value) or pa.types.is_large_string(value)
        expected = "text"
    else:
        return
    if not is_fit and not pa.types.is_null(value):
        raise InputError(
            f"list {uri}: the column {column} is of the type {kind}, expected {expected}; convert "
            "it, or leave it out"
        )


@contextmanager
def _open_table(uri: str) -> Iterator[pq.ParquetFile]:
    """Open a Parquet list.

    Raises:
        InputError: If it is missing, or none.
    """
    _check_there(uri)
    try:
        with storage.open_range_reader(uri) as file:
            yield pq.ParquetFile(file)
    except FileNotFoundError:
        raise InputError(_say_missing(uri)) from None
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise InputError(f"list {uri}: not a Parquet file ({error}); write it anew") from None


def _find_version(uri: str) -> ObjectInfo | None:
    return storage.find_object(uri) if storage.is_local(uri) else None


def _check_same(uri: str, before: ObjectInfo | None) -> None:
    """Refuse a list that was written to.

    Raises:
        InputError: If it is not as it was before.
    """
    if _find_version(uri) != before:
        raise InputError(
            f"list {uri}: changed while it was read, expected one that stays as it is; run the "
            "same command again once it is whole"
        )


def _is_local_folder(images: str) -> bool:
    try:
        return storage.is_local(images) and storage.local_path(images).is_dir()
    except OSError:
        # Whoever reads it as a list is told what is wrong with it.
        return False


def _check_there(uri: str) -> None:
    """Refuse what is no object; a folder may be called like a list.

    Raises:
        InputError: If it is none.
    """
    if storage.find_object(uri) is None:
        raise InputError(_say_missing(uri))


def _say_missing(uri: str) -> str:
    return f"list {uri}: no such object; give a text or Parquet list, or end a folder's name with /"


def _is_parquet(uri: str) -> bool:
    return PurePosixPath(uri).suffix.lower() == ".parquet"
