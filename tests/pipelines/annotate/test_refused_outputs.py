"""Which outputs does a command leave as they are?"""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from pipelines import storage
from pipelines.annotate import leftovers
from pipelines.annotate import run as run_module
from pipelines.annotate.run import annotate
from pipelines.compact import CompactConfig, compact
from pipelines.errors import InputError, RunMismatchError
from pipelines.lease import LEASE_FILE
from pipelines.manifest import list_generations
from pipelines.tables import TABLES
from tests.builders import list_all, make_config, start_run, write_pictures

pytestmark = pytest.mark.usefixtures("plain_engine")


@pytest.mark.parametrize("is_cut_short", [False, True])
def test_the_copy_of_a_run_is_not_filled_with_slices(tmp_path, checkpoint, is_cut_short):
    write_pictures(str(tmp_path / "in"), 3)
    config = make_config(str(tmp_path), checkpoint)
    annotate(config)
    copy = str(tmp_path / "copy")
    compact(CompactConfig(output=config.output, to=copy))
    if is_cut_short:
        # Its `run.json` comes last, and a command without one is a first one.
        Path(copy, "run.json").unlink()
    before = list_all(copy)
    with pytest.raises(InputError, match=r"images/part-00000\.parquet is of a copy"):
        annotate(make_config(str(tmp_path), checkpoint, output=copy))
    assert list_all(copy) == before


@pytest.mark.parametrize("table", TABLES)
def test_tables_of_something_else_get_no_slices_beside_them(tmp_path, checkpoint, table):
    write_pictures(str(tmp_path / "in"), 1)
    config = make_config(str(tmp_path), checkpoint)
    Path(config.output, table).mkdir(parents=True)
    Path(config.output, table, "mine.parquet").touch()
    Path(config.output, table, "notes.txt").touch()
    with pytest.raises(InputError, match=rf"{table}/mine\.parquet is there, and readers"):
        annotate(config)
    Path(config.output, table, "mine.parquet").unlink()
    assert annotate(config).images == 1


@pytest.mark.parametrize("lost", [("manifest",), ("manifest", "run.json")])
def test_rows_without_a_manifest_are_not_taken_for_those_of_a_new_listing(
    tmp_path, checkpoint, lost
):
    write_pictures(str(tmp_path / "in"), 6)
    config = make_config(str(tmp_path), checkpoint)
    annotate(config)
    for name in lost:
        Path(config.output, name).rename(tmp_path / name)
    Path(config.images, "photo-000.jpg").unlink()
    write_pictures(config.images, 1, start=20)
    before = list_all(config.output)
    with pytest.raises(InputError, match=r"slice-000000\.parquet is there, but the manifest"):
        annotate(config)
    assert list_all(config.output) == before
    # What the message says helps.
    for name in lost:
        (tmp_path / name).rename(Path(config.output, name))
    assert annotate(config).images_read == 0


def test_a_manifest_without_rows_that_lost_its_run_json_is_not_that_of_another_command(
    tmp_path, checkpoint
):
    write_pictures(str(tmp_path / "in"), 3)
    write_pictures(str(tmp_path / "other"), 2)
    config = make_config(str(tmp_path), checkpoint)
    start_run(config, config.output)
    asked = replace(config, images=str(tmp_path / "other"))
    before = list_all(config.output)
    with pytest.raises(RunMismatchError, match="no row tells with which settings its manifest"):
        annotate(asked)
    assert list_all(config.output) == before
    # What the message says helps.
    shutil.rmtree(Path(config.output, "manifest"))
    assert annotate(asked).images == 2


def test_what_another_driver_writes_meanwhile_is_not_left_over(tmp_path, checkpoint, monkeypatch):
    write_pictures(str(tmp_path / "in"), 3)
    config = make_config(str(tmp_path), checkpoint)
    annotate(config)
    manifest, run_file = Path(config.output, "manifest"), Path(config.output, "run.json")
    moved = [path.rename(tmp_path / path.name) for path in (manifest, run_file)]
    looks = []

    def look_and_write(output):
        """The other driver is quick: after a look, all is there."""
        found = list_generations(output)
        if not looks:
            looks.append([path.rename(Path(output, path.name)) for path in moved])
        return found

    monkeypatch.setattr(leftovers, "list_generations", look_and_write)
    leftovers.refuse_unlisted_rows(config.output)
    assert looks
    moved, looks = [run_file.rename(moved[1])], []
    leftovers.refuse_rows_of_others(config.output, "another")
    assert looks


@pytest.mark.parametrize("text", ['{"settings": [], "versions": 1}', "[]", '{"versions": {}}'])
def test_a_run_file_of_another_form_is_refused(tmp_path, checkpoint, text):
    write_pictures(str(tmp_path / "in"), 1)
    config = make_config(str(tmp_path), checkpoint)
    Path(config.output).mkdir()
    Path(config.output, "run.json").write_text(text)
    with pytest.raises(InputError, match=r"not the run\.json of an annotation run"):
        annotate(config)


@pytest.mark.parametrize("relieved", [False, True])
def test_a_refused_first_command_takes_back_its_own_run_file_alone(
    tmp_path, checkpoint, monkeypatch, relieved
):
    write_pictures(str(tmp_path / "in"), 2)
    config = make_config(str(tmp_path), checkpoint)

    def refuse(*_):
        if relieved:
            holder = {"id": "another", "host": "elsewhere", "process": "", "heartbeat": 1}
            storage.write_bytes(f"{config.output}/{LEASE_FILE}", json.dumps(holder).encode())
        raise InputError("a list that names an image twice")

    monkeypatch.setattr(run_module, "write_first_generation", refuse)
    with pytest.raises(InputError, match="twice"):
        annotate(config)
    assert Path(config.output, "run.json").exists() == relieved
