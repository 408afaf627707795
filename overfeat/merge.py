"""Greedy merging: many windows' boxes of one class become few, each with all their evidence.

Repeat: take the pair of boxes with the lowest match score; stop if it is above the threshold; else
replace the pair by its average. Source: Sermanet et al. 2014, section 4.3.

The paper defines the match score as "the sum of the distance between centers of the two bounding
boxes and the intersection area of the boxes", minimises it, and gives no units and no threshold.
Taken literally a larger overlap would speak against merging; its own figure 6 shows the opposite.
`MatchScore` names the readings.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float, Float32, Int32

from overfeat import boxes as box_arithmetic

MatchScore = Literal["iou", "containment", "literal"]
"""How far two boxes are from being one, lower is nearer:

- `iou`: centre distance over the mean side, plus 1 - intersection over union.
- `containment`: centre distance over the mean side, plus 1 - intersection over the smaller area.
- `literal`: centre distance plus intersection area, in pixels and square pixels, as printed.
"""
Average = Literal["plain", "windows", "evidence"]
"""Weights of the two boxes in their average: equal (as printed), by windows, or by summed
probability."""


LEAST = 1e-100
"""Stands for a side, an area or a weight of 0 in a divisor; no finite quotient overflows by it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MergeConfig:
    """What the paper leaves open in its merging."""

    match: MatchScore = "iou"
    """Reading of the match score."""
    threshold: float = 0.8
    """Highest match score at which two boxes are merged; in the units of `match`. With `iou`, 0.8
    merges equal squares that are shifted by up to 0.32 of their side."""
    average: Average = "evidence"
    """Weights of the average."""

    def __post_init__(self) -> None:
        if not np.isfinite(self.threshold):
            msg = f"merge threshold: received {self.threshold}, expected a finite number"
            raise ValueError(msg)


@dataclass(frozen=True, kw_only=True, slots=True)
class MergedBoxes:
    """What is left of one class's boxes."""

    boxes_xyxy: Float32[np.ndarray, "n 4"]
    """Averaged boxes, in the frame of the boxes that went in."""
    score: Float32[np.ndarray, " n"]
    """Highest probability among the merged windows, 0 to 1."""
    evidence: Float32[np.ndarray, " n"]
    """Sum of the probabilities of the merged windows."""
    n_windows: Int32[np.ndarray, " n"]
    """How many windows were merged."""


def match_scores(
    box: Float[np.ndarray, 4], others: Float[np.ndarray, "n 4"], match: MatchScore
) -> Float[np.ndarray, " n"]:
    """Compute how far each of some boxes is from being the same as one box.

    Args:
        box: One box.
        others: Boxes in the same frame.
        match: Reading of the match score.

    Returns:
        One number per other box, lower is nearer.
    """
    # Sums first: the score of a pair must not depend on which of the two boxes is `box`.
    centre_shift = ((others[:, :2] + others[:, 2:]) - (box[:2] + box[2:])) / 2
    distance = np.hypot(centre_shift[:, 0], centre_shift[:, 1])
    shared = box_arithmetic.intersection_areas(box, others)
    if match == "literal":
        return np.asarray(distance + shared)
    area, areas = box_arithmetic.box_areas(box), box_arithmetic.box_areas(others)
    side = (np.sqrt(area) + np.sqrt(areas)) / 2
    whole = np.minimum(area, areas) if match == "containment" else area + areas - shared
    return np.asarray(distance / np.maximum(side, LEAST) + 1 - shared / np.maximum(whole, LEAST))


def merge_boxes(
    boxes_xyxy: Float32[np.ndarray, "windows 4"],
    probabilities: Float32[np.ndarray, " windows"],
    config: MergeConfig,
) -> MergedBoxes:
    """Merge the boxes of one class greedily; equal match scores go to the pair that comes first.

    Memory is linear in the number of boxes: each box remembers its nearest later partner alone.

    Args:
        boxes_xyxy: One box per window, all scales in one frame.
        probabilities: The class's probability in each window, 0 to 1.
        config: Match score, threshold and average.

    Returns:
        The merged boxes, in the order of their first windows.
    """
    state = _Merging(boxes_xyxy, probabilities, config)
    while (pair := state.nearest_pair()) is not None:
        state.merge(*pair)
    return state.result()


class _Merging:
    """The boxes still apart, and for each its nearest partner among the later ones."""

    def __init__(
        self, boxes_xyxy: np.ndarray, probabilities: np.ndarray, config: MergeConfig
    ) -> None:
        count = len(boxes_xyxy)
        self.config = config
        # Averages of averages are kept in double precision: their order must not show in float32.
        self.boxes = boxes_xyxy.astype(np.float64)
        self.score = probabilities.astype(np.float64)
        self.evidence = probabilities.astype(np.float64)
        self.windows = np.ones(count, dtype=np.int32)
        self.apart = np.ones(count, dtype=bool)
        self.partner = np.zeros(count, dtype=np.intp)
        self.distance = np.full(count, np.inf)
        for index in range(count):
            self._find_partner(index)

    def nearest_pair(self) -> tuple[int, int] | None:
        """The pair with the lowest match score, or None if that is above the threshold."""
        if not len(self.boxes):
            return None
        first = int(np.argmin(self.distance))
        # A lone box's distance is infinite, and the threshold is not.
        if not self.distance[first] <= self.config.threshold:
            return None
        return first, int(self.partner[first])

    def merge(self, first: int, second: int) -> None:
        """Replace a pair by its average, in the place of the earlier box."""
        pair = [first, second]
        weights = {
            "plain": np.ones(2),
            "windows": self.windows[pair].astype(np.float64),
            "evidence": np.maximum(self.evidence[pair], LEAST),
        }[self.config.average]
        # No matrix product: how BLAS rounds depends on the machine.
        self.boxes[first] = (weights[:, None] * self.boxes[pair]).sum(axis=0) / weights.sum()
        self.score[first] = self.score[pair].max()
        self.evidence[first] = self.evidence[pair].sum()
        self.windows[first] = self.windows[pair].sum()
        self.apart[second] = False
        self.distance[second] = np.inf
        self._renew_partners(first, second)

    def _renew_partners(self, first: int, second: int) -> None:
        """Bring every nearest partner up to date after `second` went into `first`."""
        earlier = np.flatnonzero(self.apart[:second])
        lost = earlier[np.isin(self.partner[earlier], (first, second))]
        for index in {first, *lost.tolist()}:
            self._find_partner(index)
        before = np.setdiff1d(earlier[earlier < first], lost)
        scores = match_scores(self.boxes[first], self.boxes[before], self.config.match)
        nearer = (scores < self.distance[before]) | (
            (scores == self.distance[before]) & (first < self.partner[before])
        )
        self.distance[before[nearer]] = scores[nearer]
        self.partner[before[nearer]] = first

    def _find_partner(self, index: int) -> None:
        """Look through all later boxes for the nearest one."""
        later = index + 1 + np.flatnonzero(self.apart[index + 1 :])
        if not len(later):
            self.distance[index] = np.inf
            return
        scores = match_scores(self.boxes[index], self.boxes[later], self.config.match)
        nearest = int(np.argmin(scores))
        self.distance[index], self.partner[index] = scores[nearest], later[nearest]

    def result(self) -> MergedBoxes:
        kept = self.apart
        return MergedBoxes(
            boxes_xyxy=self.boxes[kept].astype(np.float32),
            score=self.score[kept].astype(np.float32),
            evidence=self.evidence[kept].astype(np.float32),
            n_windows=self.windows[kept],
        )
