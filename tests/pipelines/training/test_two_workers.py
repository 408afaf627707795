"""Do two workers go on where they were killed, bit for bit, one of them without samples?"""

from __future__ import annotations

import json
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import pytest

from pipelines.training.checkpoints import list_states, prune_states
from pipelines.training.config import ValidationConfig
from tests.builders import write_scenes
from tests.pipelines.training.side_by_side import train_side_by_side
from tests.pipelines.training.tiny_training import make_train_config


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    """Nine scenes, four of them a step: in each epoch's last step one worker has none."""
    folder = tmp_path_factory.mktemp("two")
    held_out = write_scenes(folder / "held-out", 2, split="validation")
    return make_train_config(
        write_scenes(folder / "scenes", 9),
        folder / "undisturbed",
        context=True,
        scales=("245x245", "317x317"),
        decoders=1,
        recipe={"dropout": 0.5},
        checkpoint_steps=1,
        held_out=ValidationConfig(validation=held_out),
    )


@pytest.fixture(scope="module")
def undisturbed(config, tmp_path_factory):
    """What two workers learn from that nobody kills, and their weights."""
    log = tmp_path_factory.mktemp("log")
    assert train_side_by_side(config, 2, log=log) == [0, 0]
    return log, read_weights(config)


def read_weights(config):
    return Path(config.output, "model.safetensors").read_bytes()


def count_samples(log, rank):
    """Samples of one of two workers, step by step."""
    lines = (log / f"2-{rank}.jsonl").read_text().splitlines()
    return [len(seeds) for _, seeds in map(json.loads, lines)]


def test_a_worker_without_samples_takes_part_with_a_blank_batch(undisturbed):
    log, _ = undisturbed
    counts = [count_samples(log, rank) for rank in range(2)]
    assert [sum(both) for both in zip(*counts, strict=True)] == [4, 4, 1, 4, 4, 1]
    assert 0 in counts[0] + counts[1]


def test_two_killed_workers_end_with_the_weights_of_two_that_ran_through(
    config, undisturbed, tmp_path
):
    """In the midst of saving what the second epoch's first step has made."""
    _, weights = undisturbed
    killed = replace(config, output=str(tmp_path / "killed"))
    assert train_side_by_side(killed, 2, dies_at=19) == [-signal.SIGKILL, 1]
    assert list_states(killed.output) == {2, 3}
    assert train_side_by_side(killed, 2) == [0, 0]
    assert read_weights(killed) == weights


def test_a_worker_that_misses_the_newest_state_goes_on_from_it_with_the_first(
    config, undisturbed, tmp_path
):
    _, weights = undisturbed
    resumed = replace(config, output=str(tmp_path / "resumed"))
    shutil.copytree(config.output, resumed.output)
    prune_states(resumed.output, keep={5})
    (tmp_path / "resumed" / "model.safetensors").unlink()
    assert train_side_by_side(resumed, 2, misses=5) == [0, 0]
    assert read_weights(resumed) == weights
