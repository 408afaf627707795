"""Non-maximum suppression: of boxes that overlap, only the most probable one stays.

As torchvision and ensemble-boxes do it: boxes are half-open (no pixel is added to a side), and a
box is suppressed by an IoU above the threshold, not by one that equals it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from overfeat.boxes import intersection_over_union
from overfeat.merge.groups import DROPPED, Grouping, sum_by_leader
from overfeat.merge.limits import MAX_WINDOWS, check_max_windows, check_share


@dataclass(frozen=True, kw_only=True, slots=True)
class NonMaxSuppression:
    """Which overlap suppresses."""

    iou: float = 0.5
    """Highest IoU, 0 to 1, that two boxes which both stay may have. 0.5 is where the ILSVRC and
    VOC criteria begin to take two boxes for the same object."""
    max_windows: int = MAX_WINDOWS
    """Windows of one class and image that take part, the most probable ones: a bound on time."""

    def __post_init__(self) -> None:
        check_share("nms iou", self.iou)
        check_max_windows(self.max_windows)


def suppress_overlaps(
    boxes_xyxy: Float64[np.ndarray, "windows 4"],
    probabilities: Float64[np.ndarray, " windows"],
    config: NonMaxSuppression,
) -> Grouping:
    """Let each most probable window that is left suppress the others near it.

    Args:
        boxes_xyxy: One box per window.
        probabilities: Each window's probability, 0 to 1; the earlier window wins a tie.
        config: Which overlap suppresses.

    Returns:
        Groups of a window that stays and those that it suppressed.
    """
    order = np.argsort(-probabilities, kind="stable")
    ranked = np.asfortranarray(boxes_xyxy[order])
    leader = np.full(len(order), DROPPED, dtype=np.int64)
    for place, window in enumerate(order):
        if leader[window] != DROPPED:
            continue
        overlaps = intersection_over_union(ranked[place], ranked[place:])
        near = order[place:][overlaps > config.iou]
        leader[near[leader[near] == DROPPED]] = window
        leader[window] = window
    return Grouping(
        leader=leader, boxes_xyxy=boxes_xyxy, evidence=sum_by_leader(leader, probabilities)
    )
