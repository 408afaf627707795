"""Does a checkpoint come from wherever the user keeps it, and is a bad one told at once?"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from overfeat.checkpoint import digest_checkpoint, load_checkpoint
from pipelines import storage
from pipelines.errors import InputError
from pipelines.weights import fetch_checkpoint, open_predictor
from tests.builders import CLASSES, make_checkpoint


def copy_checkpoint(folder, root):
    for path in Path(folder).iterdir():
        storage.write_bytes(storage.join_uri(root, path.name), path.read_bytes())


def refusal(weights):
    with pytest.raises(InputError) as error:
        fetch_checkpoint(str(weights))
    message = str(error.value)
    assert message.startswith(f"--weights {weights}: ")
    assert "\n" not in message
    return message


def test_a_checkpoint_is_fetched_from_any_store(store_root, tmp_path):
    folder = make_checkpoint(tmp_path / "made")
    copy_checkpoint(folder, storage.join_uri(store_root, "weights"))
    files = fetch_checkpoint(storage.join_uri(store_root, "weights"))
    assert files.digest == digest_checkpoint(Path(folder))
    assert files.config.classes == CLASSES
    assert files.config.architecture == "tiny"


def test_a_relative_folder_is_a_checkpoint_too(tmp_path, monkeypatch):
    make_checkpoint(tmp_path / "made")
    monkeypatch.chdir(tmp_path)
    assert fetch_checkpoint("made").digest == fetch_checkpoint("./made/").digest


def test_the_model_is_built_from_the_bytes_alone(tmp_path):
    folder = tmp_path / "made"
    files = fetch_checkpoint(make_checkpoint(folder))
    _, expected = load_checkpoint(folder)
    for path in folder.iterdir():
        path.unlink()
    predictor = open_predictor(files, device="cpu", dtype="float32")
    assert predictor.config.classes == CLASSES
    made = predictor.network.state_dict()
    assert all(torch.equal(made[name], tensor) for name, tensor in expected.state_dict().items())


def test_other_weights_have_another_digest(tmp_path):
    digests = {
        fetch_checkpoint(make_checkpoint(tmp_path / str(seed), seed=seed)).digest for seed in (1, 2)
    }
    assert len(digests) == 2


def test_a_missing_checkpoint_is_refused(store_root):
    assert "no checkpoint there" in refusal(storage.join_uri(store_root, "absent"))


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_half_a_checkpoint_is_refused(tmp_path, name):
    folder = Path(make_checkpoint(tmp_path / "made"))
    (folder / name).unlink()
    assert "no checkpoint there" in refusal(folder)


@pytest.mark.parametrize("size", [0, 100, -10])
def test_a_cut_weight_file_is_refused(tmp_path, size):
    folder = Path(make_checkpoint(tmp_path / "made"))
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:size])
    assert "model.safetensors" in refusal(folder)


@pytest.mark.parametrize(
    ("field", "value"), [("architecture", "huge"), ("classes", ["one"]), ("format", 99)]
)
def test_a_description_that_does_not_fit_is_refused(tmp_path, field, value):
    folder = Path(make_checkpoint(tmp_path / "made"))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {field: value}))
    refusal(folder)


def test_a_message_names_no_temporary_folder(tmp_path):
    folder = Path(make_checkpoint(tmp_path / "made"))
    (folder / "config.json").write_text("{")
    assert refusal(folder).count("/tmp/") <= str(folder).count("/tmp/")
