"""What does one sample give to a batch? Pixels of a canvas, and what its windows should say.

Every draw comes from the random numbers of (seed, epoch, sample), so an example does not depend on
who makes it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from overfeat.architectures import Architecture
from overfeat.checkpoint import Normalization
from overfeat.scales import Canvas
from overfeat.targets import IGNORED
from pipelines.errors import ImageError, ImageReason
from pipelines.shards.samples import SampleMetadata
from pipelines.training.context import (
    LowerBatch,
    LowerScale,
    join_lower_scales,
    make_blank_lower_scale,
)
from pipelines.training.crops import CropMaker, TrainingImage, draw_whole
from pipelines.training.recipe import Recipe, TrainingTask

_SEEDS = 2**31


@dataclass(frozen=True, kw_only=True, slots=True)
class Example:
    """What one sample gives to a batch."""

    canvas: NDArray[np.float32]
    """Normalised pixels (3, height, width)."""
    labels: NDArray[np.int64]
    """Class of every window (windows,), the background's index, or `IGNORED`."""
    edges: NDArray[np.float32]
    """Top, left, bottom, right of every window's object (windows, 4), in the window's frame."""
    seed: int
    """For what is drawn later: which background windows count."""
    lower: LowerScale | None = None
    """What the windows are told; None for a network without context."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Batch:
    """Examples of equal size."""

    canvases: Tensor
    """Normalised pixels (b, 3, height, width), float32."""
    labels: Tensor
    """Label of every window (b, windows), int64."""
    edges: Tensor
    """Box edges of every window (b, windows, 4), float32."""
    seeds: tuple[int, ...]
    """One per example."""
    lower: LowerBatch | None = None
    """What the windows are told; None for a network without context."""
    is_blank: bool = False
    """Whether it shows no image, and stands for a worker that has none."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ExampleMaker:
    """Makes the examples of one training."""

    task: TrainingTask
    """What is learnt."""
    architecture: Architecture
    """Whose windows are labelled."""
    normalization: Normalization
    """How pixels become inputs."""
    ladder: tuple[Canvas, ...]
    """Scales that crops cover."""
    background: int | None
    """Label of the background; None if there is none."""
    recipe: Recipe
    """Which crops, and which windows are examples."""
    context: bool
    """Whether the windows are told what the next lower scale saw."""

    def __call__(
        self,
        pixels: NDArray[np.uint8],
        metadata: SampleMetadata,
        rng: np.random.Generator,
        epoch: int,
    ) -> Example:
        """Make an example.

        Args:
            pixels: RGB (height, width, 3).
            metadata: What is known about the image.
            rng: Source of every choice.
            epoch: From 0; the first ones may show portraits.

        Returns:
            The example.

        Raises:
            ImageError: If the image is to be classified and has no class.
        """
        image, lower = _list_objects(pixels, metadata), None
        if rng.uniform() < self.recipe.crops.flip:
            image = _mirror(image)
        if self.task == "classify":
            canvas = draw_whole(
                image.pixels,
                rng,
                window=self.architecture.window,
                normalization=self.normalization,
                config=self.recipe.crops,
            )
            labels = np.array([_find_class(metadata)], dtype=np.int64)
            edges = np.zeros((1, 4), np.float32)
        else:
            portrait = rng.uniform() < self.recipe.share_of_portraits(epoch)
            crop = self._crop_maker(metadata).draw(image, rng, portrait=portrait)
            canvas, labels, edges, lower = crop.canvas, crop.labels, crop.edges, crop.lower
        seed = int(rng.integers(_SEEDS))
        return Example(canvas=canvas, labels=labels, edges=edges, seed=seed, lower=lower)

    def _crop_maker(self, metadata: SampleMetadata) -> CropMaker:
        # It shows its class somewhere, where nobody has drawn a box.
        is_unboxed = metadata.label is not None and not metadata.objects
        return CropMaker(
            architecture=self.architecture,
            normalization=self.normalization,
            ladder=self.ladder,
            background=None if is_unboxed else self.background,
            targets=self.recipe.targets,
            config=self.recipe.crops,
            context=self.context,
        )


def join_examples(examples: Sequence[Example]) -> Batch:
    """Put examples side by side.

    Args:
        examples: At least one, of equal size.

    Returns:
        The batch.
    """
    lower = [one.lower for one in examples if one.lower is not None]
    return Batch(
        canvases=torch.from_numpy(np.stack([one.canvas for one in examples])),
        labels=torch.from_numpy(np.stack([one.labels for one in examples])),
        edges=torch.from_numpy(np.stack([one.edges for one in examples])),
        seeds=tuple(one.seed for one in examples),
        lower=join_lower_scales(lower) if lower else None,
    )


def make_blank(side: int, cells: int, *, context: bool) -> Batch:
    """Make a batch that teaches nothing: for a worker without samples, who must not be waited for.

    Args:
        side: Of the square canvas, in pixels.
        cells: Rows, and columns, of windows on it.
        context: Whether the network has context.

    Returns:
        One canvas of the mean colour, all of whose windows are ignored.
    """
    windows = cells * cells
    return Batch(
        canvases=torch.zeros(1, 3, side, side),
        labels=torch.full((1, windows), IGNORED),
        edges=torch.zeros(1, windows, 4),
        seeds=(0,),
        lower=join_lower_scales([make_blank_lower_scale(side, cells)]) if context else None,
        is_blank=True,
    )


def _list_objects(pixels: NDArray[np.uint8], metadata: SampleMetadata) -> TrainingImage:
    """Windows that see a crowd, or an object that is hard to tell, are no examples of anything."""
    boxes = [one.box_xyxy for one in metadata.objects]
    labels = [IGNORED if one.crowd or one.difficult else one.label for one in metadata.objects]
    return TrainingImage(
        pixels=pixels,
        boxes_xyxy=np.array(boxes, dtype=np.float32).reshape(-1, 4),
        labels=np.array(labels, dtype=np.int64),
    )


def _mirror(image: TrainingImage) -> TrainingImage:
    boxes = image.boxes_xyxy.copy()
    boxes[:, [0, 2]] = image.pixels.shape[1] - boxes[:, [2, 0]]
    pixels = np.ascontiguousarray(image.pixels[:, ::-1])
    return TrainingImage(pixels=pixels, boxes_xyxy=boxes, labels=image.labels)


def _find_class(metadata: SampleMetadata) -> int:
    """The image's class; where only objects are labelled, theirs if it is one.

    Raises:
        ImageError: If there is none.
    """
    classes = {one.label for one in metadata.objects}
    if metadata.label is not None:
        return metadata.label
    if len(classes) != 1:
        raise ImageError(
            ImageReason.UNSUPPORTED,
            f"{metadata.original_name}: has objects of {len(classes)} classes and none of its own, "
            "expected one class to learn; train --task detect or joint",
        )
    return classes.pop()
