"""Does the copy of a run hold the same rows in few large files, or not claim to be one?"""

from __future__ import annotations

import hashlib
import itertools
import tempfile
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines import compact as compact_module
from pipelines import copy_file, storage
from pipelines.compact import CompactConfig, compact
from pipelines.errors import InputError, StorageError
from pipelines.storage import ObjectInfo
from pipelines.tables import BOXES, FEATURES, GUESSES, IMAGES, read_notes, read_table, slice_name
from tests.builders import list_all, read_rows
from tests.pipelines.manifest.written import write_later
from tests.pipelines.whole_run import SCHEMAS, write_slice_table, write_whole_run

FEW = settings(max_examples=8, deadline=None, derandomize=True)


@pytest.fixture
def run(tmp_path):
    return write_whole_run(str(tmp_path / "run"), [5, 4, 0, 6, 1])


def copy_run(output, to, **options):
    return compact(CompactConfig(output=str(output), to=str(to), **options))


def fingerprints(root):
    """Name and bytes of everything below a root, what is hidden too."""
    uris = (info.uri for info in storage.iter_objects(root))
    return {uri: hashlib.sha256(storage.read_bytes(uri)).hexdigest() for uri in uris}


def file_names(root, table):
    return sorted(storage.list_names(storage.join_uri(str(root), table)))


def test_the_copy_has_the_same_rows_in_the_same_order(store_root):
    output, to = storage.join_uri(store_root, "run"), storage.join_uri(store_root, "copy")
    write_whole_run(output, [5, 4, 0, 6, 1])
    report = copy_run(output, to)
    for table in (IMAGES, BOXES):
        assert read_rows(to, table).equals(read_rows(output, table)), table
    assert report.to == to
    assert report.rows == {"boxes": 48, "images": 16}
    assert report.files == {"boxes": 1, "images": 1}


def test_every_table_of_a_run_is_copied(tmp_path):
    tables = (IMAGES, BOXES, GUESSES, FEATURES)
    output = write_whole_run(str(tmp_path / "run"), [3, 2], tables=tables)
    copy_run(output, tmp_path / "copy")
    for table in tables:
        copied = read_rows(str(tmp_path / "copy"), table)
        assert copied.equals(read_rows(output, table)), table
        assert len(copied)


def test_tables_that_the_run_does_not_have_are_absent(tmp_path):
    output = write_whole_run(str(tmp_path / "run"), [3, 2], tables=(IMAGES, FEATURES))
    report = copy_run(output, tmp_path / "copy")
    assert report.rows.keys() == {"images", "features"}
    assert list_all(report.to) == [
        "features/part-00000.parquet", "images/part-00000.parquet", "run.json",
    ]  # fmt: skip


def test_small_files_make_several(run, tmp_path):
    report = copy_run(run, tmp_path / "copy", file_bytes=1)
    # A slice is never cut, however large.
    assert report.files == {"boxes": 5, "images": 5}
    assert file_names(report.to, IMAGES) == [f"part-0000{n}.parquet" for n in range(5)]
    assert read_rows(report.to, IMAGES).equals(read_rows(run, IMAGES))


def test_files_become_about_as_large_as_asked(tmp_path):
    tables = (IMAGES, FEATURES)
    output = write_whole_run(str(tmp_path / "run"), [40] * 30, tables=tables)
    wanted = 20_000
    report = copy_run(output, tmp_path / "copy", file_bytes=wanted)
    sizes = [path.stat().st_size for path in sorted(Path(report.to, FEATURES).iterdir())]
    assert len(sizes) == report.files["features"] > 3
    assert all(wanted / 2 < size < wanted * 1.5 for size in sizes[:-1])


def test_pandas_reads_the_copy_as_it_reads_the_run(run, tmp_path):
    copy_run(run, tmp_path / "copy", file_bytes=2_000)
    for table in (IMAGES, BOXES):
        frames = [pd.read_parquet(Path(root, table)) for root in (run, tmp_path / "copy")]
        pd.testing.assert_frame_equal(*frames)
    assert len(frames[0]) == 48


def test_a_query_engine_reads_only_the_rows_that_it_wants(run, tmp_path):
    copy_run(run, tmp_path / "copy", file_bytes=1)
    boxes = ds.dataset(tmp_path / "copy" / "boxes", format="parquet")
    wanted = ds.field("image") == "s3://b/003-002.jpg"
    assert boxes.count_rows() == 48
    assert boxes.to_table(filter=wanted)["box"].to_pylist() == [0, 1, 2]
    # Slices are sorted by image: the statistics leave one file of five.
    groups = [
        group for piece in boxes.get_fragments() for group in piece.split_by_row_group(wanted)
    ]
    assert len(groups) == 1


@pytest.mark.parametrize("table", SCHEMAS)
def test_schemas_and_nullability_are_kept(tmp_path, table):
    output = write_whole_run(str(tmp_path / "run"), [3, 0], tables=(IMAGES, table))
    copy_run(output, tmp_path / "copy")
    (path,) = (tmp_path / "copy" / table).iterdir()
    schema = pq.read_schema(path)
    assert schema.equals(SCHEMAS[table])
    assert [field.nullable for field in schema] == [field.nullable for field in SCHEMAS[table]]


def test_the_metadata_are_of_the_run(run, tmp_path):
    write_later(run, 1, [(2, [])], slices_of_run=5)
    for table in (BOXES, IMAGES):
        write_slice_table(run, table, 2, [], generation=1)
    copy_run(run, tmp_path / "copy")
    for table in (BOXES, IMAGES):
        metadata = pq.read_schema(tmp_path / "copy" / table / "part-00000.parquet").metadata
        # Counts are of one slice: nobody may take them for the whole.
        assert metadata.pop(b"copied")
        assert metadata == {b"schema_version": b"1", b"fingerprint": b"f", b"generation": b"1"}


def test_a_table_without_a_row_is_copied_with_its_columns(tmp_path):
    output = write_whole_run(str(tmp_path / "run"), [2, 1], boxes_per_image=0)
    report = copy_run(output, tmp_path / "copy")
    assert (report.rows["boxes"], report.files["boxes"]) == (0, 1)
    assert list(pd.read_parquet(tmp_path / "copy" / "boxes")) == SCHEMAS[BOXES].names


def test_large_tables_are_cut_into_row_groups_of_several_slices(tmp_path, monkeypatch):
    output = write_whole_run(str(tmp_path / "run"), [10] * 12)
    monkeypatch.setattr(copy_file, "_GROUP_ROWS", 25)
    copy_run(output, tmp_path / "copy")
    images, boxes = (
        pq.ParquetFile(tmp_path / "copy" / table / "part-00000.parquet").metadata
        for table in (IMAGES, BOXES)
    )
    rows = [[of.row_group(n).num_rows for n in range(of.num_row_groups)] for of in (images, boxes)]
    assert rows == [[30] * 4, [30] * 12]


def test_vectors_are_cut_by_their_bytes(tmp_path, monkeypatch):
    output = write_whole_run(str(tmp_path / "run"), [30] * 4, tables=(IMAGES, FEATURES))
    monkeypatch.setattr(copy_file, "_GROUP_BYTES", 1_000)
    copy_run(output, tmp_path / "copy")
    file = pq.ParquetFile(tmp_path / "copy" / "features" / "part-00000.parquet")
    assert 8 < file.num_row_groups < 20
    assert file.read().equals(read_rows(output, FEATURES))
    group = file.metadata.row_group(0)
    assert "RLE_DICTIONARY" not in group.column(group.num_columns - 1).encodings


@FEW
@given(
    sizes=st.lists(st.integers(0, 7), min_size=1, max_size=8),
    file_bytes=st.integers(1, 20_000),
    group_rows=st.integers(1, 30),
    read_files=st.integers(1, 4),
)
def test_however_it_is_cut_no_row_is_lost(sizes, file_bytes, group_rows, read_files):
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(copy_file, "_GROUP_ROWS", group_rows)
        patch.setattr(compact_module, "_READ_FILES", read_files)
        output = write_whole_run(f"{folder}/run", sizes, tables=(IMAGES, GUESSES))
        report = copy_run(output, f"{folder}/copy", file_bytes=file_bytes)
        for table in (IMAGES, GUESSES):
            copied = read_rows(report.to, table)
            assert copied.equals(read_rows(output, table))
            assert report.rows[table] == len(copied)
            assert report.files[table] == len(file_names(report.to, table))


def test_the_run_itself_is_untouched(store_root):
    output = write_whole_run(storage.join_uri(store_root, "run"), [3, 2])
    before, listed = fingerprints(output), list(storage.iter_objects(output))
    copy_run(output, storage.join_uri(store_root, "copy"))
    assert fingerprints(output) == before
    assert list(storage.iter_objects(output)) == listed


def test_a_table_that_is_gone_as_a_whole_is_told(run, tmp_path):
    storage.delete(info.uri for info in storage.iter_objects(f"{run}/boxes"))
    with pytest.raises(StorageError, match=r"boxes/slice-000000\.parquet is missing"):
        copy_run(run, tmp_path / "copy")
    assert not (tmp_path / "copy" / "run.json").exists()


@pytest.mark.parametrize("document", [b"", b"[]", b'{"settings": 1}', b'{"name": "a server"}'])
def test_what_is_no_run_is_refused(run, tmp_path, document):
    storage.write_bytes(f"{run}/run.json", document)
    with pytest.raises(InputError, match=r"its run\.json is not that of an annotation run"):
        copy_run(run, tmp_path / "copy")


def test_run_json_is_copied_byte_for_byte_and_last(run, tmp_path, monkeypatch):
    written = []
    write = storage.write_bytes

    def watch(uri, data, **options):
        written.append(storage.relative_to(uri, str(tmp_path / "copy")))
        write(uri, data, **options)

    monkeypatch.setattr(storage, "write_bytes", watch)
    copy_run(run, tmp_path / "copy")
    assert written == ["boxes/part-00000.parquet", "images/part-00000.parquet", "run.json"]
    assert (tmp_path / "copy" / "run.json").read_bytes() == Path(run, "run.json").read_bytes()


class KilledError(BaseException):
    """The process ends here."""


def kill_at(monkeypatch, count):
    """Let the process die before its write number COUNT."""
    write, calls = storage.write_bytes, itertools.count()

    def write_or_die(uri, data, **options):
        if next(calls) == count:
            raise KilledError
        write(uri, data, **options)

    monkeypatch.setattr(storage, "write_bytes", write_or_die)


@pytest.mark.parametrize("count", range(11))
def test_a_copy_cut_short_is_none_and_the_same_command_makes_it_anew(
    run, tmp_path, monkeypatch, count
):
    whole = copy_run(run, tmp_path / "whole", file_bytes=1)
    with monkeypatch.context() as patch:
        kill_at(patch, count)
        with pytest.raises(KilledError):
            copy_run(run, tmp_path / "copy", file_bytes=1)
    assert not (tmp_path / "copy" / "run.json").exists()
    copy_run(run, tmp_path / "copy", file_bytes=1)
    copies = [fingerprints(str(tmp_path / name)) for name in ("copy", "whole")]
    names = [{uri.rpartition("/")[2]: digest for uri, digest in of.items()} for of in copies]
    assert names[0] == names[1]
    assert sum(whole.files.values()) + 1 == len(copies[0])


def test_files_of_a_copy_cut_short_beyond_the_last_one_are_deleted(run, tmp_path, monkeypatch):
    """Made with smaller files, or of a run with more tables."""
    other = write_whole_run(str(tmp_path / "other"), [2] * 3, tables=(IMAGES, FEATURES))
    with monkeypatch.context() as patch:
        kill_at(patch, 5)
        with pytest.raises(KilledError):
            copy_run(other, tmp_path / "copy", file_bytes=1)
    assert file_names(tmp_path / "copy", FEATURES) == [f"part-0000{n}.parquet" for n in range(3)]
    report = copy_run(run, tmp_path / "copy")
    assert report.rows == {"boxes": 48, "images": 16}
    assert list_all(report.to) == [
        "boxes/part-00000.parquet", "images/part-00000.parquet", "run.json",
    ]  # fmt: skip


@pytest.mark.parametrize("receipt", ["../gone", slice_name(7), None])
def test_a_run_that_is_not_finished_is_refused(run, tmp_path, receipt):
    if receipt:
        Path(run, "images", slice_name(3)).rename(Path(run, "images", receipt))
    else:
        write_later(run, 1, [(1, [ObjectInfo(uri="s3://b/x")])], slices_of_run=5)
    with pytest.raises(InputError, match=r"1 of 5 slices are not committed.* slice \d; finish"):
        copy_run(run, tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


def test_where_no_run_is_there_is_nothing_to_copy(store_root):
    absent, to = storage.join_uri(store_root, "absent"), storage.join_uri(store_root, "copy")
    with pytest.raises(InputError, match="no run there"):
        copy_run(absent, to)


@pytest.mark.parametrize("inside", ["", "/", "/copy", "/images", "/../run/copy"])
def test_a_copy_inside_the_run_is_refused(run, inside):
    before = fingerprints(run)
    with pytest.raises(InputError, match="lies inside the run"):
        copy_run(run, f"{run}{inside}")
    assert fingerprints(run) == before


def test_a_copy_beside_a_run_whose_name_begins_alike_is_none_inside_it(run):
    assert copy_run(run, f"{run}-copy").rows["images"] == 16


def test_a_copy_that_is_there_is_left_alone(store_root):
    output = write_whole_run(storage.join_uri(store_root, "run"), [3, 2])
    to = storage.join_uri(store_root, "copy")
    first, before = copy_run(output, to), fingerprints(to)
    assert copy_run(output, to) == replace(first, is_new=False)
    assert fingerprints(to) == before


@pytest.mark.parametrize(
    "name",
    [
        "images/slice-000000.parquet",
        "images/photo.jpg",
        "boxes/part-00000-6a1c-c000.snappy.parquet",
        "features/notes.txt",
    ],
)
def test_a_folder_with_something_else_is_left_alone(run, tmp_path, name):
    path = tmp_path / "copy" / name
    path.parent.mkdir(parents=True)
    path.write_bytes(b"somebody's")
    with pytest.raises(InputError, match=f"{path.name} is there; choose another folder"):
        copy_run(run, tmp_path / "copy")
    assert list_all(str(tmp_path / "copy")) == [name]


def test_a_table_of_which_a_slice_is_missing_is_told(run, tmp_path):
    Path(run, "boxes", slice_name(3)).unlink()
    with pytest.raises(StorageError, match=r"boxes/slice-000003\.parquet is missing"):
        copy_run(run, tmp_path / "copy")
    assert not (tmp_path / "copy" / "run.json").exists()


def test_a_damaged_table_is_told(run, tmp_path):
    Path(run, "boxes", slice_name(3)).write_bytes(b"PAR1")
    with pytest.raises(StorageError, match=r"boxes/slice-000003\.parquet: not a table"):
        copy_run(run, tmp_path / "copy")
    assert not (tmp_path / "copy" / "run.json").exists()


def test_a_flipped_bit_is_not_copied(run, tmp_path):
    path = Path(run, "boxes", slice_name(3))
    data = bytearray(path.read_bytes())
    data[data.index(read_notes(str(path))["fingerprint"].encode())] ^= 1
    path.write_bytes(data)
    read_table(str(path))
    with pytest.raises(StorageError, match=r"slice-000003\.parquet: is not as it was written"):
        copy_run(run, tmp_path / "copy")


def test_an_update_that_begins_meanwhile_spoils_the_copy(run, tmp_path, monkeypatch):
    """Its first slices may have been copied with boxes of before and images of after."""
    write, calls = storage.write_bytes, itertools.count()

    def begin_an_update(uri, data, **options):
        if next(calls) == 1:
            monkeypatch.undo()
            write_later(run, 1, [(1, [ObjectInfo(uri="s3://b/x")])], slices_of_run=5)
        write(uri, data, **options)

    monkeypatch.setattr(storage, "write_bytes", begin_an_update)
    with pytest.raises(StorageError, match="an update began while it was copied"):
        copy_run(run, tmp_path / "copy")
    assert not (tmp_path / "copy" / "run.json").exists()


def test_slices_are_read_several_at_once_and_no_more_than_fit(tmp_path, monkeypatch):
    output = write_whole_run(str(tmp_path / "run"), [3] * 10, tables=(IMAGES,))
    read, batches = storage.read_objects, []

    def watch(objects, **options):
        batches.append(len(objects))
        return read(objects, **options)

    monkeypatch.setattr(storage, "read_objects", watch)
    monkeypatch.setattr(compact_module, "_READ_FILES", 4)
    copy_run(output, tmp_path / "one")
    monkeypatch.setattr(compact_module, "_READ_BYTES", 1)
    copy_run(output, tmp_path / "other")
    assert batches == [4, 4, 2] + [1] * 10


def test_a_file_of_no_size_is_refused():
    with pytest.raises(InputError, match="--file-bytes: received 0, expected at least 1"):
        CompactConfig(output="a", to="b", file_bytes=0)
