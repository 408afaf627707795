"""Does a stream give its order, from any place on, with no more than a block in memory?"""

from __future__ import annotations

import itertools
import weakref

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.training.order import EpochOrder, OrderConfig
from pipelines.training.stream_reader import iter_stream

SIZES = (7, 0, 30, 1, 12)


class Counted:
    """Shards without files: what would be read is written down."""

    def __init__(self):
        self.read = []

    def iter_samples(self, number, start, stop):
        for index in range(start, stop):
            self.read.append((number, index))
            yield number, index


def make_order(streams=2, block=8, epoch=0):
    config = OrderConfig(seed=1, streams=streams, batch_size=streams, shuffle_block=block)
    return EpochOrder(SIZES, config, epoch)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.integers(1, 4), st.integers(1, 60), st.integers(0, 2), st.data())
def test_a_stream_gives_its_order_from_any_place_on(streams, block, epoch, data):
    order = make_order(streams, block, epoch)
    stream = data.draw(st.integers(0, streams - 1))
    places = [one for step in range(order.steps) for one in order.locate(stream, step)]
    first = data.draw(st.integers(0, len(places)))
    given_out = list(iter_stream(Counted(), order, stream, first))
    assert [(one.shard, one.index) for one in given_out] == [
        (one.shard, one.index) for one in places[first:]
    ]
    assert all(one.encoded == (one.shard, one.index) for one in given_out)


class Encoded:
    """A sample that can be watched."""


class Watched:
    """Shards whose samples are counted as long as anybody holds them."""

    def __init__(self):
        self.alive = weakref.WeakSet()
        self.most = 0

    def iter_samples(self, number, start, stop):
        for _ in range(start, stop):
            sample = Encoded()
            self.alive.add(sample)
            self.most = max(self.most, len(self.alive))
            yield sample


@pytest.mark.parametrize("first", [0, 3, 8])
def test_a_stream_never_holds_more_than_a_block_and_the_sample_it_gives(first):
    shards = Watched()
    for _ in iter_stream(shards, make_order(), 0, first):
        pass
    assert shards.most <= 8 + 1


def test_reading_comes_evenly():
    shards = Counted()
    reads = [len(shards.read) for _ in iter_stream(shards, make_order(), 0)]
    assert reads[0] == 8
    assert {later - earlier for earlier, later in itertools.pairwise(reads)} <= {0, 1}


def test_a_resume_reads_nothing_before_the_block_of_its_place():
    whole, resumed = Counted(), Counted()
    list(iter_stream(whole, make_order(), 1))
    list(iter_stream(resumed, make_order(), 1, first=19))
    assert resumed.read == whole.read[16:]
