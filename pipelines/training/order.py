"""In which order does training see the samples?

The order is a function of (seed, epoch) and of nothing else: not of the workers, not of time. It is
cut into a fixed number of streams, and every global batch takes equally from each. So one and many
workers see the same global batches, and a resume can start at any step without those before it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipelines.errors import InputError

_SHARDS, _BLOCKS, _EXAMPLES = 1, 2, 3
"""What random numbers are drawn for: the first part of their seed, so that no two coincide. Not 0,
which a SeedSequence takes for the absence of a word."""
_SEEDS: Final = 2**32
"""A larger seed would be two words of a SeedSequence, and could be mistaken for seed and epoch."""


@dataclass(frozen=True, kw_only=True, slots=True)
class OrderConfig:
    """What decides the order of samples.

    A checkpoint keeps it: with another, a resume would repeat samples and skip others.
    """

    seed: int
    """Of the order and of every example, from 0 to below 2**32."""
    streams: int
    """Into how many parts an epoch is cut, each read by one process: at least the workers, and a
    multiple of workers times decoding processes for all of them to have equal work."""
    batch_size: int
    """Samples of a global batch, of all workers together; a multiple of `streams`."""
    shuffle_block: int = 1024
    """Consecutive samples of a stream that are shuffled among each other, on top of the shuffled
    shards (assumed: shards were packed in a random order). A worker holds this many encoded images
    for each of its streams."""

    def __post_init__(self) -> None:
        if not 0 <= self.seed < _SEEDS:
            raise InputError(f"--seed: received {self.seed}, expected from 0 to below {_SEEDS}")
        for name in ("streams", "batch_size", "shuffle_block"):
            if getattr(self, name) < 1:
                flag = name.replace("_", "-")
                raise InputError(f"--{flag}: received {getattr(self, name)}, expected at least 1")
        if self.batch_size % self.streams:
            raise InputError(
                f"--batch-size: received {self.batch_size}, expected a multiple of the "
                f"{self.streams} streams, of which a batch takes equally; change it or --streams"
            )

    @property
    def stream_share(self) -> int:
        """Samples of a global batch that each stream gives."""
        return self.batch_size // self.streams


class Segment(NamedTuple):
    """Neighbouring samples of one shard."""

    shard: int
    """Place of the shard in the set."""
    start: int
    """First sample in the shard, from 0."""
    stop: int
    """Behind the last sample."""


@dataclass(frozen=True, slots=True)
class SamplePlace:
    """Where a sample stands."""

    shard: int
    """Place of the shard in the set."""
    index: int
    """Place of the sample in the shard, from 0."""


class EpochOrder:
    """The order of one epoch, in which each sample comes once.

    The shards are shuffled; the samples in that order are cut into contiguous streams whose lengths
    differ by at most 1; a stream is shuffled block by block.
    """

    def __init__(self, shard_sizes: Sequence[int], config: OrderConfig, epoch: int) -> None:
        """Shuffle the shards.

        Args:
            shard_sizes: Samples of each shard.
            config: Seed, streams, batch.
            epoch: From 0.
        """
        self.config = config
        self.epoch = epoch
        self._sizes = np.array(shard_sizes, dtype=np.int64)
        self._shards = _draw_order(len(shard_sizes), _SHARDS, config.seed, epoch)
        self._ends = np.cumsum(self._sizes[self._shards])
        streams = np.arange(config.streams + 1, dtype=np.int64)
        self._starts = streams * int(self._sizes.sum()) // config.streams

    @property
    def stream_sizes(self) -> NDArray[np.int64]:
        """Samples of each stream, int64 (streams,)."""
        return np.diff(self._starts)

    @property
    def steps(self) -> int:
        """Global batches of the epoch. All are full but the last."""
        return -(-int(self.stream_sizes.max()) // self.config.stream_share)

    def count_samples(self, step: int) -> int:
        """Count the samples of a global batch.

        Args:
            step: From 0.

        Returns:
            At most the size of a batch; less in the last step.
        """
        share = self.config.stream_share
        return int(np.clip(self.stream_sizes - step * share, 0, share).sum())

    def locate(self, stream: int, step: int) -> list[SamplePlace]:
        """Say what a stream gives to a global batch.

        Args:
            stream: From 0.
            step: From 0.

        Returns:
            Where its samples stand, in order: none, if the stream has ended.
        """
        share = self.config.stream_share
        size = int(self.stream_sizes[stream])
        positions = range(step * share, min((step + 1) * share, size))
        return [self._locate(stream, position) for position in positions]

    def iter_segments(self, stream: int, first: int = 0) -> Iterator[Segment]:
        """Say what a stream reads, before its blocks are shuffled.

        Args:
            stream: From 0.
            first: Samples of the stream to leave out at its start.

        Yields:
            Parts of shards, none of them empty, in the order of reading.
        """
        position = int(self._starts[stream]) + first
        end = int(self._starts[stream + 1])
        place = int(np.searchsorted(self._ends, position, side="right"))
        while position < end:
            shard = int(self._shards[place])
            begin = int(self._ends[place] - self._sizes[shard])
            stop = min(end, int(self._ends[place]))
            if position < stop:
                yield Segment(shard=shard, start=position - begin, stop=stop - begin)
            position = stop
            place += 1

    def permute_block(self, stream: int, block: int) -> NDArray[np.int64]:
        """Shuffle a block of a stream.

        Args:
            stream: From 0.
            block: From 0; the last one of a stream may be shorter.

        Returns:
            For each place in the order of training the place in the order of reading, both from 0
            at the start of the block, int64 (samples,).
        """
        length = self.config.shuffle_block
        size = min(length, int(self.stream_sizes[stream]) - block * length)
        return _draw_order(size, _BLOCKS, self.config.seed, self.epoch, stream, block)

    def _locate(self, stream: int, position: int) -> SamplePlace:
        block, offset = divmod(position, self.config.shuffle_block)
        start = int(self._starts[stream]) + block * self.config.shuffle_block
        wanted = start + int(self.permute_block(stream, block)[offset])
        place = int(np.searchsorted(self._ends, wanted, side="right"))
        shard = int(self._shards[place])
        return SamplePlace(shard, wanted - int(self._ends[place] - self._sizes[shard]))


def make_example_rng(seed: int, epoch: int, sample: int) -> np.random.Generator:
    """Make the random numbers of one example: its crop, its flip.

    Args:
        seed: Of the training.
        epoch: From 0.
        sample: Its number in the set: samples of the shards before its own, in the order of the
            index, plus its place in the shard.

    Returns:
        A generator that no other sample, epoch or seed shares.
    """
    words = np.random.SeedSequence([_EXAMPLES, seed, epoch, sample])
    return np.random.Generator(np.random.PCG64(words))


def _draw_order(size: int, *words: int) -> NDArray[np.int64]:
    """Permute `size` places.

    NumPy promises the same raw bits for ever, but not the same shuffle: a resume under another
    NumPy must not change the order.
    """
    bits = np.random.PCG64(np.random.SeedSequence(words)).random_raw(size)
    return np.argsort(bits, kind="stable")
