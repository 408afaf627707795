"""How long does a core take for a training example? `python -m benchmarks.examples`, half a minute.

Processor time of one thread, so that waiting for a turn does not count.
"""

from __future__ import annotations

import statistics
import time
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch

from benchmarks.decode import encode_photographs
from overfeat.checkpoint import CheckpointConfig
from overfeat.zoo import get_architecture
from pipelines.images import ImageLimits, decode_image
from pipelines.shards.samples import ObjectMetadata, SampleMetadata
from pipelines.training.examples import Example, ExampleMaker
from pipelines.training.recipe import TrainingTask, choose_recipe

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

MEGAPIXELS = 0.19
"""500 x 375, the usual size in ImageNet."""
ROUNDS = 40
ARCHITECTURE = "accurate"
TASKS: tuple[TrainingTask, ...] = ("classify", "detect")


def make_maker(task: TrainingTask) -> ExampleMaker:
    """Put together what makes the examples of a task.

    Args:
        task: With the paper's recipe.

    Returns:
        The maker.
    """
    checkpoint = CheckpointConfig(architecture=ARCHITECTURE, classes=("one",), background=True)
    return ExampleMaker(
        task=task,
        architecture=get_architecture(ARCHITECTURE),
        normalization=checkpoint.normalization,
        ladder=checkpoint.ladder,
        background=1 if task == "detect" else None,
        recipe=choose_recipe(ARCHITECTURE, task),
        context=False,
    )


def decode_file(file: bytes) -> NDArray[np.uint8]:
    """Decode an image.

    Args:
        file: Encoded.

    Returns:
        RGB (height, width, 3).
    """
    return decode_image(file, ImageLimits())


def make_example(maker: ExampleMaker, file: bytes) -> Example:
    """Decode an image and make an example of it.

    Args:
        maker: What makes it.
        file: Encoded.

    Returns:
        The example.
    """
    pixels = decode_file(file)
    height, width = pixels.shape[:2]
    box = (0.3 * width, 0.3 * height, 0.6 * width, 0.7 * height)
    metadata = SampleMetadata(
        width=width,
        height=height,
        original_name="photograph",
        objects=(ObjectMetadata(label=0, box_xyxy=box),),
    )
    # The seed follows from the file, as in training from the sample.
    return maker(pixels, metadata, np.random.default_rng(len(file)), 0)


def time_files(files: list[bytes], work: Callable[[bytes], object]) -> float:
    """Time a piece of work.

    Args:
        files: What it is done with.
        work: The work.

    Returns:
        Milliseconds of processor time per file, the median of the rounds.
    """
    rounds = []
    for _ in range(ROUNDS):
        start = time.process_time()
        for file in files:
            work(file)
        rounds.append(1000 * (time.process_time() - start) / len(files))
    return statistics.median(rounds)


def main() -> None:
    """Print the table."""
    torch.set_num_threads(1)
    files = encode_photographs(MEGAPIXELS)
    print(f"`{ARCHITECTURE}`, images of {MEGAPIXELS} megapixels\n\n| work | ms |\n|---|---|")
    print(f"| decode | {time_files(files, decode_file):.2f} |")
    for task in TASKS:
        milliseconds = time_files(files, partial(make_example, make_maker(task)))
        print(f"| decode, and make an example for `{task}` | {milliseconds:.2f} |", flush=True)


if __name__ == "__main__":
    main()
