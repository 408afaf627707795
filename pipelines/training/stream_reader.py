"""How is one stream read? Its shards one after the other, shuffled through one block of memory.

As each sample of a block leaves, one of the next block is read into its place: reading is
sequential, comes evenly, and never holds more than a block.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from pipelines.training.order import EpochOrder
from pipelines.training.shard_set import EncodedSample, ShardSet


@dataclass(frozen=True, slots=True)
class StreamSample:
    """A sample, still encoded, and where it stands."""

    shard: int
    """Place of its shard in the set."""
    index: int
    """Its place in the shard, from 0."""
    encoded: EncodedSample
    """What stands there."""


def iter_stream(
    shards: ShardSet, order: EpochOrder, stream: int, first: int = 0
) -> Iterator[StreamSample]:
    """Read a stream in the order of training.

    Args:
        shards: What `order` is the order of.
        order: Of the epoch.
        stream: From 0.
        first: Samples of the stream to leave out at its start; of those, only the ones in the block
            of the first one wanted are read.

    Yields:
        The places of `EpochOrder.locate`, step after step, and what stands there.

    Raises:
        StorageError: A shard cannot be read, or is not what the index says.
    """
    length = order.config.shuffle_block
    block, offset = divmod(first, length)
    arriving = _iter_in_order(shards, order, stream, block * length)
    held: list[StreamSample | None] = list(islice(arriving, length))
    while held:
        following: list[StreamSample | None] = []
        places = order.permute_block(stream, block)
        for place in places[:offset]:
            held[place] = None
        for place in places[offset:]:
            sample, held[place] = held[place], None
            assert sample is not None
            yield sample
            following.extend(islice(arriving, 1))
        following.extend(islice(arriving, length - len(following)))  # after a resume in mid-block
        held, block, offset = following, block + 1, 0


def _iter_in_order(
    shards: ShardSet, order: EpochOrder, stream: int, first: int
) -> Iterator[StreamSample]:
    for shard, start, stop in order.iter_segments(stream, first):
        samples = shards.iter_samples(shard, start, stop)
        for index, encoded in enumerate(samples, start):
            yield StreamSample(shard, index, encoded)
