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
    max_windows: int = 4000
    """Windows of one class and image that are merged, the most probable ones: a bound on time and
    memory (128 MB). The default ladders have 3150 windows an image, flips included."""

    def __post_init__(self) -> None:
        if not np.isfinite(self.threshold):
            msg = f"merge threshold: received {self.threshold}, expected a finite number"
            raise ValueError(msg)
        if self.max_windows < 1:
            msg = f"max_windows: received {self.max_windows}, expected at least 1"
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
    boxes: Float[np.ndarray, "*n 4"], others: Float[np.ndarray, "*m 4"], match: MatchScore
) -> Float[np.ndarray, "*k"]:
    """Compute how far boxes are from being the same, with NumPy broadcasting over the leading axes.

    Args:
        boxes: Boxes.
        others: Boxes in the same frame.
        match: Reading of the match score.

    Returns:
        One number per pair, lower is nearer.
    """
    # Sums first: the score of a pair must not depend on which of the two boxes comes first.
    shift = ((others[..., :2] + others[..., 2:]) - (boxes[..., :2] + boxes[..., 2:])) / 2
    distance = np.hypot(shift[..., 0], shift[..., 1])
    shared = box_arithmetic.intersection_areas(boxes, others)
    if match == "literal":
        return np.asarray(distance + shared)
    area, areas = box_arithmetic.box_areas(boxes), box_arithmetic.box_areas(others)
    side = (np.sqrt(area) + np.sqrt(areas)) / 2
    whole = np.minimum(area, areas) if match == "containment" else area + areas - shared
    return np.asarray(distance / np.maximum(side, LEAST) + 1 - shared / np.maximum(whole, LEAST))


def merge_boxes(
    boxes_xyxy: Float32[np.ndarray, "windows 4"],
    probabilities: Float32[np.ndarray, " windows"],
    config: MergeConfig,
) -> MergedBoxes:
    """Merge the boxes of one class greedily; equal match scores go to the pair that comes first.

    Time and memory grow with the square of the number of boxes, at most `max_windows`.

    Args:
        boxes_xyxy: One box per window, all scales in one frame.
        probabilities: The class's probability in each window, 0 to 1.
        config: Match score, threshold and average.

    Returns:
        The merged boxes, in the order of their first windows.
    """
    if len(boxes_xyxy) > config.max_windows:
        strongest = np.sort(np.argsort(-probabilities, kind="stable")[: config.max_windows])
        boxes_xyxy, probabilities = boxes_xyxy[strongest], probabilities[strongest]
    state = _Merging(boxes_xyxy, probabilities, config)
    while (pair := state.nearest_pair()) is not None:
        state.merge(*pair)
    return state.result()


class _Merging:
    """The boxes still apart, the score of every pair, and each box's nearest later partner."""

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
        # Row i holds the scores of the pairs (i, j) with j > i; everything else is infinite.
        self.scores = np.full((count, count), np.inf)
        for index in range(count - 1):
            self._measure_later(index)
        self.partner = self.scores.argmin(axis=1) if count else np.zeros(0, dtype=np.intp)
        self.nearest = self.scores.min(axis=1, initial=np.inf)

    def nearest_pair(self) -> tuple[int, int] | None:
        """The pair with the lowest match score, or None if that is above the threshold."""
        if not len(self.boxes):
            return None
        first = int(np.argmin(self.nearest))
        # A lone box's score is infinite, and the threshold is not.
        if not self.nearest[first] <= self.config.threshold:
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
        self._renew_scores(first, second)

    def _renew_scores(self, first: int, second: int) -> None:
        """Bring the scores and partners up to date after `second` went into `first`."""
        self.scores[second, :] = np.inf
        self.scores[:, second] = np.inf
        self._measure_later(first)
        earlier = np.flatnonzero(self.apart[:first])
        renewed = match_scores(self.boxes[earlier], self.boxes[first], self.config.match)
        self.scores[earlier, first] = renewed
        # An earlier box changes its partner if the merged one is nearer, or was its partner before.
        nearer = (renewed < self.nearest[earlier]) | (
            (renewed == self.nearest[earlier]) & (first < self.partner[earlier])
        )
        self.nearest[earlier[nearer]] = renewed[nearer]
        lost = (self.partner == first) | (self.partner == second)
        self.partner[earlier[nearer]] = first
        lost[earlier[nearer]] = False
        lost[[first, second]] = True
        rows = np.flatnonzero(lost)
        self.partner[rows] = self.scores[rows].argmin(axis=1)
        self.nearest[rows] = self.scores[rows, self.partner[rows]]

    def _measure_later(self, index: int) -> None:
        """Compute the scores of one box with all later ones that are still apart."""
        later = index + 1 + np.flatnonzero(self.apart[index + 1 :])
        self.scores[index, later] = match_scores(
            self.boxes[index], self.boxes[later], self.config.match
        )

    def result(self) -> MergedBoxes:
        kept = self.apart
        return MergedBoxes(
            boxes_xyxy=self.boxes[kept].astype(np.float32),
            score=self.score[kept].astype(np.float32),
            evidence=self.evidence[kept].astype(np.float32),
            n_windows=self.windows[kept],
        )
