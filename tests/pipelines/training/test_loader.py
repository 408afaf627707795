"""Are batches a function of the seed and the step alone?"""

from __future__ import annotations

import json
from collections import Counter

import numpy as np
import pytest
import torch

from pipelines.errors import InputError
from pipelines.training.crops import Crop
from pipelines.training.loader import iter_batches, read_classes, read_samples
from tests.builders import write_scenes

SAMPLES = 6


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scenes")
    write_scenes(folder, SAMPLES)
    return folder


def draw_brightness(image, rng, step):
    """A crop of three numbers: which picture, which random number, which step."""
    place = image.boxes_xyxy[0, 0]
    canvas = np.array([[[place, rng.uniform(), step]]], np.float32)
    return Crop(canvas=canvas, labels=image.labels, edges=image.boxes_xyxy)


def draw_steps(scenes, *, steps, batch_size=4, seed=1):
    samples = read_samples(scenes, "train")
    batches = iter_batches(samples, draw_brightness, steps=steps, batch_size=batch_size, seed=seed)
    return [batch.canvases[:, 0, 0] for batch in batches]


def test_samples_are_read_with_their_boxes_and_labels(scenes):
    samples = read_samples(scenes, "train")
    assert [sample.key for sample in samples] == [f"train-{n:04d}" for n in range(SAMPLES)]
    assert [sample.labels.tolist() for sample in samples] == [[0], [1]] * 3
    assert all(sample.boxes_xyxy.shape == (1, 4) for sample in samples)
    assert all(sample.image.startswith(b"\xff\xd8") for sample in samples)
    assert read_classes(scenes) == ["red", "green"]


def test_batches_are_the_same_every_time_and_however_many_follow(scenes):
    short, again, long = (draw_steps(scenes, steps=steps) for steps in (3, 3, 5))
    for one, other, third in zip(short, again, long, strict=False):
        assert torch.equal(one, other)
        assert torch.equal(one, third)
    assert len(long) == 5


def test_another_seed_gives_another_order_and_other_crops(scenes):
    one, other = (torch.cat(draw_steps(scenes, steps=3, seed=seed)) for seed in (1, 2))
    assert not torch.equal(one[:, 0], other[:, 0])
    assert not set(one[:, 1].tolist()) & set(other[:, 1].tolist())


def test_an_epoch_sees_each_sample_once_in_an_order_of_its_own(scenes):
    drawn = torch.cat(draw_steps(scenes, steps=6, batch_size=3))
    epochs = [drawn[start : start + SAMPLES, 0].tolist() for start in (0, SAMPLES, 2 * SAMPLES)]
    assert all(Counter(epoch) == Counter(epochs[0]) for epoch in epochs)
    assert len(set(epochs[0])) == SAMPLES
    assert epochs[0] != epochs[1]


def test_every_crop_has_random_numbers_of_its_own_and_knows_its_step(scenes):
    drawn = torch.cat(draw_steps(scenes, steps=6, batch_size=3))
    assert len(set(drawn[:, 1].tolist())) == 18
    assert drawn[:, 2].tolist() == [step for step in range(6) for _ in range(3)]


def test_shards_that_the_index_does_not_name_are_not_read(tmp_path):
    write_scenes(tmp_path, SAMPLES)
    index = json.loads((tmp_path / "index.json").read_text())
    index["shards"] = index["shards"][:1]
    (tmp_path / "index.json").write_text(json.dumps(index))
    assert len(read_samples(tmp_path, "train")) == 4


def test_missing_shards_are_refused(tmp_path, scenes):
    with pytest.raises(InputError, match=r"no index\.json there"):
        read_samples(tmp_path, "train")
    with pytest.raises(InputError, match="no split 'test' there"):
        read_samples(scenes, "test")
