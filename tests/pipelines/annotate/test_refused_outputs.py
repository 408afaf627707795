"""Which outputs does a command leave as they are?"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipelines import storage
from pipelines.annotate import run as run_module
from pipelines.annotate.run import annotate
from pipelines.compact import CompactConfig, compact
from pipelines.errors import InputError
from pipelines.lease import LEASE_FILE
from tests.builders import list_all, make_config, write_pictures

pytestmark = pytest.mark.usefixtures("plain_engine")


def test_the_copy_of_a_run_is_not_filled_with_slices(tmp_path, checkpoint):
    write_pictures(str(tmp_path / "in"), 3)
    config = make_config(str(tmp_path), checkpoint)
    annotate(config)
    copy = str(tmp_path / "copy")
    compact(CompactConfig(output=config.output, to=copy))
    before = list_all(copy)
    with pytest.raises(InputError, match=r"images/part-00000\.parquet is of a copy"):
        annotate(make_config(str(tmp_path), checkpoint, output=copy))
    assert list_all(copy) == before


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
