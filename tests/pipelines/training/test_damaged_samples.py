"""Does a training get over samples that cannot be decoded, and count them?"""

from __future__ import annotations

import json
import logging
from dataclasses import asdict

import pytest

from pipelines.shards.samples import Sample, decode_metadata
from pipelines.shards.writer import pack_shards
from pipelines.training.shard_set import open_shard_set
from tests.builders import write_scenes
from tests.pipelines.training.tiny_training import make_train_config, train_here

DAMAGED = {"train-0003", "train-0006"}


@pytest.fixture
def scenes(tmp_path):
    """Ten scenes, two of which are cut off in their middle."""
    whole = tmp_path / "whole"
    found = open_shard_set(write_scenes(whole, 10), "train")
    samples = [
        Sample(key=one.key, image=cut(one), extension="jpg", metadata=decode_metadata(one.metadata))
        for number, shard in enumerate(found.shards)
        for one in found.iter_samples(number, 0, shard.samples)
    ]
    shards = pack_shards(
        str(tmp_path / "scenes"), split="train", samples=samples, samples_per_shard=4
    )
    index = json.loads((whole / "index.json").read_text()) | {"shards": shards}
    (tmp_path / "scenes" / "index.json").write_text(json.dumps(index))
    return tmp_path / "scenes"


def cut(sample):
    return sample.image[: len(sample.image) // 2] if sample.key in DAMAGED else sample.image


def test_a_training_over_damaged_samples_ends_and_counts_them(scenes, tmp_path, caplog):
    config = make_train_config(scenes, tmp_path / "out", task="classify")
    with caplog.at_level(logging.WARNING):
        position = train_here(config)
    assert (position.steps, position.samples, position.damaged) == (6, 20, 4)
    result = json.loads((tmp_path / "out" / "result.json").read_text())
    assert result["position"] == asdict(position)
    for key in DAMAGED:
        assert sum(f"sample {key} of" in line for line in caplog.messages) == 1
