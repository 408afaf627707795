"""Is a copy taken for one of the run as it stands, and for nothing else?"""

from __future__ import annotations

import shutil
from contextlib import suppress
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines import storage
from pipelines.compact import CompactConfig, compact
from pipelines.copies import CopyContents, is_copy, read_copy, sum_up_rows
from pipelines.errors import InputError
from pipelines.manifest import open_manifest
from pipelines.tables import BOXES, IMAGES, DamagedTableError
from tests.builders import read_rows
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


def read(run, copy, *, tables=(BOXES, IMAGES)):
    document = storage.read_bytes(storage.join_uri(run, "run.json"))
    return read_copy(copy, document, sum_up_rows(open_manifest(run)), list(tables))


def test_a_copy_tells_its_rows_and_files(run, copy):
    contents = CopyContents(rows={"boxes": 45, "images": 15}, files={"boxes": 3, "images": 3})
    assert read(run, copy) == contents


def test_a_folder_without_a_run_or_with_another_is_no_copy(run, copy, tmp_path):
    assert read(run, str(tmp_path / "nothing")) is None
    storage.write_bytes(f"{copy}/run.json", b"{}")
    assert read(run, copy) is None


def test_the_run_itself_is_no_copy_of_it(run):
    assert read(run, run) is None


def test_a_copy_that_lacks_a_table_is_none_of_the_run(run, copy):
    assert read(run, copy, tables=(BOXES, "features", IMAGES)) is None


@pytest.mark.parametrize("table", ["boxes", "images"])
@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_copy_that_lost_a_file_is_refused_and_left_alone(run, copy, table, place):
    Path(copy, table, f"part-0000{place}.parquet").unlink()
    assert read(run, copy) is None
    with pytest.raises(InputError, match="a whole copy of this run as it is now"):
        compact(CompactConfig(output=run, to=copy))


@pytest.mark.parametrize("name", ["part-00003.parquet", "slice-000001.parquet", "notes.txt"])
def test_a_copy_that_got_a_file_is_refused(run, copy, name):
    shutil.copy(Path(copy, "images", "part-00000.parquet"), Path(copy, "images", name))
    assert read(run, copy) is None


@pytest.mark.parametrize("generation", [0, 1])
def test_a_copy_of_other_rows_is_refused_and_left_alone(run, copy, generation):
    """After an update; or of another run of the same settings that stands in the same folder."""
    if generation:
        write_later(run, 1, [(2, [])], slices_of_run=3)
    others = [f"s3://b/other-{at}.jpg" for at in range(6)]
    for table in (BOXES, IMAGES):
        write_slice_table(run, table, 2, others, generation=generation)
    assert read(run, copy) is None
    with pytest.raises(InputError, match="a whole copy of this run as it is now, such as"):
        compact(CompactConfig(output=run, to=copy))
    assert len(read_rows(copy, IMAGES)) == 15


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
def test_files_of_a_copy_are_known_by_their_names(copy, name, expected):
    uri = str(Path(copy, "images", name))
    with suppress(shutil.SameFileError):
        shutil.copy(Path(copy, "images", "part-00000.parquet"), uri)
    assert is_copy(uri) is expected


@pytest.mark.parametrize("content", ["text", "table"])
def test_a_file_that_is_only_called_like_a_copys_is_refused_and_left_alone(run, tmp_path, content):
    other = tmp_path / "copy" / "images" / "part-00000.parquet"
    other.parent.mkdir(parents=True)
    if content == "table":
        pq.write_table(pa.table({"year": [2013]}), other)
    else:
        other.write_text("somebody's")
    before = other.read_bytes()
    with pytest.raises(InputError, match=r"images/part-00000\.parquet is there; choose another"):
        compact(CompactConfig(output=run, to=str(tmp_path / "copy")))
    assert other.read_bytes() == before
