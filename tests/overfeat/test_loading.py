"""From the names and folders that users give to a model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import overfeat
from overfeat import CheckpointError
from overfeat.checkpoint import save_checkpoint
from overfeat.loading import find_checkpoint
from overfeat.member import Member
from overfeat.predictor import Predictor
from overfeat.zoo import TINY
from tests.overfeat.builders import (
    LOOK,
    assert_equal_detections,
    describe,
    make_config,
    make_image,
    make_network,
)

FIELDS = {"background": True, "regressor": "single", "context": True, "scales": LOOK.scales}


def build(*, seed=1, **fields):
    config = make_config(**FIELDS | fields)
    network = make_network(
        TINY, outputs=config.outputs, regressor="single", context=True, seed=seed
    )
    return config, network


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Two checkpoints of the same classes, and one of others."""
    root = tmp_path_factory.mktemp("checkpoints")
    for name, fields in (("one", {}), ("two", {"seed": 2}), ("other", {"classes": ("a", "b")})):
        config, network = build(**fields)
        save_checkpoint(root / name, config, network.state_dict())
    return root


def hold(**fields):
    """The model as it is in memory."""
    config, network = build(**fields)
    return Member(config, network, device="cpu", dtype="float32")


def test_a_saved_model_detects_like_the_one_in_memory(folders):
    image = make_image(200, 260)
    expected = Predictor([hold()]).detect(image, LOOK)
    assert len(expected) > 0
    for folder in (folders / "one", str(folders / "one"), [folders / "one"]):
        loaded = overfeat.load(folder, device="cpu")
        assert loaded.members[0].config == make_config(**FIELDS)
        assert_equal_detections(loaded.detect(image, LOOK), expected)


def test_several_folders_are_a_committee_in_their_order(folders):
    image = make_image(200, 260)
    model = overfeat.load([folders / "two", str(folders / "one")], device="cpu")
    expected = Predictor([hold(seed=2), hold()])
    assert len(model.members) == 2
    assert model.classify(image).labels == expected.classify(image).labels
    assert np.array_equal(model.classify(image).scores, expected.classify(image).scores)
    (first,) = overfeat.load(folders / "two", device="cpu").map_classes(image)[:1]
    assert np.array_equal(model.map_classes(image)[0].probabilities, first.probabilities)


def test_checkpoints_of_other_classes_are_no_committee(folders):
    with pytest.raises(ValueError, match="checkpoint 2 has other classes") as error:
        overfeat.load([folders / "one", folders / "other"], device="cpu")
    describe(error)


def test_a_list_without_a_checkpoint_is_refused():
    with pytest.raises(ValueError, match="expected at least one") as error:
        overfeat.load([])
    describe(error)


def test_a_model_is_loaded_in_the_number_format_asked_for(folders):
    model = overfeat.load([folders / "one", folders / "two"], device="cpu", dtype="bfloat16")
    for member in model.members:
        assert {value.dtype for value in member.network.parameters()} == {torch.bfloat16}


def test_the_shipped_model_is_called_demo():
    assert (
        overfeat.load("demo", device="cpu").classes
        == overfeat.load(Path(overfeat.__file__).parent / "weights" / "demo", device="cpu").classes
    )


def test_a_folder_stays_as_it_is():
    assert find_checkpoint("some/where") == Path("some/where")
    assert find_checkpoint(Path("some/where")) == Path("some/where")


def test_a_model_that_is_not_there_is_refused(tmp_path):
    for names in (tmp_path / "nowhere", ["demo", tmp_path / "nowhere"]):
        with pytest.raises(CheckpointError) as error:
            overfeat.load(names)
        assert str(tmp_path / "nowhere") in describe(error)


def test_only_demo_is_a_name_and_not_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CheckpointError, match="checkpoint accurate"):
        overfeat.load("accurate")
