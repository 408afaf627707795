"""A finished run's tables as a few large files, laid out for queries; the run itself is untouched.

    images/part-00000.parquet, boxes/part-00000.parquet, ..., run.json

The rows are the same, in the order of the slices. Each file is written whole, `run.json` last: a
copy that was cut short has none, and the same command makes it anew. One copy at a time goes to a
folder: it is held by a lease, as a run is.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import pyarrow as pa

from pipelines import receipts, storage
from pipelines.copies import (
    ANNOTATE_AGAIN,
    COPIED_NOTE,
    CopyContents,
    RunRows,
    copy_name,
    is_copy,
    read_copy,
    sum_up_rows,
)
from pipelines.copy_file import GrowingFile
from pipelines.errors import ImageError, InputError, StorageError
from pipelines.lease import Lease
from pipelines.manifest import Manifest, open_manifest, read_summary
from pipelines.progress import Progress
from pipelines.storage import ObjectInfo, Seen
from pipelines.tables import (
    IMAGES,
    ROWS_NOTE,
    RUN_FILE,
    TABLE_OF_TASK,
    TABLES,
    DamagedTableError,
    check_rows,
    decode_notes,
    decode_table,
    slice_name,
)

_READ_FILES: Final = 64
"""Slices read at once (assumed: hides an object store's latency)."""
_READ_BYTES: Final = 64 * 2**20
"""Where a table's slices are larger than a part of this, fewer are read at once."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CompactConfig:
    """Which run, and where its copy goes."""

    output: str
    """The run: a local path or a URI."""
    to: str
    """Folder for the copy: a local path or a URI."""
    file_bytes: int = 256 * 2**20
    """About how large a file becomes, in bytes."""

    def __post_init__(self) -> None:
        if self.file_bytes < 1:
            raise InputError(f"--file-bytes: received {self.file_bytes}, expected at least 1")


@dataclass(frozen=True, kw_only=True, slots=True)
class CompactReport:
    """What was copied."""

    to: str
    """Where the copy is."""
    rows: dict[str, int]
    """Rows of each table."""
    files: dict[str, int]
    """Files of each table."""
    is_new: bool
    """Whether this command made it."""


def compact(config: CompactConfig) -> CompactReport:
    """Copy a finished run's tables as few large files; a copy that stands already is left alone.

    Args:
        config: Which run, and where to.

    Returns:
        What was copied.

    Raises:
        InputError: If there is no run, it is not finished, the folder holds something else, or
            another copy to it is at work.
        StorageError: If a store refused or failed for good, or the run or the copy was changed
            meanwhile.
        PipelineError: If another copy took the folder over.
    """
    output, to = storage.resolve_uri(config.output), storage.resolve_uri(config.to)
    manifest = _open_finished(output)
    run = storage.read_bytes(storage.join_uri(output, RUN_FILE))
    tables, wanted = _list_tables(output, run), sum_up_rows(manifest)

    def find() -> CompactReport | None:
        there = read_copy(to, run, wanted, tables)
        return None if there is None else _report(to, there, is_new=False)

    # Nothing is written, not even a lease, into a folder that is refused.
    _refuse_inside(output, to)
    if (done := find()) is not None:
        return done
    _check_target(to)
    with Lease(to, what="copy") as lease:
        # Looked at again: another copy may have ended meanwhile.
        if (done := find()) is not None:
            return done
        copy = _Copy(to, lease)
        copy.clear(_check_target(to))
        notes = {"generation": str(manifest.summary.generation), COPIED_NOTE: wanted.digest}
        rows = {
            table: _copy_table(
                table, _list_files(output, table, wanted), copy, notes, config.file_bytes
            )
            for table in tables
        }
        # An update writes its manifest before it touches a slice.
        if read_summary(output) != manifest.summary:
            raise StorageError(f"{output}: an update began while it was copied; let it end first")
        copy.finish(run)
    files = {name: len(copy.sizes[name]) for name in tables}
    return _report(to, CopyContents(rows=rows, files=files), is_new=True)


def _report(to: str, contents: CopyContents, *, is_new: bool) -> CompactReport:
    return CompactReport(to=to, rows=contents.rows, files=contents.files, is_new=is_new)


class _Copy:
    """The copy in its folder, while it is made by who holds the lease."""

    def __init__(self, to: str, lease: Lease) -> None:
        self._to = to
        self._lease = lease
        self.sizes: dict[str, dict[str, int]] = {table: {} for table in TABLES}
        """Bytes of each file that was put, by table and name."""

    def clear(self, left: Sequence[str]) -> None:
        """Delete what a copy cut short left behind."""
        for uri in left:
            # Of another copy by now, if this one was paused for so long.
            self._lease.confirm()
            storage.delete([uri])

    def add(self, table: str, data: bytes) -> None:
        """Put the next file of a table."""
        name = copy_name(len(self.sizes[table]))
        self._put(storage.join_uri(self._to, table, name), data)
        self.sizes[table][name] = len(data)

    def finish(self, run: bytes) -> None:
        """Put `run.json`, which says that all is there, once all is.

        Raises:
            StorageError: If other files stand there than were put.
        """
        for table, sizes in self.sizes.items():
            folder = storage.join_uri(self._to, table)
            there = _list_sizes(folder)
            for name in sorted(sizes.keys() | there.keys()):
                if there.get(name) != sizes.get(name):
                    raise StorageError(
                        f"{folder}/{name}: {_say_size(there.get(name))}, expected "
                        f"{_say_size(sizes.get(name))} as this copy put it; end what else writes "
                        "there, then run the same command again"
                    )
        self._put(storage.join_uri(self._to, RUN_FILE), run)

    def _put(self, uri: str, data: bytes) -> None:
        self._lease.confirm()
        # All that stood there was deleted: what stands there now is somebody else's.
        scratch = storage.join_uri(self._to, ".tmp")
        storage.write_bytes(uri, data, scratch=scratch, seen=Seen(etag=None))


def _list_sizes(folder: str) -> dict[str, int]:
    """Bytes of the objects directly in a folder, by name; none if there is no such folder."""
    if not storage.list_names(folder):
        return {}
    sizes = {
        storage.relative_to(info.uri, folder): info.size
        for info in storage.iter_objects(f"{folder}/")
    }
    return {name: size for name, size in sizes.items() if name and "/" not in name}


def _say_size(size: int | None) -> str:
    return "no file" if size is None else f"{size:,} bytes"


def _open_finished(output: str) -> Manifest:
    manifest = open_manifest(output)
    if manifest is None:
        raise InputError(f"--output {output}: no run there, or its manifest is still being written")
    pending = sorted(set(range(manifest.summary.slices)) - receipts.find_committed(manifest))
    if pending:
        raise InputError(
            f"--output {output}: {len(pending):,} of {manifest.summary.slices:,} slices are not "
            f"committed, or have tables of another attempt, first of them slice {pending[0]}; "
            "finish the run first, by the command that began it"
        )
    return manifest


def _list_tables(output: str, run: bytes) -> list[str]:
    """The tables that a run has, by what was asked of its images.

    Raises:
        InputError: If its `run.json` is none.
    """
    try:
        tasks = json.loads(run)["settings"]["tasks"]
        return [*(table for task, table in TABLE_OF_TASK.items() if task in tasks), IMAGES]
    except (ValueError, KeyError, TypeError):
        raise InputError(f"{output}: its {RUN_FILE} is not that of an annotation run") from None


def _refuse_inside(output: str, to: str) -> None:
    """Refuse to mix a copy with the run.

    Raises:
        InputError: If it would be.
    """
    if f"{to.rstrip('/')}/".startswith(f"{output.rstrip('/')}/"):
        raise InputError(f"--to {to}: lies inside the run; choose another folder")


def _check_target(to: str) -> list[str]:
    """Refuse to mix a copy with anything else; find what a copy cut short left there.

    Raises:
        InputError: If something else is there, be it called like a file of a copy.
    """
    if storage.exists(storage.join_uri(to, RUN_FILE)):
        raise InputError(
            f"--to {to}: holds something else than a whole copy of this run as it is now, such as "
            "one from before an update; choose another folder"
        )
    left: list[str] = []
    for table in TABLES:
        for name in sorted(storage.list_names(storage.join_uri(to, table))):
            uri = storage.join_uri(to, table, name)
            if not is_copy(uri):
                raise InputError(f"--to {to}: {table}/{name} is there; choose another folder")
            left.append(uri)
    return left


@dataclass(frozen=True, kw_only=True, slots=True)
class _SliceFile:
    """A slice's file of one table."""

    info: ObjectInfo
    """As it is listed."""
    rows: str
    """Digest of its rows, by the slice's receipt; "" where that does not tell it."""


def _list_files(output: str, table: str, wanted: RunRows) -> list[_SliceFile]:
    """The table's files in the order of the slices.

    Raises:
        StorageError: If one of them is missing.
    """
    folder = storage.join_uri(output, table)
    # Not those of folders below: somebody's copies, perhaps, of the same names.
    there = {storage.relative_to(info.uri, folder): info for info in storage.iter_objects(folder)}
    files = []
    for number, rows in enumerate(wanted.slices[table]):
        name = slice_name(number)
        if name not in there:
            advice = _advise(storage.join_uri(folder, name))
            raise StorageError(f"{output}: {table}/{name} is missing; {advice}")
        files.append(_SliceFile(info=there[name], rows=rows))
    return files


def _advise(uri: str) -> str:
    """What to do about a table's file that its slice's receipt does not answer for."""
    output, _, name = uri.rsplit("/", 2)
    return f"delete {storage.join_uri(output, IMAGES, name)}, {ANNOTATE_AGAIN}"


def _copy_table(
    table: str,
    sources: Sequence[_SliceFile],
    copy: _Copy,
    notes: Mapping[str, str],
    file_bytes: int,
) -> int:
    """Copy one table; returns its rows."""
    rows = 0
    with Progress(len(sources), unit="slices", doing=f"copying {table}") as progress:
        slices = _read_slices(sources, progress)
        for file in _join_slices(slices, notes, file_bytes):
            copy.add(table, file.finish())
            rows += file.rows
    return rows


def _read_slices(
    sources: Sequence[_SliceFile], progress: Progress
) -> Iterator[tuple[pa.Table, int]]:
    """Read tables in their order, several at once, with the bytes that each came from.

    Raises:
        StorageError: If one cannot be read, or is not what was listed.
    """
    for batch in _cut_batches(sources):
        answers = storage.read_objects([source.info for source in batch])
        for source, answer in zip(batch, answers, strict=True):
            uri = source.info.uri
            if isinstance(answer, ImageError):
                raise StorageError(f"{uri}: the table cannot be read: {answer}")
            _check_file(source, answer.data)
            yield decode_table(uri, answer.data), len(answer.data)
            progress.advance(1)


def _check_file(source: _SliceFile, data: bytes) -> None:
    """Make sure that a file has the rows that its slice's receipt answers for.

    Raises:
        StorageError: If it is damaged, or another one.
    """
    uri = source.info.uri
    try:
        check_rows(uri, data)
    except DamagedTableError as error:
        raise StorageError(f"{error}; {_advise(uri)}") from error
    if source.rows not in {"", decode_notes(uri, data)[ROWS_NOTE]}:
        raise StorageError(
            f"{uri}: its rows are not those that the slice's receipt names; if no other command is "
            f"at work on the run, {_advise(uri)}"
        )


def _cut_batches(sources: Sequence[_SliceFile]) -> Iterator[list[_SliceFile]]:
    batch: list[_SliceFile] = []
    size = 0
    for source in sources:
        if batch and (len(batch) == _READ_FILES or size + source.info.size > _READ_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(source)
        size += source.info.size
    yield batch


def _join_slices(
    slices: Iterable[tuple[pa.Table, int]], notes: Mapping[str, str], file_bytes: int
) -> Iterator[GrowingFile]:
    """Join slices until their files are large enough."""
    file: GrowingFile | None = None
    for table, size in slices:
        file = file or GrowingFile(table.schema, notes)
        file.add(table, size)
        if file.size >= file_bytes:
            yield file
            file = None
    if file is not None:
        yield file
