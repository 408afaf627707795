"""Does `overfeat compact` print what it copied, and refuse with the right exit code?"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipelines import storage
from pipelines.tables import slice_name
from tests.builders import list_all, run_command
from tests.pipelines.whole_run import write_whole_run


@pytest.fixture
def run(tmp_path):
    return write_whole_run(str(tmp_path / "run"), [5, 4, 6])


def test_it_prints_rows_and_files(run, tmp_path):
    ended = run_command("compact", "--output", run, "--to", tmp_path / "copy")
    assert ended.code == 0
    assert ended.out.splitlines() == [
        "boxes   45 rows in 1 file",
        "images  15 rows in 1 file",
        str(tmp_path / "copy"),
    ]
    assert "copying boxes: 3/3 slices, " in ended.err


def test_json_is_one_object(run, tmp_path):
    flags = ["--output", run, "--to", tmp_path / "copy", "--file-bytes", "1", "--json"]
    ended = run_command("compact", *flags)
    assert (ended.code, json.loads(ended.out)) == (
        0,
        {
            "to": str(tmp_path / "copy"),
            "rows": {"boxes": 45, "images": 15},
            "files": {"boxes": 3, "images": 3},
            "is_new": True,
        },
    )


def test_several_files_are_called_so(run, tmp_path):
    ended = run_command("compact", "--output", run, "--to", tmp_path / "copy", "--file-bytes", "1")
    assert "images  15 rows in 3 files" in ended.out


@pytest.mark.s3
def test_it_copies_from_one_store_to_another(run, s3_bucket):
    to = f"s3://{s3_bucket}/copy"
    assert run_command("compact", "--output", run, "--to", to).code == 0
    assert list_all(to) == ["boxes/part-00000.parquet", "images/part-00000.parquet", "run.json"]
    assert storage.read_bytes(f"{to}/run.json") == Path(run, "run.json").read_bytes()


def test_an_unfinished_run_is_refused(run, tmp_path):
    Path(run, "images", slice_name(1)).unlink()
    ended = run_command("compact", "--output", run, "--to", tmp_path / "copy")
    assert ended.code == 2
    assert "1 of 3 slices are not committed" in ended.refusal()
    assert not (tmp_path / "copy").exists()


def test_a_target_inside_the_run_is_refused(run):
    ended = run_command("compact", "--output", run, "--to", f"{run}/copy")
    assert ended.code == 2
    assert "lies inside the run" in ended.refusal()


def test_a_copy_that_is_there_was_done_before(run, tmp_path):
    flags = ["compact", "--output", run, "--to", tmp_path / "copy"]
    first, second = run_command(*flags), run_command(*flags)
    assert first.code == second.code == 0
    *tables, place = first.out.splitlines()
    assert second.out.splitlines() == [*tables, f"done before: {place}"]


def test_a_copy_of_another_run_is_refused(run, tmp_path):
    (tmp_path / "copy").mkdir()
    (tmp_path / "copy" / "run.json").write_text("{}")
    ended = run_command("compact", "--output", run, "--to", tmp_path / "copy")
    assert ended.code == 2
    assert "holds something else than a whole copy" in ended.refusal()


def test_a_table_that_lost_a_file_is_a_failure(run, tmp_path):
    Path(run, "boxes", slice_name(1)).unlink()
    ended = run_command("compact", "--output", run, "--to", tmp_path / "copy")
    assert ended.code == 1
    assert "boxes/slice-000001.parquet is missing" in ended.refusal()
