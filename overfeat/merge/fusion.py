"""Weighted box fusion: boxes that match become one, averaged by their probabilities.

Source: Solovyev et al. 2021. The paper fuses the boxes of several models and rescales a fused
probability by how many of them agree. Windows have no models: `evidence` is the plain sum, which is
what the authors' library ensemble-boxes gives for one model with `allows_overflow=True`. Where a
box matches several fused ones the paper leaves the choice open; it goes to the highest IoU, as in
the library. The library drops boxes without an area and averages in float32; this one does neither.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from overfeat.boxes import intersection_over_union
from overfeat.merge.groups import DROPPED, Grouping, sum_by_leader
from overfeat.merge.limits import LEAST, MAX_WINDOWS, check_max_windows, check_share


@dataclass(frozen=True, kw_only=True, slots=True)
class BoxFusion:
    """Which overlap is a match."""

    iou: float = 0.55
    """A box goes into the fused box with which its IoU is highest, if that is above this number, 0
    to 1. The default of the authors' library."""
    max_windows: int = MAX_WINDOWS
    """Windows of one class and image that take part, the most probable ones: a bound on time."""

    def __post_init__(self) -> None:
        check_share("wbf iou", self.iou)
        check_max_windows(self.max_windows)


def fuse_boxes(
    boxes_xyxy: Float64[np.ndarray, "windows 4"],
    probabilities: Float64[np.ndarray, " windows"],
    config: BoxFusion,
) -> Grouping:
    """Put each window, the most probable first, into the fused box it matches or into a new one.

    Args:
        boxes_xyxy: One box per window.
        probabilities: Each window's probability, 0 to 1; the earlier window wins a tie.
        config: Which overlap is a match.

    Returns:
        Groups of the windows that were fused, led by the most probable of each.
    """
    weights = np.maximum(probabilities, LEAST)
    leader = np.full(len(weights), DROPPED, dtype=np.int64)
    leaders: list[int] = []
    # In the order of `leaders`: the fused boxes, and the weighted sums that they come from.
    fused = np.empty_like(boxes_xyxy, order="F")
    sums, totals = np.zeros_like(fused), np.zeros_like(weights)
    for window in np.argsort(-probabilities, kind="stable"):
        box, weight = boxes_xyxy[window], weights[window]
        place = _find_match(box, fused[: len(leaders)], config.iou)
        if place == len(leaders):
            leaders.append(int(window))
        leader[window] = leaders[place]
        sums[place] += weight * box
        totals[place] += weight
        # A box alone keeps its corners: the product of two float32 numbers is exact here.
        fused[place] = sums[place] / totals[place]
    groups = np.empty_like(boxes_xyxy)
    groups[leaders] = fused[: len(leaders)]
    return Grouping(leader=leader, boxes_xyxy=groups, evidence=sum_by_leader(leader, probabilities))


def _find_match(box: np.ndarray, fused: np.ndarray, iou: float) -> int:
    """The place of the fused box with the highest IoU, or the next free one."""
    if not len(fused):
        return 0
    overlaps = intersection_over_union(box, fused)
    best = int(overlaps.argmax())
    return best if overlaps[best] > iou else len(fused)
