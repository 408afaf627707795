"""Checkpoints: what is saved comes back bit for bit; what is damaged is refused in a sentence."""

from __future__ import annotations

import json

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from overfeat.checkpoint import (
    CONFIG_FILE,
    WEIGHTS_FILE,
    CheckpointConfig,
    CheckpointError,
    Normalization,
    digest_checkpoint,
    load_checkpoint,
    read_config,
    save_checkpoint,
)
from overfeat.scales import Canvas
from overfeat.zoo import ACCURATE, FAST, TINY
from tests.overfeat.builders import describe, make_network

NAN, INF = float("nan"), float("inf")
CONFIG = CheckpointConfig(
    architecture="tiny",
    classes=("crane", "crane", "grüne Mamba"),
    background=True,
    regressor="per-class",
    box_coding="centre-size",
    context=True,
    normalization=Normalization(mean=(118.380948, 0.1, 3.0), std=(61.896913, 1e-3, 7.0)),
    scales=(Canvas(245, 245), Canvas(281, 317)),
    provenance={"command": "train", "seed": 3, "mAP": 0.123456789},
)


def build(config):
    return make_network(
        TINY, outputs=config.outputs, regressor=config.regressor, context=config.context
    )


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A whole checkpoint; a test that damages it copies it first."""
    folder = tmp_path_factory.mktemp("checkpoint")
    network = build(CONFIG)
    save_checkpoint(folder, CONFIG, network.state_dict())
    return folder, network


@pytest.fixture
def copied(saved, tmp_path):
    folder, _ = saved
    for name in (CONFIG_FILE, WEIGHTS_FILE):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    return tmp_path


def change_config(folder, **fields):
    path = folder / CONFIG_FILE
    path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | fields), "utf-8")


def refuse(folder):
    with pytest.raises(CheckpointError) as error:
        load_checkpoint(folder)
    message = describe(error)
    assert str(folder) in message
    return message


def test_a_checkpoint_comes_back_bit_for_bit(saved):
    folder, network = saved
    config, loaded = load_checkpoint(folder)
    assert config == CONFIG
    before, after = network.state_dict(), loaded.state_dict()
    assert list(before) == list(after)
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert not loaded.training


def test_saving_again_gives_the_same_files(saved, tmp_path):
    folder, _ = saved
    config, network = load_checkpoint(folder)
    save_checkpoint(tmp_path / "again", config, network.state_dict())
    for name in (CONFIG_FILE, WEIGHTS_FILE):
        assert (tmp_path / "again" / name).read_bytes() == (folder / name).read_bytes()


def test_weights_laid_out_for_speed_are_saved_as_plain_arrays(saved, tmp_path):
    folder, _ = saved
    fast = build(CONFIG)
    save_checkpoint(tmp_path, CONFIG, fast.to(memory_format=torch.channels_last).state_dict())
    assert digest_checkpoint(tmp_path) == digest_checkpoint(folder)


def test_the_description_is_read_without_the_weights(copied):
    (copied / WEIGHTS_FILE).unlink()
    assert read_config(copied) == CONFIG


@pytest.mark.parametrize("architecture", [FAST, ACCURATE, TINY])
def test_an_empty_ladder_means_the_architectures_own(architecture):
    config = CheckpointConfig(architecture=architecture.name, classes=("a",))
    assert config.ladder == architecture.scales
    assert CONFIG.ladder == (Canvas(245, 245), Canvas(281, 317))


def test_the_background_is_one_output_more():
    assert CheckpointConfig(architecture="tiny", classes=("a", "b")).outputs == 2
    assert CheckpointConfig(architecture="tiny", classes=("a", "b"), background=True).outputs == 3


def test_a_missing_folder_is_refused_with_the_files_expected(tmp_path):
    message = refuse(tmp_path / "nowhere")
    assert CONFIG_FILE in message
    assert WEIGHTS_FILE in message


def test_missing_weights_are_named(copied):
    (copied / WEIGHTS_FILE).unlink()
    assert WEIGHTS_FILE in refuse(copied)


@pytest.mark.parametrize("kept", [0, 4, 200, -5000, -1])
def test_truncated_weights_are_refused(copied, kept):
    path = copied / WEIGHTS_FILE
    path.write_bytes(path.read_bytes()[:kept])
    assert WEIGHTS_FILE in refuse(copied)


def test_a_missing_tensor_is_named(copied):
    tensors = load_file(copied / WEIGHTS_FILE)
    del tensors["trunk.conv3.bias"]
    save_file(tensors, copied / WEIGHTS_FILE)
    assert "trunk.conv3.bias is missing, expected (96,)" in refuse(copied)


def test_a_tensor_too_many_is_named(copied):
    tensors = load_file(copied / WEIGHTS_FILE)
    save_file(tensors | {"trunk.conv9.bias": torch.zeros(3)}, copied / WEIGHTS_FILE)
    assert "trunk.conv9.bias is (3,), expected none of that name" in refuse(copied)


def test_a_tensor_of_another_shape_is_named_with_both_shapes(copied):
    tensors = load_file(copied / WEIGHTS_FILE)
    tensors["classifier.fc9.weight"] = torch.zeros(7, 128, 1, 1)
    save_file(tensors, copied / WEIGHTS_FILE)
    message = refuse(copied)
    assert "classifier.fc9.weight is (7, 128, 1, 1), expected (4, 128, 1, 1)" in message


def test_weights_of_another_number_of_classes_are_refused(copied):
    change_config(copied, classes=["a", "b"])
    assert "expected (3," in refuse(copied)


@pytest.mark.parametrize("text", ["", "{", "[1, 2]", "null", "3", '"text"', "\x00"])
def test_a_description_that_is_no_object_is_refused(copied, text):
    (copied / CONFIG_FILE).write_text(text, "utf-8")
    assert CONFIG_FILE in refuse(copied)


def test_a_description_that_is_no_text_is_refused(copied):
    (copied / CONFIG_FILE).write_bytes(b"\xff\xfe{}")
    assert CONFIG_FILE in refuse(copied)


def test_another_format_is_refused_with_both_versions(copied):
    change_config(copied, format=2)
    assert "format 2, expected 1" in refuse(copied)


def test_a_missing_field_is_named(copied):
    path = copied / CONFIG_FILE
    whole = json.loads(path.read_text("utf-8"))
    assert len(whole) == 10
    for field in whole:
        path.write_text(json.dumps({key: whole[key] for key in whole if key != field}), "utf-8")
        assert f"no {field!r}" in refuse(copied)


def test_the_network_speaks_the_box_coding_of_its_description(copied):
    assert load_checkpoint(copied)[1].box_coding == "centre-size"
    change_config(copied, box_coding="edges")
    assert load_checkpoint(copied)[1].box_coding == "edges"


def test_the_context_layer_belongs_to_a_network_with_context(copied):
    assert load_checkpoint(copied)[1].context["fc7"].weight.shape == (256, 96, 5, 5)
    change_config(copied, context=False)
    assert "context.fc7.bias is (256,), expected none of that name" in refuse(copied)


def test_the_context_layer_of_a_network_with_context_is_not_left_out(copied):
    tensors = load_file(copied / WEIGHTS_FILE)
    without = {name: value for name, value in tensors.items() if "context" not in name}
    assert len(without) == len(tensors) - 2
    save_file(without, copied / WEIGHTS_FILE)
    assert "context.fc7.bias is missing, expected (256,)" in refuse(copied)


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"architecture": "huge"}, "'huge', expected one of fast, accurate, tiny"),
        ({"architecture": ["tiny"]}, "architecture: received ['tiny'], expected a text"),
        ({"classes": []}, "expected at least one label"),
        ({"classes": "abcd"}, "classes: received 'abcd', expected a list"),
        ({"classes": [1, 2, 3]}, "classes: received 1, expected a text"),
        ({"background": "false"}, "background: received 'false', expected true or false"),
        ({"regressor": "double"}, "regressor: received 'double', expected one of"),
        ({"box_coding": "corners"}, "box_coding: received 'corners', expected one of"),
        ({"box_coding": None}, "box_coding: received None, expected a text"),
        ({"context": "no"}, "context: received 'no', expected true or false"),
        ({"context": 1}, "context: received 1, expected true or false"),
        ({"format": True}, "format: received True, expected a whole number"),
        ({"normalization": {"mean": [1, 2], "std": [1, 1, 1]}}, "three means"),
        ({"normalization": {"mean": [1.0, 2.0, 3.0], "std": [1.0, 1.0, 0.0]}}, "positive stds"),
        ({"normalization": {"mean": [1, NAN, 3], "std": [1, 1, 1]}}, "three means"),
        ({"normalization": {"mean": [1, 2, 3], "std": [1, 1, NAN]}}, "positive stds"),
        ({"normalization": {"mean": [1, 2, 3], "std": [1, INF, 1]}}, "positive stds"),
        ({"normalization": {"mean": [-INF, 2, 3], "std": [1, 1, 1]}}, "three means"),
        ({"normalization": {"mean": [10**400, 2, 3], "std": [1, 1, 1]}}, "too large"),
        ({"normalization": {"mean": [True, 2, 3], "std": [1, 1, 1]}}, "mean: received True"),
        (
            {"normalization": {"mean": ["1", "2", "3"], "std": [1.0, 1.0, 1.0]}},
            "mean: received '1'",
        ),
        ({"normalization": {}}, "no 'mean'"),
        ({"normalization": [1, 2]}, "expected an object"),
        ({"scales": ["281"]}, "expected HEIGHTxWIDTH"),
        ({"scales": [281]}, "scales: received 281, expected a text"),
        ({"scales": ["100x100"]}, "received 100x100, expected at least 221x221"),
        ({"scales": None}, "scales: received None, expected a list"),
        ({"provenance": None}, "provenance: received None, expected an object"),
    ],
)
@pytest.mark.usefixtures("without_shape_checks")
def test_a_field_of_another_kind_is_refused(copied, fields, named):
    change_config(copied, **fields)
    message = refuse(copied)
    assert CONFIG_FILE in message
    assert named in message


@settings(
    max_examples=30,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(st.sampled_from([CONFIG_FILE, WEIGHTS_FILE]), st.floats(0, 1), st.integers(1, 255))
def test_any_changed_byte_changes_the_digest(copied, name, place, change):
    before = digest_checkpoint(copied)
    assert len(before) == 64
    path = copied / name
    original = path.read_bytes()
    damaged = bytearray(original)
    damaged[int(place * (len(damaged) - 1))] ^= change
    path.write_bytes(damaged)
    assert digest_checkpoint(copied) != before
    path.write_bytes(original)
    assert digest_checkpoint(copied) == before


def test_a_byte_moved_from_one_file_to_the_other_changes_the_digest(copied):
    before = digest_checkpoint(copied)
    first, second = ((copied / name).read_bytes() for name in (CONFIG_FILE, WEIGHTS_FILE))
    (copied / CONFIG_FILE).write_bytes(first + second[:1])
    (copied / WEIGHTS_FILE).write_bytes(second[1:])
    assert digest_checkpoint(copied) != before


@pytest.mark.parametrize("name", [CONFIG_FILE, WEIGHTS_FILE])
def test_there_is_no_digest_of_half_a_checkpoint(copied, name):
    (copied / name).unlink()
    with pytest.raises(CheckpointError) as error:
        digest_checkpoint(copied)
    assert name in describe(error)


def test_the_description_is_written_last(tmp_path, saved):
    """A save that dies in the middle must not leave old words beside new weights."""
    folder, network = saved
    (tmp_path / CONFIG_FILE).write_bytes((folder / CONFIG_FILE).read_bytes())
    (tmp_path / WEIGHTS_FILE).mkdir()
    with pytest.raises(SafetensorError):
        save_checkpoint(tmp_path, CONFIG, network.state_dict())
    assert not (tmp_path / CONFIG_FILE).exists()


def test_both_files_of_a_checkpoint_can_be_read_by_the_same_people(tmp_path):
    config = CheckpointConfig(architecture="tiny", classes=("ant",))
    save_checkpoint(tmp_path, config, config.build_network().state_dict())
    modes = {(tmp_path / name).stat().st_mode for name in ("config.json", "model.safetensors")}
    assert len(modes) == 1
