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
from tests.builders import assert_same_rows, make_config, write_pictures

pytestmark = pytest.mark.usefixtures("plain_engine", "fake_model")


@pytest.fixture
def config(tmp_path, checkpoint):
    """A finished run over six pictures in three slices."""
    write_pictures(str(tmp_path / "in"), 6)
    config = make_config(str(tmp_path), checkpoint, slice_size=2)
    annotate(config)
    return config


@pytest.fixture
def undisturbed(config, tmp_path):
    """A copy of the run as it was, made by this program."""
    return copy_run(config, tmp_path / "undisturbed").to


def copy_run(config, to):
    return compact(CompactConfig(output=config.output, to=str(to)))


def file_of(config, table, number):
    return Path(config.output, table, slice_name(number))


def harm(path, other, how):
    if how == "missing":
        path.unlink()
    elif how == "damaged":
        path.write_bytes(path.read_bytes()[:-100])
    else:
        shutil.copy(other, path)


@pytest.mark.parametrize("how", ["missing", "damaged", "another"])
def test_a_table_that_is_not_the_receipts_is_never_copied_and_the_message_mends_it(
    config, undisturbed, tmp_path, how
):
    harm(file_of(config, BOXES, 1), file_of(config, BOXES, 2), how)
    with pytest.raises(StorageError, match=r"boxes/slice-000001\.parquet") as error:
        copy_run(config, tmp_path / "copy")
    assert not (tmp_path / "copy" / "run.json").exists()
    (receipt,) = re.findall(r"delete (\S+), run the command again", str(error.value))
    Path(receipt).unlink()
    assert annotate(config).slices_done == 1
    assert copy_run(config, tmp_path / "copy").is_new
    assert_same_rows(str(tmp_path / "copy"), undisturbed)


@pytest.mark.parametrize("how", ["damaged", "another"])
def test_a_receipt_that_is_not_the_slices_is_refused_until_annotate_has_mended_it(
    config, undisturbed, tmp_path, how
):
    harm(file_of(config, IMAGES, 1), file_of(config, IMAGES, 2), how)
    with pytest.raises(InputError, match=r"slice-000001\.parquet.*run the command again that"):
        copy_run(config, tmp_path / "copy")
    annotate(config)
    copy_run(config, tmp_path / "copy")
    assert_same_rows(str(tmp_path / "copy"), undisturbed)


def test_files_in_folders_below_a_table_are_no_slices(config, undisturbed, tmp_path):
    for table in (IMAGES, BOXES):
        old = file_of(config, table, 1).parent / "t-old"
        old.mkdir()
        shutil.copy(file_of(config, table, 2), old / slice_name(1))
    copy_run(config, tmp_path / "copy")
    assert_same_rows(str(tmp_path / "copy"), undisturbed)


def test_a_receipt_that_changes_while_its_run_is_copied_is_told(config, tmp_path, monkeypatch):
    from pipelines import compact as module

    list_files = module._list_files

    def change(output, table, wanted):
        shutil.copy(file_of(config, IMAGES, 2), file_of(config, IMAGES, 1))
        return list_files(output, table, wanted)

    monkeypatch.setattr(module, "_list_files", change)
    with pytest.raises(PipelineError, match=r"images/slice-000001\.parquet: its rows are not"):
        copy_run(config, tmp_path / "copy")
