"""Do several workers learn what one learns, and may their number change on the way?"""

from __future__ import annotations

import json
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import safetensors.torch
import torch

from pipelines.training.checkpoints import list_states
from pipelines.training.config import ValidationConfig
from tests.builders import write_scenes
from tests.pipelines.training.side_by_side import read_log, read_measured, train_side_by_side
from tests.pipelines.training.tiny_training import make_train_config


def read_layers(folder):
    """Weights and biases of each layer, side by side: biases begin at 0."""
    tensors = safetensors.torch.load_file(Path(folder, "model.safetensors"))
    layers = {name.rpartition(".")[0] for name in tensors}
    kinds = ("weight", "bias")
    return {
        layer: torch.cat([tensors[f"{layer}.{kind}"].flatten() for kind in kinds])
        for layer in layers
    }


@pytest.mark.parametrize("context", [False, True])
def test_two_workers_agree_with_one_after_twenty_steps(tmp_path, context):
    """Without batch normalisation, which sees but one worker's samples; the last batch is small.

    Rounding grows from step to step: ten times faster learning leaves 2e-4 in some layers. A
    clipped gradient would be the same whatever it is multiplied by.
    """
    scenes = write_scenes(tmp_path / "scenes", 42)
    recipe = {
        "optimizer": "sgd", "learning_rate": 0.00002, "momentum": 0.6, "batch_norm": False,
        "averaging": 0.0, "clip_norm": None,
    }  # fmt: skip
    config = make_train_config(
        scenes, tmp_path / "1", recipe=recipe, checkpoint_steps=100, context=context
    )
    for workers in (1, 2):
        config = replace(config, output=str(tmp_path / str(workers)))
        assert train_side_by_side(config, workers) == [0] * workers
        result = json.loads(Path(config.output, "result.json").read_text())
        assert (result["position"]["steps"], result["position"]["samples"]) == (22, 84)
    expected, found = (read_layers(tmp_path / name) for name in ("1", "2"))
    for layer, values in expected.items():
        assert (found[layer] - values).norm() < 1e-4 * values.norm(), layer


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    """Ten scenes: three steps an epoch, the last one smaller."""
    return write_scenes(tmp_path_factory.mktemp("scenes"), 10)


@pytest.mark.parametrize(("before", "after"), [(2, 1), (1, 2)])
def test_a_training_goes_on_with_fewer_or_more_workers_and_repeats_and_skips_no_sample(
    scenes, tmp_path, before, after
):
    config = make_train_config(scenes, tmp_path / "out", task="classify", checkpoint_steps=1)
    other = replace(config, output=str(tmp_path / "undisturbed"))
    log, whole = tmp_path / "log", tmp_path / "whole"
    for folder in (log, whole):
        folder.mkdir()
    # In the second epoch, in the midst of saving what the fifth step has made.
    codes = train_side_by_side(config, before, log=log, dies_at=20)
    assert codes == [-signal.SIGKILL, 1][:before]
    done = max(list_states(config.output))
    assert done == 4
    assert train_side_by_side(config, after, log=log) == [0] * after
    assert train_side_by_side(other, 1, log=whole) == [0]
    steps = range(6)
    seen = read_log(log, before, steps=steps[:done]) | read_log(log, after, steps=steps[done:])
    assert seen == read_log(whole, 1, steps=steps)
    assert [len(seeds) for seeds in seen.values()] == [4, 4, 2, 4, 4, 2]
    assert read_log(log, after, steps=steps[:done]) == {step: [] for step in steps[:done]}


def test_two_workers_measure_what_one_measures(scenes, tmp_path):
    """With the weights of the first, and each a part of the samples."""
    held_out = write_scenes(tmp_path / "held-out", 5, split="validation")
    recipe = {
        "epochs": 1, "optimizer": "sgd", "learning_rate": 0.0001, "averaging": 0.9,
        "batch_norm": False, "clip_norm": None,
    }  # fmt: skip
    found, log = [], tmp_path / "log"
    log.mkdir()
    for workers in (1, 2):
        config = make_train_config(
            scenes,
            tmp_path / str(workers),
            task="classify",
            recipe=recipe,
            held_out=ValidationConfig(validation=held_out, validation_epochs=1),
        )
        codes = train_side_by_side(config, workers, log=log, differs=True)
        assert codes == [0] * workers
        found.append(json.loads(Path(config.output, "result.json").read_text())["measured"])
    assert found[1] == pytest.approx(found[0], rel=1e-4)
    assert found[0]["loss"] > 0
    assert read_measured(log, 2) == [[0, 1], [2, 3, 4]]
