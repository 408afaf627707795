from __future__ import annotations

import pytest

from pipelines.errors import InputError
from pipelines.shards.config import ShardsConfig


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"count": 0}, "--count: received 0, expected at least 1"),
        ({"samples_per_shard": 0}, "--samples-per-shard: received 0"),
        ({"shard_bytes": 0}, "--shard-bytes: received 0"),
        ({"workers": 0}, "--workers: received 0"),
        ({"seed": -1}, "--seed: received -1, expected at least 0"),
        ({"augment": 1.5}, "--augment: received 1.5, expected from 0 to 1"),
        ({"split": "test", "augment": 0.5}, "expected 'train'"),
        ({"split": "val"}, "expected one of train, validation, test"),
        ({"split": "../train"}, "--split: received '../train'"),
        ({"input": "x"}, "--input: says nothing for --source digit-scenes"),
        ({"max_side": 9}, "--max-side: says nothing"),
        ({"source": "voc"}, "--input: received none"),
        ({"source": "voc", "input": "x", "max_side": 0}, "--max-side: received 0"),
        ({"source": "voc", "input": "x", "count": 5}, "--count: says nothing for --source voc"),
        ({"source": "voc", "input": "x", "augment": 0.5}, "--augment: says nothing"),
        ({"source": "coco", "input": "x", "image_set": "Action"}, "--image-set: says nothing"),
    ],
)
def test_a_configuration_that_makes_no_sense_is_refused(settings, message):
    with pytest.raises(InputError, match=message):
        ShardsConfig(output="x", **settings)


def test_the_seed_is_no_part_of_the_recipe_where_nothing_is_random():
    settings = {"output": "x", "source": "voc", "input": "y"}

    assert "seed" in ShardsConfig(**settings, split="trainval").describe_recipe()
    assert "seed" not in ShardsConfig(**settings, split="val").describe_recipe()


def test_where_it_runs_is_no_part_of_the_recipe():
    here = ShardsConfig(output="x", workers=1)
    there = ShardsConfig(output="y", workers=2, address="127.0.0.1:1")

    assert here.describe_recipe() == there.describe_recipe()
