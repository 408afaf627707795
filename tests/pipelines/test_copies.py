"""Is a copy taken for one of the run as it stands, and for nothing else?"""

from __future__ import annotations

import pytest

from pipelines import storage
from pipelines.compact import CompactConfig, compact
from pipelines.copies import CopyContents, is_copy, read_copy
from pipelines.errors import InputError
from pipelines.tables import BOXES, IMAGES, DamagedTableError
from tests.pipelines.manifest.written import write_later
from tests.pipelines.whole_run import write_slice_table, write_whole_run


@pytest.fixture
def run(tmp_path):
    return write_whole_run(str(tmp_path / "run"), [5, 4, 6])


@pytest.fixture
def copy(run, tmp_path):
    to = str(tmp_path / "copy")
    compact(CompactConfig(output=run, to=to, file_bytes=1))
    return to


def read(run, copy, *, tables=(BOXES, IMAGES), generation=0):
    document = storage.read_bytes(storage.join_uri(run, "run.json"))
    return read_copy(copy, document, tables, generation)


def test_a_copy_tells_its_rows_and_files(run, copy):
    contents = CopyContents(rows={"boxes": 45, "images": 15}, files={"boxes": 3, "images": 3})
    assert read(run, copy) == contents


def test_a_folder_without_a_run_or_with_another_is_no_copy(run, copy, tmp_path):
    assert read(run, str(tmp_path / "nothing")) is None
    storage.write_bytes(f"{copy}/run.json", b"{}")
    assert read(run, copy) is None


def test_a_copy_that_lacks_a_table_is_none_of_the_run(run, copy):
    assert read(run, copy, tables=(BOXES, "features", IMAGES)) is None


def test_a_copy_from_before_an_update_is_refused_and_left_alone(run, copy):
    write_later(run, 1, [(2, [])], slices_of_run=3)
    for table in (BOXES, IMAGES):
        write_slice_table(run, table, 2, [], generation=1)
    assert read(run, copy, generation=1) is None
    with pytest.raises(InputError, match="or of this one before an update; choose another folder"):
        compact(CompactConfig(output=run, to=copy))
    assert read(run, copy).rows == {"boxes": 45, "images": 15}


def test_a_copy_with_a_damaged_file_is_not_called_done(run, copy):
    storage.write_bytes(f"{copy}/boxes/part-00001.parquet", b"PAR1")
    with pytest.raises(DamagedTableError, match=r"part-00001\.parquet"):
        read(run, copy)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("part-00000.parquet", True),
        ("part-123456.parquet", True),
        ("part-0000.parquet", False),
        ("slice-000000.parquet", False),
        ("part-00000.parquet.crc", False),
    ],
)
def test_files_of_a_copy_are_known_by_their_names(name, expected):
    assert is_copy(name) is expected
