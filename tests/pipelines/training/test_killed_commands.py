"""Does the command of a training go on where it was killed, and end with the same weights?"""

from __future__ import annotations

import json
import random
from dataclasses import replace

import pytest

from pipelines import storage
from pipelines.training import checkpoints
from pipelines.training.checkpoints import list_states
from pipelines.training.journal import read_journal
from tests.builders import run_command, write_scenes
from tests.pipelines.training.drivers import kill_at_work, train_flags
from tests.pipelines.training.tiny_training import make_train_config, train_here


def read_losses(config):
    return [(line["step"], line["loss_total"]) for line in read_journal(config.output)]


@pytest.mark.ray
def test_a_command_killed_twice_ends_with_the_weights_of_one_that_ran_through(
    tmp_path, ray_cluster
):
    """More kills, of workers and processes too, are in the long form."""
    scenes = write_scenes(tmp_path / "scenes", 10)
    config = make_train_config(
        scenes,
        tmp_path / "killed",
        task="classify",
        recipe={"epochs": 10, "dropout": 0.5},
        log_steps=1,
    )
    undisturbed = replace(config, output=str(tmp_path / "undisturbed"))
    train_here(undisturbed)
    source = random.Random(7)
    for _ in range(2):
        assert kill_at_work(config, tmp_path / "log", source, pause_s=0.5)

    ended = run_command(*train_flags(config), "--json")
    assert ended.code == 0, ended.err
    assert json.loads(ended.out)["steps"] == 30
    assert "the command goes on where it stood" in ended.err
    assert "INFO goes on after step" in ended.err
    contents = [
        (tmp_path / name / "model.safetensors").read_bytes() for name in ("killed", "undisturbed")
    ]
    assert contents[0] == contents[1]
    assert read_losses(config) == read_losses(undisturbed)


class StoppedError(Exception):
    """In place of a kill."""


def stop_at_write(monkeypatch, count):
    """Let the training of this process end before one of its writes."""
    write_bytes, left = checkpoints.storage.write_bytes, [count]

    def write_or_stop(*args, **options):
        left[0] -= 1
        if not left[0]:
            raise StoppedError
        write_bytes(*args, **options)

    monkeypatch.setattr(checkpoints.storage, "write_bytes", write_or_stop)


@pytest.mark.ray
@pytest.mark.s3
def test_a_command_goes_on_in_a_bucket_where_a_training_was_stopped(
    tmp_path, s3_bucket, ray_cluster, monkeypatch
):
    scenes = write_scenes(tmp_path / "scenes", 10)
    local = make_train_config(scenes, tmp_path / "local", task="classify", log_steps=1)
    train_here(local)
    config = replace(local, output=f"s3://{s3_bucket}/models/one")
    with monkeypatch.context() as patch:
        stop_at_write(patch, 15)
        with pytest.raises(StoppedError):
            train_here(config)
    assert max(list_states(config.output)) == 3
    before = read_journal(config.output)[:3]

    ended = run_command(*train_flags(config))
    assert ended.code == 0, ended.err
    weights = storage.read_bytes(storage.join_uri(config.output, "model.safetensors"))
    assert weights == (tmp_path / "local" / "model.safetensors").read_bytes()
    # Lines of steps that are done again bear another time.
    assert read_journal(config.output)[:3] == before
    assert read_losses(config) == read_losses(local)
