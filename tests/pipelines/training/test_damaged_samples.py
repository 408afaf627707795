"""Does a training get over samples that cannot be decoded, and count them?"""

from __future__ import annotations

import json
import logging
from dataclasses import asdict

from pipelines.shards.samples import Sample, decode_metadata
from pipelines.shards.writer import pack_shards
from pipelines.training.order import EpochOrder
from pipelines.training.shard_set import open_shard_set
from tests.builders import write_scenes
from tests.pipelines.training.tiny_training import make_train_config, train_here

DAMAGED = {"train-0003", "train-0006"}


def write_damaged(folder, count, damaged):
    """Write scenes, some of which are cut off in their middle."""
    whole = folder / "whole"
    found = open_shard_set(write_scenes(whole, count), "train")
    samples = [
        Sample(
            key=one.key,
            image=one.image[: len(one.image) // 2] if one.key in damaged else one.image,
            extension="jpg",
            metadata=decode_metadata(one.metadata),
        )
        for number, shard in enumerate(found.shards)
        for one in found.iter_samples(number, 0, shard.samples)
    ]
    scenes = folder / "scenes"
    shards = pack_shards(str(scenes), split="train", samples=samples, samples_per_shard=4)
    index = json.loads((whole / "index.json").read_text()) | {"shards": shards}
    (scenes / "index.json").write_text(json.dumps(index))
    return scenes


def test_a_training_over_damaged_samples_ends_and_counts_them(tmp_path, caplog):
    config = make_train_config(
        write_damaged(tmp_path, 10, DAMAGED), tmp_path / "out", task="classify"
    )
    with caplog.at_level(logging.WARNING):
        position = train_here(config)
    assert (position.steps, position.samples, position.damaged) == (6, 20, 4)
    result = json.loads((tmp_path / "out" / "result.json").read_text())
    assert result["position"] == asdict(position)
    for key in DAMAGED:
        assert sum(f"sample {key} of" in line for line in caplog.messages) == 1


def test_a_damaged_sample_that_is_all_of_an_epochs_last_batch_stops_nothing(tmp_path):
    """Nine samples in batches of four: one is left, another one in each epoch."""
    config = make_train_config(tmp_path / "scenes", tmp_path / "out", task="classify")
    (last,) = EpochOrder((4, 4, 1), config.order_config(), 0).locate(1, 2)
    write_damaged(tmp_path, 9, {f"train-{4 * last.shard + last.index:04d}"})
    position = train_here(config)
    assert (position.epoch, position.steps, position.samples) == (2, 6, 18)
    assert position.damaged == 2
