"""A training of seconds: a few scenes, one worker in this process."""

from __future__ import annotations

from dataclasses import replace

from pipelines import storage
from pipelines.training import run as run_module
from pipelines.training.config import TrainConfig
from pipelines.training.recipe import choose_recipe
from pipelines.training.worker import train_worker


def make_train_config(shards, output, *, recipe=None, **changes):
    """Settings of a training of a few steps of four samples."""
    task = changes.get("task", "joint")
    settings = {"streams": 2, "decoders": 0, "checkpoint_steps": 2}
    usual = choose_recipe("tiny", task)
    small = {"epochs": 2, "batch_size": 4, "crops": replace(usual.crops, side=245)} | (recipe or {})
    return TrainConfig(
        shards=None if shards is None else str(shards),
        output=str(output),
        recipe=replace(usual, **small),
        **settings | changes,
    )


def train_here(config, tell=lambda moment: None):
    """Train with one worker in this process, without Ray."""
    output = storage.resolve_uri(config.output)
    return train_worker(run_module.plan_job(config, output), tell)
