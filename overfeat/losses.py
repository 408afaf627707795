"""What training minimises over the windows of many images at once.

Source: Sermanet et al. 2014, sections 4.2 (l2 on box edges) and 5 (negatives picked on the fly, "a
few interesting negative examples per image such as random ones or most offending ones").
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional as F

from overfeat.targets import IGNORED

BoxLoss = Literal["l1", "l2"]
"""Distance between predicted and true edges; the paper's is l2."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LossConfig:
    """How the parts of the loss are weighed."""

    box_loss: BoxLoss = "l2"
    """Distance between box edges, in parts of the window's side."""
    box_weight: float = 1.0
    """Weight of the boxes beside the classes, at least 0."""
    negatives: float = 1.0
    """Background windows that count, the most offending ones first, per window with an object."""
    min_negatives: int = 32
    """Background windows that count even if there is no object."""

    def __post_init__(self) -> None:
        if self.box_loss not in get_args(BoxLoss):
            expected = f"expected one of {', '.join(get_args(BoxLoss))}"
            raise ValueError(f"loss box_loss: received {self.box_loss!r}, {expected}")
        for name in ("box_weight", "negatives"):
            if not 0 <= getattr(self, name) < math.inf:
                msg = f"loss {name}: received {getattr(self, name)}, expected at least 0 and finite"
                raise ValueError(msg)
        if self.min_negatives < 1:
            raise ValueError(
                f"loss min_negatives: received {self.min_negatives}, expected 1 or more"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class Loss:
    """The parts of the loss, each a scalar tensor."""

    objects: Float[Tensor, ""]
    """Mean cross-entropy of the windows with an object."""
    background: Float[Tensor, ""]
    """Mean cross-entropy of the background windows that count."""
    boxes: Float[Tensor, ""]
    """Mean distance of the edges, unweighted."""
    total: Float[Tensor, ""]
    """What is minimised."""


def measure_loss(
    logits: Float[Tensor, "n outputs"],
    edges: Float[Tensor, "n 4"],
    labels: Int64[Tensor, " n"],
    target_edges: Float[Tensor, "n 4"],
    config: LossConfig,
) -> Loss:
    """Compare what a set of windows says with what it should say.

    Args:
        logits: Class scores of each window; the background is the last output.
        edges: Predicted box edges, in the windows' frames.
        labels: Class, background, or `IGNORED`.
        target_edges: True box edges, in the windows' frames; read where there is an object.
        config: Weights.

    Returns:
        The loss and its parts.
    """
    background = logits.shape[1] - 1
    is_object = (labels != background) & (labels != IGNORED)
    per_window = F.cross_entropy(logits, labels, ignore_index=IGNORED, reduction="none")
    count = max(int(is_object.sum().item() * config.negatives), config.min_negatives)
    negatives = per_window[labels == background]
    hardest = negatives.topk(min(count, len(negatives))).values
    distance = F.l1_loss if config.box_loss == "l1" else F.mse_loss
    parts = {
        "objects": _mean(per_window[is_object]),
        "background": _mean(hardest),
        "boxes": _mean(distance(edges, target_edges, reduction="none")[is_object]),
    }
    total = parts["objects"] + parts["background"] + config.box_weight * parts["boxes"]
    return Loss(**parts, total=total)


def _mean(values: Tensor) -> Tensor:
    """Mean, and 0 (with a gradient of 0) of nothing."""
    return values.sum() / max(1, values.numel())


def is_finite(loss: Loss) -> bool:
    """Tell whether a loss can still be minimised.

    Args:
        loss: Any loss.

    Returns:
        False once a part is infinite or not a number.
    """
    return bool(torch.isfinite(loss.total))
