"""What does a decoding process do? It makes the examples of whole streams, step after step.

An example is a function of its sample, the seed and the epoch: whoever makes it, it is the same.
No random numbers but its own are drawn.
"""

from __future__ import annotations

import itertools
import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from multiprocessing.process import BaseProcess
from typing import Final, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import IterableDataset, get_worker_info

from pipelines.errors import ImageError, ImageReason, PipelineError
from pipelines.images import ImageLimits, decode_image
from pipelines.shards.samples import Box, SampleMetadata, decode_metadata
from pipelines.training.order import EpochOrder, OrderConfig, make_example_rng
from pipelines.training.shard_set import EncodedSample, ShardSet
from pipelines.training.stream_reader import StreamSample, iter_stream
from pipelines.training.transport import Packed, pack_arrays

_FARTHEST: Final = 2.0**31
"""Beyond every image, in pixels."""

Example = TypeVar("Example")

MakeExample = Callable[[NDArray[np.uint8], SampleMetadata, np.random.Generator, int], Example]
"""Makes an example of an image (height, width, 3) in RGB, what is known about it, random numbers of
its own, and the epoch; raises ImageError if there is none. An example is best a dataclass of NumPy
arrays, which go from process to process at the price of one copy, a quarter as long for pixels that
stay uint8; tensors take several."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Damage:
    """A sample that cannot be an example."""

    key: str
    """Of the sample."""
    shard: str
    """Name of its shard."""
    message: str
    """What is wrong with it."""


@dataclass(kw_only=True, slots=True)
class Part(Generic[Example]):
    """What one process adds to a step."""

    epoch: int
    """From 0."""
    step: int
    """From 0 in the epoch."""
    examples: dict[int, list[Example]] = field(default_factory=dict)
    """By stream; fewer than were taken if some were damaged."""
    damages: list[Damage] = field(default_factory=list)
    """Samples that were taken and are no examples."""
    samples: int = 0
    """How many were taken, damaged ones too."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Decoding(Generic[Example]):
    """Which examples are to be made, and how."""

    shards: ShardSet
    """What to read."""
    order: OrderConfig
    """In which order."""
    make_example: MakeExample[Example]
    """Of a decoded image."""
    limits: ImageLimits
    """Which images are refused."""
    epochs: range
    """From which epoch on, and up to which."""
    first_step: int
    """Of the first of them; the others begin at 0."""

    def iter_parts(self, streams: Sequence[int]) -> Iterator[Part[Example]]:
        """Make the examples of some streams.

        Args:
            streams: Which, ascending.

        Yields:
            A part for every step, even where the streams have ended.

        Raises:
            StorageError: A shard cannot be read, or is not what the index says.
        """
        share = self.order.stream_share
        for epoch in self.epochs:
            order = EpochOrder(self.shards.shard_sizes, self.order, epoch)
            first = self.first_step if epoch == self.epochs.start else 0
            readers = {
                stream: iter_stream(self.shards, order, stream, first * share) for stream in streams
            }
            for step in range(first, order.steps):
                part = Part[Example](epoch=epoch, step=step)
                for stream, reader in readers.items():
                    self._add_stream(part, stream, itertools.islice(reader, share))
                yield part

    def begin_after(self, epoch: int, step: int) -> Decoding[Example]:
        """Leave out what is made already.

        Args:
            epoch: One of its own.
            step: Of that epoch, the last one that is made.

        Returns:
            What is left.
        """
        return replace(self, epochs=range(epoch, self.epochs.stop), first_step=step + 1)

    def _add_stream(
        self, part: Part[Example], stream: int, samples: Iterator[StreamSample]
    ) -> None:
        examples = part.examples[stream] = []
        for sample in samples:
            part.samples += 1
            made = self._make(sample, part.epoch)
            if isinstance(made, Damage):
                part.damages.append(made)
            else:
                examples.append(made)

    def _make(self, sample: StreamSample, epoch: int) -> Example | Damage:
        number = self.shards.first_numbers[sample.shard] + sample.index
        rng = make_example_rng(self.order.seed, epoch, number)
        try:
            classes = len(self.shards.classes)
            image, metadata = decode_sample(sample.encoded, self.limits, classes=classes)
            return self.make_example(image, metadata, rng, epoch)
        except ImageError as error:
            name = self.shards.shards[sample.shard].name
            return Damage(key=sample.encoded.key, shard=name, message=str(error))


def decode_sample(
    encoded: EncodedSample, limits: ImageLimits, *, classes: int
) -> tuple[NDArray[np.uint8], SampleMetadata]:
    """Decode the image and the metadata of a sample.

    Args:
        encoded: As it stands in a shard.
        limits: Which images to refuse.
        classes: How many classes the set has.

    Returns:
        The image, uint8 (height, width, 3) in RGB, and what is known about it.

    Raises:
        ImageError: One of them is damaged, or they do not belong together, or a class or a box is
            none.
    """
    image = decode_image(encoded.image, limits)
    try:
        metadata = decode_metadata(encoded.metadata)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        message = f"its JSON cannot be read: {error!r}"
        raise ImageError(ImageReason.CORRUPT, message) from error
    height, width, _ = image.shape
    if (width, height) != (metadata.width, metadata.height):
        raise ImageError(
            ImageReason.CORRUPT,
            f"{width} x {height} pixels, its JSON says {metadata.width} x {metadata.height}",
        )
    _check_values(metadata, classes)
    return image, metadata


def _check_values(metadata: SampleMetadata, classes: int) -> None:
    """Refuse what cannot be learnt from: on a GPU a class that is none ends the process.

    Raises:
        ImageError: A class is none of the set's, or a box has no area.
    """
    labels = [one.label for one in metadata.objects]
    if metadata.label is not None:
        labels.append(metadata.label)
    for label in labels:
        if type(label) is not int or not 0 <= label < classes:
            raise ImageError(
                ImageReason.CORRUPT,
                f"its JSON says class {label!r}, expected a whole number from 0 to {classes - 1}",
            )
    for one in metadata.objects:
        if not _is_box(one.box_xyxy):
            raise ImageError(
                ImageReason.CORRUPT,
                f"its JSON says box {list(one.box_xyxy)!r}, expected finite numbers with x_min "
                "below x_max and y_min below y_max",
            )


def _is_box(box: Box) -> bool:
    # true and "1" would become numbers.
    if not all(type(value) in {int, float} for value in box):
        return False
    if not all(-_FARTHEST < value < _FARTHEST for value in box):
        return False
    # As training has them, where two numbers may become one.
    x_min, y_min, x_max, y_max = np.array(box, np.float32)
    return bool(x_min < x_max and y_min < y_max)


class PackedParts(IterableDataset[Packed | PipelineError], Generic[Example]):
    """The parts of a worker, for torch's DataLoader: each of its processes takes whole streams."""

    def __init__(self, decoding: Decoding[Example], streams: Sequence[int]) -> None:
        """Keep what there is to do.

        Args:
            decoding: Which examples.
            streams: Of this worker, ascending; at least as many as processes.
        """
        self.decoding = decoding
        self.streams = streams

    def __iter__(self) -> Iterator[Packed | PipelineError]:
        """Make this process's part of every step.

        Yields:
            Packed parts. An error of ours is yielded too and ends them: raised, torch would hide
            its sentence in a traceback.
        """
        process = get_worker_info()
        assert process is not None
        mine = self.streams[process.id :: process.num_workers]
        try:
            for part in self.decoding.iter_parts(mine):
                yield pack_arrays(part)
        except PipelineError as error:
            yield error


def end_with_parent(_process: int) -> None:
    """End this process as soon as the one that started it has ended, however that ended.

    torch's own look every five seconds waits afterwards for a pipe that nobody reads any more.
    """
    parent = multiprocessing.parent_process()
    assert parent is not None
    threading.Thread(target=_exit_after, args=[parent], daemon=True).start()


def _exit_after(parent: BaseProcess) -> None:
    parent.join()
    os._exit(1)
