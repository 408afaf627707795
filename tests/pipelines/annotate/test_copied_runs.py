"""Does a copy have the rows that the receipts of its run answer for, or is it refused?"""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from pipelines.annotate.run import annotate
from pipelines.compact import CompactConfig, compact
from pipelines.errors import InputError, PipelineError, StorageError
from pipelines.tables import BOXES, IMAGES, slice_name
from tests.builders import assert_same_rows

pytestmark = pytest.mark.usefixtures("plain_engine", "fake_model")


@pytest.fixture
def undisturbed(finished, tmp_path):
    """A copy of the run as it was, made by this program."""
    return copy_run(finished, tmp_path / "undisturbed").to


def copy_run(finished, to):
    return compact(CompactConfig(output=finished.output, to=str(to)))


def file_of(finished, table, number):
    return Path(finished.output, table, slice_name(number))


def harm(path, other, how):
    if how == "missing":
        path.unlink()
    elif how == "damaged":
        path.write_bytes(path.read_bytes()[:-100])
    else:
        shutil.copy(other, path)


@pytest.mark.parametrize("how", ["missing", "damaged", "another"])
def test_a_table_that_is_not_the_receipts_is_never_copied_and_the_message_mends_it(
    finished, undisturbed, tmp_path, how
):
    harm(file_of(finished, BOXES, 1), file_of(finished, BOXES, 2), how)
    with pytest.raises(StorageError, match=r"boxes/slice-000001\.parquet") as error:
        copy_run(finished, tmp_path / "copy")
    assert not (tmp_path / "copy" / "run.json").exists()
    (receipt,) = re.findall(r"delete (\S+), run the command again", str(error.value))
    Path(receipt).unlink()
    assert annotate(finished).slices_done == 1
    assert copy_run(finished, tmp_path / "copy").is_new
    assert_same_rows(str(tmp_path / "copy"), undisturbed)


@pytest.mark.parametrize("how", ["damaged", "another"])
def test_a_receipt_that_is_not_the_slices_is_refused_until_annotate_has_mended_it(
    finished, undisturbed, tmp_path, how
):
    harm(file_of(finished, IMAGES, 1), file_of(finished, IMAGES, 2), how)
    with pytest.raises(InputError, match=r"slice-000001\.parquet.*run the command again that"):
        copy_run(finished, tmp_path / "copy")
    annotate(finished)
    copy_run(finished, tmp_path / "copy")
    assert_same_rows(str(tmp_path / "copy"), undisturbed)


def test_files_in_folders_below_a_table_are_no_slices(finished, undisturbed, tmp_path):
    for table in (IMAGES, BOXES):
        old = file_of(finished, table, 1).parent / "t-old"
        old.mkdir()
        shutil.copy(file_of(finished, table, 2), old / slice_name(1))
    copy_run(finished, tmp_path / "copy")
    assert_same_rows(str(tmp_path / "copy"), undisturbed)


def test_a_receipt_that_changes_while_its_run_is_copied_is_told(finished, tmp_path, monkeypatch):
    from pipelines import compact as module

    list_files = module._list_files

    def change(output, table, wanted):
        shutil.copy(file_of(finished, IMAGES, 2), file_of(finished, IMAGES, 1))
        return list_files(output, table, wanted)

    monkeypatch.setattr(module, "_list_files", change)
    with pytest.raises(PipelineError, match=r"images/slice-000001\.parquet: its rows are not"):
        copy_run(finished, tmp_path / "copy")
