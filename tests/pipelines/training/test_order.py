"""Is the order a function of the seed and the epoch, which any worker can enter at any step?"""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.errors import InputError
from pipelines.training.order import EpochOrder, OrderConfig, SamplePlace, make_example_rng

PROPERTY = settings(max_examples=50, deadline=None, derandomize=True)

shard_sizes = st.lists(st.integers(0, 40), min_size=1, max_size=8).filter(any)
configs = st.builds(
    lambda seed, streams, share, block: OrderConfig(
        seed=seed, streams=streams, batch_size=streams * share, shuffle_block=block
    ),
    st.integers(0, 2**32 - 1),
    st.integers(1, 9),
    st.integers(1, 5),
    st.integers(1, 30),
)
epochs = st.integers(0, 3)

SIZES = [3, 0, 40, 1, 200, 12]
CONFIG = OrderConfig(seed=7, streams=4, batch_size=8, shuffle_block=16)


def locate_all(order):
    """Batches of an epoch as lists of places, by step and stream."""
    streams = range(order.config.streams)
    return [[order.locate(stream, step) for stream in streams] for step in range(order.steps)]


def flatten(batches):
    return [place for batch in batches for places in batch for place in places]


@PROPERTY
@given(shard_sizes, configs, epochs)
def test_an_epoch_sees_each_sample_once(sizes, config, epoch):
    seen = Counter(flatten(locate_all(EpochOrder(sizes, config, epoch))))
    wanted = [SamplePlace(s, i) for s, size in enumerate(sizes) for i in range(size)]
    assert seen == Counter(wanted)


@PROPERTY
@given(shard_sizes, configs)
def test_every_global_batch_but_the_last_is_full_and_takes_equally_from_the_streams(sizes, config):
    order = EpochOrder(sizes, config, 0)
    batches = locate_all(order)
    for batch in batches[:-1]:
        assert {len(places) for places in batch} == {config.stream_share}
    assert 0 < len(flatten(batches[-1:])) <= config.batch_size
    counts = [sum(len(places) for places in batch) for batch in batches]
    assert counts == [order.count_samples(step) for step in range(order.steps)]


@PROPERTY
@given(shard_sizes, configs)
def test_streams_differ_in_length_by_one_at_most(sizes, config):
    stream_sizes = EpochOrder(sizes, config, 0).stream_sizes
    assert stream_sizes.sum() == sum(sizes)
    assert stream_sizes.max() - stream_sizes.min() <= 1


@PROPERTY
@given(shard_sizes, configs, epochs, st.data())
def test_a_stream_reads_its_samples_once_and_shuffles_them_inside_blocks(
    sizes, config, epoch, data
):
    order = EpochOrder(sizes, config, epoch)
    stream = data.draw(st.integers(0, config.streams - 1))
    read = read_stream(order, stream)
    seen = [place for step in range(order.steps) for place in order.locate(stream, step)]
    length = config.shuffle_block
    for block, start in enumerate(range(0, len(read), length)):
        permutation = order.permute_block(stream, block)
        assert seen[start : start + length] == [read[start + place] for place in permutation]
    first = data.draw(st.integers(0, len(read)))
    assert read_stream(order, stream, first) == read[first:]


def read_stream(order, stream, first=0):
    segments = list(order.iter_segments(stream, first))
    assert all(one.start < one.stop for one in segments)
    return [SamplePlace(one.shard, index) for one in segments for index in range(*one[1:])]


def test_shards_and_samples_of_a_block_are_shuffled():
    order = EpochOrder([100] * 20, OrderConfig(seed=1, streams=1, batch_size=1), 0)
    shards = [one.shard for one in order.iter_segments(0)]
    assert shards != sorted(shards)
    block = order.permute_block(0, 0)
    assert sorted(block) == list(range(1024))
    assert np.abs(block - np.arange(1024)).mean() == pytest.approx(1024 / 3, rel=0.1)


def test_epochs_and_seeds_have_orders_of_their_own_and_the_same_one_every_time():
    first, again = (flatten(locate_all(EpochOrder(SIZES, CONFIG, 0))) for _ in range(2))
    assert first == again
    assert flatten(locate_all(EpochOrder(SIZES, CONFIG, 1))) != first
    other = OrderConfig(seed=8, streams=4, batch_size=8, shuffle_block=16)
    assert flatten(locate_all(EpochOrder(SIZES, other, 0))) != first


def test_blocks_and_streams_have_permutations_of_their_own():
    order = EpochOrder([1000], OrderConfig(seed=1, streams=2, batch_size=2, shuffle_block=100), 0)
    permutations = {tuple(order.permute_block(s, b)) for s in range(2) for b in range(5)}
    assert len(permutations) == 10


GOLDEN = "[(2, 1), (2, 0), (3, 0), (0, 1), (2, 3), (2, 2), (0, 2), (1, 0), (0, 0), (4, 0)]"
"""A checkpoint of today must find the same order tomorrow, with any NumPy."""

SHOW_ORDER = """
from pipelines.training.order import EpochOrder, OrderConfig
config = OrderConfig(seed=3, streams=2, batch_size=4, shuffle_block=4)
order = EpochOrder([3, 1, 4, 1, 1], config, 2)
places = [one for step in range(order.steps) for s in range(2) for one in order.locate(s, step)]
print([(one.shard, one.index) for one in places])
"""


@pytest.mark.parametrize("hash_seed", ["0", "12345"])
def test_the_order_is_what_it_always_was_whatever_the_hash_seed_of_python(hash_seed):
    shown = subprocess.run(
        [sys.executable, "-c", SHOW_ORDER],
        env=os.environ | {"PYTHONHASHSEED": hash_seed},
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        check=True,
    )
    assert shown.stdout.strip() == GOLDEN


@PROPERTY
@given(st.lists(st.tuples(*[st.integers(0, 2**32 - 1)] * 3), min_size=2, max_size=9, unique=True))
def test_every_seed_epoch_and_sample_has_random_numbers_of_its_own(keys):
    draws = {make_example_rng(*key).random() for key in keys}
    assert len(draws) == len(keys)


def test_random_numbers_of_an_example_are_the_same_every_time():
    assert make_example_rng(1, 2, 3).random() == make_example_rng(1, 2, 3).random()
    neighbours = {make_example_rng(*key).random() for key in [(0, 0, 1), (0, 1, 0), (1, 0, 0)]}
    assert len(neighbours) == 3


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"batch_size": 6}, "--batch-size: received 6, expected a multiple of the 4 streams"),
        ({"streams": 0}, "--streams: received 0, expected at least 1"),
        ({"shuffle_block": 0}, "--shuffle-block: received 0, expected at least 1"),
        ({"seed": -1}, "--seed: received -1, expected from 0"),
        ({"seed": 2**32}, "--seed: received 4294967296"),
    ],
)
def test_settings_without_an_order_are_refused(wrong, sentence):
    settings = {"seed": 1, "streams": 4, "batch_size": 8}
    with pytest.raises(InputError, match=sentence):
        OrderConfig(**settings | wrong)
