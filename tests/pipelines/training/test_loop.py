"""Does a training lower its loss, leave a checkpoint that loads, and stop when it must?"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import overfeat
from pipelines.errors import InputError
from pipelines.training.loop import TrainConfig, train
from tests.builders import run_command, write_scenes


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    return write_scenes(tmp_path_factory.mktemp("scenes"), 6)


def make_config(scenes, output, **changes):
    settings = {"steps": 12, "batch_size": 3, "threads": 1, "checkpoint_steps": 100}
    return TrainConfig(shards=scenes, output=str(output), **settings | changes)


@pytest.fixture(scope="module")
def trained(scenes, tmp_path_factory):
    """A training of twelve steps: its folder, its report and its losses."""
    folder = tmp_path_factory.mktemp("trained") / "checkpoint"
    losses = []
    report = train(
        make_config(scenes, folder), progress=lambda *told: losses.append(told[2].total.item())
    )
    return folder, report, losses


def test_twelve_steps_lower_the_loss(trained):
    _, report, losses = trained
    assert len(losses) == 12
    assert np.mean(losses[-3:]) < 0.7 * np.mean(losses[:3])
    assert report.final_loss == losses[-1]
    assert (report.steps, report.samples) == (12, 6)


def test_the_checkpoint_loads_and_looks_at_a_picture(trained):
    folder, _, _ = trained
    model = overfeat.load(folder, device="cpu")
    assert model.classes == ("red", "green")
    config = model.members[0].config
    assert (config.background, config.regressor) == (True, "single")
    found = model.detect(np.zeros((240, 320, 3), np.uint8))
    assert not found.truncated_boxes


def test_the_checkpoint_tells_where_it_comes_from_and_no_place(trained, scenes):
    folder, _, _ = trained
    text = (folder / "config.json").read_text()
    provenance = json.loads(text)["provenance"]
    assert provenance["steps"] == 12
    assert provenance["config"]["seed"] == 0
    assert "--batch-size 3" in provenance["command"]
    assert scenes not in text
    assert str(folder) not in text


def test_the_same_seed_gives_the_same_weights(scenes, tmp_path):
    for name in ("one", "other"):
        train(make_config(scenes, tmp_path / name, steps=2))
    contents = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("one", "other")]
    assert contents[0] == contents[1]


def test_a_checkpoint_is_saved_on_the_way(scenes, tmp_path):
    folder = tmp_path / "checkpoint"
    steps_saved = []

    def look(step, *_):
        if (folder / "config.json").exists():
            config = json.loads((folder / "config.json").read_text())
            steps_saved.append((step, config["provenance"]["steps"]))

    train(make_config(scenes, folder, steps=3, checkpoint_steps=2, batch_size=1), progress=look)
    assert steps_saved == [(2, 2), (3, 3)]


def test_a_loss_that_is_no_number_stops_with_one_sentence(scenes, tmp_path):
    ended = run_command(
        "train", "--shards", scenes, "--output", tmp_path / "checkpoint", "--steps", 6,
        "--batch-size", 1, "--threads", 1, "--learning-rate", 1e30,
    )  # fmt: skip
    assert ended.code == 1
    assert "the loss of step" in ended.refusal()
    assert "expected a finite number" in ended.refusal()
    assert not (tmp_path / "checkpoint" / "config.json").exists()


def test_the_command_tells_its_result_as_json(scenes, tmp_path):
    ended = run_command(
        "train", "--shards", scenes, "--output", tmp_path / "checkpoint", "--steps", 1,
        "--batch-size", 1, "--threads", 1, "--json",
    )  # fmt: skip
    assert ended.code == 0
    report = json.loads(ended.out)
    assert (report["steps"], report["samples"]) == (1, 6)
    assert Path(report["output"], "model.safetensors").exists()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"steps": 0}, "--steps: received 0"),
        ({"batch_size": -1}, "--batch-size: received -1"),
        ({"learning_rate": float("nan")}, "--learning-rate: received nan"),
        ({"averaging": 1.0}, "--averaging: received 1.0"),
        ({"portrait_share": 2.0}, "--portrait-share"),
        ({"weight_decay": float("nan")}, "--weight-decay"),
    ],
)
def test_a_setting_out_of_range_is_refused(changes, words):
    with pytest.raises(InputError, match=words):
        make_config("in", "out", **changes)


def test_a_crop_without_room_for_a_window_is_refused(tmp_path):
    ended = run_command("train", "--shards", "in", "--output", tmp_path / "out", "--side", 100)
    assert ended.code == 2
    assert "--side: received 100, expected at least 221" in ended.refusal()


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)
