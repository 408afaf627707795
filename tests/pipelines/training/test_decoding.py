"""Is an example a function of its sample, the seed and the epoch, and damage an answer?"""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from pipelines.errors import ImageError
from pipelines.images import ImageLimits
from pipelines.shards.samples import encode_metadata
from pipelines.training.decoding import Decoding, decode_sample
from pipelines.training.order import OrderConfig, make_example_rng
from pipelines.training.shard_set import EncodedSample
from tests.pipelines.training.seen import see
from tests.pipelines.training.tiny_shards import make_sample, write_shards

SIZES = (4, 1, 9, 2)
ORDER = OrderConfig(seed=5, streams=3, batch_size=6, shuffle_block=4)


def encode(sample):
    metadata = encode_metadata(sample.metadata)
    return EncodedSample(key=sample.key, image=sample.image, metadata=metadata)


def test_a_sample_is_decoded_with_its_metadata():
    sample = make_sample(7)
    image, metadata = decode_sample(encode(sample), ImageLimits(), classes=8)
    np.testing.assert_array_equal(image, np.full((3, 4, 3), 7, np.uint8))
    assert metadata == sample.metadata


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"image": b""}, "not_an_image"),
        ({"image": make_sample(0).image[:40]}, "truncated"),
        ({"metadata": b""}, "its JSON cannot be read"),
        ({"metadata": b"{}"}, r"its JSON cannot be read: KeyError\('boxes'\)"),
        ({"metadata": b"[1]"}, "its JSON cannot be read"),
        ({"metadata": b'"\xff"'}, "its JSON cannot be read"),
        (
            {"metadata": encode_metadata(replace(make_sample(0).metadata, width=3, height=4))},
            "4 x 3 pixels, its JSON says 3 x 4",
        ),
    ],
)
def test_what_is_wrong_with_a_sample_is_said(wrong, sentence):
    with pytest.raises(ImageError, match=sentence):
        decode_sample(replace(encode(make_sample(0)), **wrong), ImageLimits(), classes=1)


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("label", 2, "says class 2, expected a whole number from 0 to 1"),
        ("label", -1, "says class -1"),
        ("label", 1.0, "says class 1.0"),
        ("label", True, "says class True"),
        ("label", "1", "says class '1'"),
        ("label", [1], r"says class \[1\]"),
        ("box_labels", [2], "says class 2"),
        ("box_labels", [-100], "says class -100"),
        ("box_labels", [None], "says class None"),
        ("boxes", [[1, 0, 1, 2]], r"says box \[1, 0, 1, 2\], expected finite numbers with x_min"),
        ("boxes", [[0, 2, 1, 1]], r"says box \[0, 2, 1, 1\]"),
        ("boxes", [[0, 0, float("inf"), 1]], r"says box \[0, 0, inf, 1\]"),
        ("boxes", [[float("nan"), 0, 1, 1]], r"says box \[nan, 0, 1, 1\]"),
        ("boxes", [[0, 0, 1e39, 1]], r"says box"),
        ("boxes", [[0, 0, 10**400, 1]], r"says box"),
        ("boxes", [[1, 0, 1 + 1e-9, 1]], r"says box"),
        ("boxes", [[0, 0, "2", 1]], r"says box \[0, 0, '2', 1\]"),
        ("boxes", [[0, 0, None, 1]], r"says box \[0, 0, None, 1\]"),
        ("boxes", [[0, 0, 1]], "its JSON cannot be read"),
        ("boxes", None, "its JSON cannot be read"),
    ],
)
def test_a_class_or_a_box_that_is_none_is_damage(name, value, sentence):
    box = {"boxes": [[0, 0, 4, 3]], "box_labels": [1]}
    flags = {flag: [False] for flag in ("difficult", "truncated", "crowd")}
    sample = encode(make_sample(1))
    right = json.loads(sample.metadata) | box | flags
    decode_sample(replace(sample, metadata=json.dumps(right).encode()), ImageLimits(), classes=2)
    wrong = replace(sample, metadata=json.dumps(right | {name: value}).encode())
    with pytest.raises(ImageError, match=sentence):
        decode_sample(wrong, ImageLimits(), classes=2)


def test_json_that_is_too_deep_is_damage():
    sample = replace(encode(make_sample(0)), metadata=b"[" * 100_000)
    with pytest.raises(ImageError, match="its JSON cannot be read"):
        decode_sample(sample, ImageLimits(), classes=1)


def test_an_image_beyond_the_limits_is_refused():
    with pytest.raises(ImageError, match="too_large"):
        decode_sample(encode(make_sample(0)), ImageLimits(max_pixels=11), classes=1)


def make_decoding(shards, **changes):
    settings = {
        "shards": shards,
        "order": ORDER,
        "make_example": see,
        "limits": ImageLimits(),
        "epochs": range(2, 4),
        "first_step": 1,
    }
    return Decoding(**settings | changes)


def test_random_numbers_are_drawn_for_the_number_of_the_sample_in_the_set(tmp_path):
    parts = list(make_decoding(write_shards(tmp_path, SIZES)).iter_parts(range(3)))
    assert [(part.epoch, part.step) for part in parts] == [(2, 1), (2, 2), (3, 0), (3, 1), (3, 2)]
    for part in parts:
        for example in (one for made in part.examples.values() for one in made):
            assert example.draw == make_example_rng(5, part.epoch, example.number).random()


def test_the_parts_of_several_processes_are_those_of_one(tmp_path):
    decoding = make_decoding(write_shards(tmp_path, SIZES))
    whole = decoding.iter_parts([0, 1, 2])
    halves = zip(decoding.iter_parts([0, 2]), decoding.iter_parts([1]), strict=True)
    for part, (one, other) in zip(whole, halves, strict=True):
        numbers = tell(part)
        assert numbers == tell(one) | tell(other)
        assert part.samples == one.samples + other.samples


def tell(part):
    return {stream: [one.number for one in made] for stream, made in part.examples.items()}


def test_damaged_samples_are_counted_and_named(tmp_path):
    shards = write_shards(tmp_path, SIZES, damage={3, 10})
    decoding = make_decoding(shards, epochs=range(1), first_step=0)
    parts = list(decoding.iter_parts(range(3)))
    damages = [damage for part in parts for damage in part.damages]
    assert {(one.key, one.shard) for one in damages} == {
        ("folder/key-003", "train-000000.tar"),
        ("folder/key-010", "train-000002.tar"),
    }
    assert sum(part.samples for part in parts) == 16
    assert sum(len(made) for part in parts for made in part.examples.values()) == 14


def test_a_process_without_samples_has_a_part_in_every_step(tmp_path):
    shards = write_shards(tmp_path, [1])
    decoding = make_decoding(shards, epochs=range(1), first_step=0)
    counts = [[part.samples for part in decoding.iter_parts([s])] for s in range(3)]
    assert sorted(counts) == [[0], [0], [1]]
