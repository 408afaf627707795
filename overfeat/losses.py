"""What training minimises over the windows of many images at once.

A worker measures sums and counts of its images; workers add up the counts before anyone divides, so
how images are spread over workers changes neither the loss nor its gradient.

Source: Sermanet et al. 2014, sections 4.2 (l2 on boxes), 5 (negatives picked on the fly, "a few
interesting negative examples per image such as random ones or most offending ones") and 6.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal, get_args

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from torch.nn import functional as F

from overfeat.box_coding import BoxCoding
from overfeat.box_losses import BoxLoss, compare_boxes
from overfeat.targets import IGNORED

Negatives = Literal["hardest", "random", "mixed"]
"""Which background windows count: the most offending ones, random ones, or half of each."""

PARTS: Final = ("objects", "background", "boxes")
"""Parts of the loss, in the order of `LossSums`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LossConfig:
    """How the parts of the loss are weighed, and which windows count."""

    class_weight: float = 1.0
    """Weight of the windows with an object, at least 0; 0 trains boxes alone."""
    background_weight: float = 1.0
    """Weight of the background windows, at least 0."""
    box_weight: float = 1.0
    """Weight of the boxes, at least 0; 0 trains classes alone."""
    box_loss: BoxLoss = "l2"
    """How a predicted box is compared with the true one; the paper's is l2."""
    negatives: Negatives = "hardest"
    """Which background windows of an image count."""
    negatives_per_object: float = 1.0
    """How many of them count per window with an object, at least 0."""
    min_negatives: int = 2
    """How many of them count at least in each image, objects or none, at least 0."""

    def __post_init__(self) -> None:
        for name, choice in {"box_loss": BoxLoss, "negatives": Negatives}.items():
            if getattr(self, name) not in get_args(choice):
                expected = f"expected one of {', '.join(get_args(choice))}"
                raise ValueError(f"loss {name}: received {getattr(self, name)!r}, {expected}")
        for name in (*_WEIGHTS, "negatives_per_object", "min_negatives"):
            if not 0 <= getattr(self, name) < math.inf:
                msg = f"loss {name}: received {getattr(self, name)}, expected at least 0 and finite"
                raise ValueError(msg)
        if not any(getattr(self, name) for name in _WEIGHTS):
            raise ValueError(f"loss: received 0 for {', '.join(_WEIGHTS)}, expected one above 0")

    @property
    def parts(self) -> tuple[str, ...]:
        """Those of `PARTS` that count."""
        return tuple(
            part for part, weight in zip(PARTS, _WEIGHTS, strict=True) if getattr(self, weight)
        )


_WEIGHTS: Final = ("class_weight", "background_weight", "box_weight")
"""Weights of `PARTS`, in their order."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LossSums:
    """What some windows add to the loss; sums of other windows can be added."""

    sums: Float[Tensor, " parts"]
    """Loss of each of `PARTS`, summed over its windows."""
    counts: Int64[Tensor, " parts"]
    """Windows of each of `PARTS`."""

    def __add__(self, other: LossSums) -> LossSums:
        """Join the windows of two parts, images or workers."""
        return LossSums(sums=self.sums + other.sums, counts=self.counts + other.counts)


@dataclass(frozen=True, kw_only=True, slots=True)
class Loss:
    """The parts of the loss, each a scalar tensor: means over all windows that were counted."""

    objects: Float[Tensor, ""]
    """Cross-entropy of the windows with an object."""
    background: Float[Tensor, ""]
    """Cross-entropy of the background windows that count."""
    boxes: Float[Tensor, ""]
    """Difference of the boxes."""
    total: Float[Tensor, ""]
    """What is minimised: the weighted sum."""


def measure_classes(
    logits: Float[Tensor, "images windows outputs"],
    labels: Int64[Tensor, "images windows"],
    *,
    background: int | None,
    config: LossConfig,
    seeds: Sequence[int] | None = None,
) -> LossSums:
    """Compare the classes that windows say with those that they should say.

    Args:
        logits: Class scores of each window; one window an image where whole images are classified.
        labels: Class, background, or `IGNORED`.
        background: Label of the background; None if the classifier has none.
        config: Which negatives count.
        seeds: One per image, from which its random negatives are drawn. Made of what names the
            image's turn (run, epoch, sample), they make the draw the same on any worker.

    Returns:
        Sums and counts of the objects and the background.

    Raises:
        ValueError: If random negatives are to be drawn without a seed for each image.
    """
    outputs = logits.shape[2]
    flat = (logits.reshape(-1, outputs), labels.reshape(-1))
    losses = F.cross_entropy(*flat, ignore_index=IGNORED, reduction="none").reshape(labels.shape)
    is_object = _find_objects(labels, background)
    is_negative = torch.zeros_like(is_object)
    if background is not None:
        is_background = labels == background
        chances = _draw_chances(losses, config, seeds)
        wanted = _count_negatives(is_object, config)
        is_negative = _pick_negatives(losses.detach(), chances, is_background, wanted, config)
    return _sum_parts(objects=losses[is_object], background=losses[is_negative], like=losses)


def measure_boxes(
    codes: Float[Tensor, "images windows codes"],
    labels: Int64[Tensor, "images windows"],
    edges: Float[Tensor, "images windows 4"],
    *,
    background: int | None,
    coding: BoxCoding,
    config: LossConfig,
) -> LossSums:
    """Compare the boxes of the windows with an object with the true ones.

    Args:
        codes: Four numbers for each window, or four for each output of the classifier: then those
            of the true class count, and no others learn from the window.
        labels: Class, background, or `IGNORED`.
        edges: True top, left, bottom, right in the windows' frames; read where there is an object.
        background: Label of the background; None if the classifier has none.
        coding: What the four numbers mean.
        config: The loss of a box.

    Returns:
        Sum and count of the boxes.
    """
    is_object = _find_objects(labels, background)
    said = codes.reshape(*labels.shape, codes.shape[2] // 4, 4)[is_object]
    regressor = labels[is_object] if said.shape[1] > 1 else torch.zeros_like(labels[is_object])
    said = said[torch.arange(len(said), device=said.device), regressor]
    losses = compare_boxes(said, edges[is_object].to(said), coding=coding, loss=config.box_loss)
    return _sum_parts(boxes=losses, like=codes)


def weigh_loss(sums: LossSums, counts: Int64[Tensor, " parts"], config: LossConfig) -> Loss:
    """Turn sums into the loss that is minimised.

    Args:
        sums: Of this worker's images.
        counts: Of all workers' images; `sums.counts` where there is one worker.
        config: The weights; a part of weight 0 does not touch the total.

    Returns:
        This worker's share of the loss and of its parts. The shares of all workers, and so their
        gradients, are to be added, not averaged. A part that no worker has is 0.
    """
    means = sums.sums / counts.clamp(min=1)
    weights = [getattr(config, name) for name in _WEIGHTS]
    total = torch.stack(
        [weight * mean for weight, mean in zip(weights, means, strict=True) if weight]
    )
    return Loss(**dict(zip(PARTS, means, strict=True)), total=total.sum())


def is_finite(loss: Loss) -> bool:
    """Tell whether a loss can still be minimised.

    Args:
        loss: Any loss.

    Returns:
        False once the total is infinite or not a number.
    """
    return bool(torch.isfinite(loss.total))


def _find_objects(labels: Tensor, background: int | None) -> Bool[Tensor, "images windows"]:
    is_labelled = labels != IGNORED
    return is_labelled if background is None else is_labelled & (labels != background)


def _sum_parts(*, like: Tensor, **losses: Tensor) -> LossSums:
    """Sums and counts of the parts that are given; nothing of the others."""
    nothing = like.new_zeros(0)
    parts = [losses.get(name, nothing) for name in PARTS]
    counts = torch.tensor([part.numel() for part in parts], device=like.device)
    return LossSums(sums=torch.stack([part.sum() for part in parts]), counts=counts)


def _draw_chances(
    losses: Tensor, config: LossConfig, seeds: Sequence[int] | None
) -> Float[Tensor, "images windows"]:
    """A random number for every window; all equal if nothing is to be drawn.

    Raises:
        ValueError: If there is not one seed per image.
    """
    images, windows = losses.shape
    if config.negatives == "hardest" or not images:
        return torch.zeros_like(losses)
    if seeds is None or len(seeds) != images:
        received = "none" if seeds is None else f"{len(seeds)}"
        msg = (
            f"loss seeds: received {received}, expected {images}, one per image, to draw negatives"
        )
        raise ValueError(msg)
    # On the CPU: another device would draw other numbers from the same seed.
    drawn = [torch.rand(windows, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
    return torch.stack(drawn).to(losses.device)


def _count_negatives(is_object: Tensor, config: LossConfig) -> Int64[Tensor, " images"]:
    per_object = (is_object.sum(dim=1) * config.negatives_per_object).long()
    return per_object.clamp(min=config.min_negatives)


def _pick_negatives(
    losses: Tensor, chances: Tensor, is_background: Tensor, wanted: Tensor, config: LossConfig
) -> Bool[Tensor, "images windows"]:
    """The background windows of each image that count; of an odd number to mix, one hard more."""
    hard = {"hardest": wanted, "random": torch.zeros_like(wanted), "mixed": (wanted + 1) // 2}
    picked = _take_highest(losses, is_background, hard[config.negatives])
    rest = is_background & ~picked
    return picked | _take_highest(chances, rest, wanted - hard[config.negatives])


def _take_highest(values: Tensor, among: Tensor, count: Tensor) -> Bool[Tensor, "images windows"]:
    """As many windows of each image, the highest values first; of equals, the first windows."""
    order = values.masked_fill(~among, -math.inf).argsort(dim=1, descending=True, stable=True)
    rank = order.argsort(dim=1)
    return among & (rank < count[:, None])
