"""Does a checkpoint come from wherever the user keeps it, and is a bad one told at once?"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from overfeat.checkpoint import digest_checkpoint, load_checkpoint
from pipelines import storage
from pipelines.errors import InputError
from pipelines.weights import fetch_checkpoint, fetch_model, open_predictor
from tests.builders import CLASSES, make_checkpoint


def copy_checkpoint(folder, root):
    for path in Path(folder).iterdir():
        storage.write_bytes(storage.join_uri(root, path.name), path.read_bytes())


def refusal(weights):
    with pytest.raises(InputError) as error:
        fetch_model([str(weights)])
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
    files = fetch_model([make_checkpoint(folder)])
    _, expected = load_checkpoint(folder)
    for path in folder.iterdir():
        path.unlink()
    predictor = open_predictor(files, device="cpu", dtype="float32")
    assert predictor.classes == CLASSES
    (member,) = predictor.members
    made = member.network.state_dict()
    assert all(torch.equal(made[name], tensor) for name, tensor in expected.state_dict().items())


def test_other_weights_have_another_digest(tmp_path):
    digests = {
        fetch_checkpoint(make_checkpoint(tmp_path / str(seed), seed=seed)).digest for seed in (1, 2)
    }
    assert len(digests) == 2


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """The folders of two checkpoints."""
    folder = tmp_path_factory.mktemp("two")
    return [make_checkpoint(folder / str(seed), seed=seed) for seed in (1, 2)]


def test_one_checkpoint_is_a_model_with_its_digest(two):
    assert fetch_model(two[:1]).digest == digest_checkpoint(Path(two[0]))
    assert fetch_model(two[:1]).classes == CLASSES


def test_a_committee_has_a_digest_of_its_own_in_any_process(two):
    files = fetch_model(two)
    digests = {files.digest, *(member.digest for member in files.members)}
    digests |= {fetch_model(two[::-1]).digest, fetch_model(two[:1] * 2).digest}
    assert len(digests) == 5
    assert {len(digest) for digest in digests} == {64}
    assert fetch_model(two).digest == files.digest


def test_a_committee_is_built_in_its_order(two):
    predictor = open_predictor(fetch_model(two[::-1]), device="cpu", dtype="float32")
    for member, folder in zip(predictor.members, two[::-1], strict=True):
        _, expected = load_checkpoint(Path(folder))
        assert torch.equal(
            member.network.state_dict()["trunk.conv1.weight"],
            expected.state_dict()["trunk.conv1.weight"],
        )


@pytest.mark.parametrize("classes", [CLASSES[::-1], CLASSES[:2]])
def test_a_committee_of_other_classes_is_refused_naming_the_one(two, tmp_path, classes):
    other = make_checkpoint(tmp_path / "other", classes=classes)
    with pytest.raises(InputError) as error:
        fetch_model([*two, other])
    assert f"--weights {other}: " in str(error.value)
    assert f"differ from those of {two[0]}" in str(error.value)


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
