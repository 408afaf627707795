"""Soft suppression: a box near a more probable one is not removed; its probability decays.

Repeat: take the most probable window that is left; decay the others by their overlap with it.
Source: Bodla et al. 2017, figure 2. The paper decays linearly from an IoU of the
threshold on; its authors' code, ensemble-boxes and this one only above it. The authors' code adds a
pixel to each side of a box; ensemble-boxes and this one do not. The function `soft_nms` of
ensemble-boxes 1.0.9 hands back the probabilities from before the decay; here `evidence` is after.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float64

from overfeat.boxes import intersection_over_union
from overfeat.merge.groups import DROPPED, Grouping
from overfeat.merge.limits import MAX_WINDOWS, check_choice, check_max_windows, check_share

Decay = Literal["linear", "gaussian"]
"""What a window's probability is multiplied by:

- `linear`: 1 - IoU, where the IoU is above a threshold.
- `gaussian`: exp(-IoU ** 2 / sigma).
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class SoftSuppression:
    """How overlap lowers a probability."""

    decay: Decay = "gaussian"
    """Form of the decay. The gaussian one has no jump, which is why the paper introduces it."""
    iou: float = 0.3
    """Highest IoU, 0 to 1, that does not decay; for `linear` alone. The default of the authors'
    code."""
    sigma: float = 0.5
    """Width of the decay in squared IoU, above 0; for `gaussian` alone. The default of the authors'
    code."""
    floor: float = 0.001
    """Least decayed probability, 0 to 1, at which a window is kept. The default of the authors'
    code."""
    max_windows: int = MAX_WINDOWS
    """Windows of one class and image that take part, the most probable ones: a bound on time."""

    def __post_init__(self) -> None:
        check_choice("soft-nms decay", self.decay, Decay)
        check_share("soft-nms iou", self.iou)
        check_share("soft-nms floor", self.floor)
        if not 0 < self.sigma < np.inf:
            msg = f"soft-nms sigma: received {self.sigma}, expected a finite number above 0"
            raise ValueError(msg)
        check_max_windows(self.max_windows)


def decay_overlaps(
    boxes_xyxy: Float64[np.ndarray, "windows 4"],
    probabilities: Float64[np.ndarray, " windows"],
    config: SoftSuppression,
) -> Grouping:
    """Decay the probability of each window by the more probable ones near it.

    Args:
        boxes_xyxy: One box per window.
        probabilities: Each window's probability, 0 to 1; the earlier window wins a tie, also one
            of decayed probabilities.
        config: How overlap lowers a probability.

    Returns:
        A group for each window whose decayed probability is not below the floor, its evidence.
    """
    leader = np.full(len(probabilities), DROPPED, dtype=np.int64)
    evidence = np.zeros_like(probabilities)
    # What each window has left; below any floor once it is taken.
    left = probabilities.copy()
    for _ in range(len(left)):
        window = int(left.argmax())
        # What is left only falls: no later window can be above the floor again.
        if left[window] < config.floor:
            break
        leader[window], evidence[window] = window, left[window]
        left[window] = -np.inf
        overlaps = intersection_over_union(boxes_xyxy[window], boxes_xyxy)
        decays = overlaps > (config.iou if config.decay == "linear" else 0)
        near = np.flatnonzero(decays & (left > -np.inf))
        left[near] *= _weigh(overlaps[near], config)
    return Grouping(leader=leader, boxes_xyxy=boxes_xyxy, evidence=evidence)


def _weigh(overlaps: np.ndarray, config: SoftSuppression) -> np.ndarray:
    if config.decay == "linear":
        return np.asarray(1 - overlaps)
    return np.asarray(np.exp(-overlaps * overlaps / config.sigma))
