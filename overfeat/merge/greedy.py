"""Greedy merging: many windows' boxes of one class become few, each with all their evidence.

Repeat: take the pair of boxes with the lowest match score; stop if it is above the threshold; else
replace the pair by its average. Source: Sermanet et al. 2014, section 4.3. The paper's match score
is "the sum of the distance between centers of the two bounding boxes and the intersection area of
the boxes", minimised, without units and threshold. Taken literally a larger overlap would speak
against merging; its own figure 6 shows the opposite. `MatchScore` names the readings.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from jaxtyping import Float, Float64

from overfeat import boxes as box_arithmetic
from overfeat.merge.groups import Grouping
from overfeat.merge.limits import LEAST, MAX_WINDOWS, check_choice, check_max_windows

MatchScore = Literal["iou", "containment", "literal"]
"""How far two boxes are from being one, lower is nearer:

- `iou`: centre distance over the mean side, plus 1 - intersection over union.
- `containment`: centre distance over the mean side, plus 1 - intersection over the smaller area.
- `literal`: centre distance plus intersection area, in pixels and square pixels, as printed.
"""
Average = Literal["plain", "windows", "evidence"]
"""Weights of the two boxes in their average: equal (as printed), by windows, or by summed
probability."""

BLOCK: Final = 16
"""Rows of scores computed at once: few calls, and little memory beside the scores."""
UNKNOWN: Final = -1
"""Stands for a box's nearest partner until that is looked for."""


@dataclass(frozen=True, kw_only=True, slots=True)
class GreedyMerge:
    """What the paper leaves open in its merging."""

    match: MatchScore = "iou"
    """Reading of the match score."""
    threshold: float = 0.8
    """Highest match score at which two boxes are merged; in the units of `match`. With `iou`, 0.8
    merges equal squares that are shifted by up to 0.32 of their side."""
    average: Average = "evidence"
    """Weights of the average."""
    max_windows: int = MAX_WINDOWS
    """Windows of one class and image that are merged, the most probable ones: a bound on time and
    memory (128 MB). The default ladders have 3150 windows an image, flips included."""

    def __post_init__(self) -> None:
        check_choice("merge match", self.match, MatchScore)
        check_choice("merge average", self.average, Average)
        if not np.isfinite(self.threshold):
            msg = f"merge threshold: received {self.threshold}, expected a finite number"
            raise ValueError(msg)
        check_max_windows(self.max_windows)


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
    area, areas = box_arithmetic.box_areas(boxes), box_arithmetic.box_areas(others)
    overlap = _overlap(boxes, others, area, areas, match)
    return _add_distance(overlap, boxes, others, area, areas, match)


def _overlap(
    boxes: np.ndarray, others: np.ndarray, area: np.ndarray, areas: np.ndarray, match: MatchScore
) -> np.ndarray:
    """What boxes share: an area if `literal`, else a share of the area it is measured by."""
    shared = box_arithmetic.intersection_areas(boxes, others)
    if match == "literal":
        return shared
    whole = np.minimum(area, areas) if match == "containment" else area + areas - shared
    return np.asarray(shared / np.maximum(whole, LEAST))


def _add_distance(
    overlap: np.ndarray,
    boxes: np.ndarray,
    others: np.ndarray,
    area: np.ndarray,
    areas: np.ndarray,
    match: MatchScore,
) -> np.ndarray:
    # Sums first: the score of a pair must not depend on which of the two boxes comes first.
    shift = ((others[..., :2] + others[..., 2:]) - (boxes[..., :2] + boxes[..., 2:])) / 2
    distance = np.hypot(shift[..., 0], shift[..., 1])
    if match == "literal":
        return np.asarray(distance + overlap)
    side = (np.sqrt(area) + np.sqrt(areas)) / 2
    return np.asarray(distance / np.maximum(side, LEAST) + 1 - overlap)


def merge_greedily(
    boxes_xyxy: Float64[np.ndarray, "windows 4"],
    probabilities: Float64[np.ndarray, " windows"],
    config: GreedyMerge,
) -> Grouping:
    """Merge the nearest pair until none is near; equal scores go to the pair that comes first.

    Args:
        boxes_xyxy: One box per window.
        probabilities: Each window's probability, 0 to 1.
        config: Match score, threshold and average.

    Returns:
        Groups of the windows that were merged, led by the first of each.
    """
    state = _Merging(boxes_xyxy, probabilities, config)
    while (pair := state.find_nearest_pair()) is not None:
        state.merge(*pair)
    return Grouping(leader=state.leader, boxes_xyxy=state.boxes, evidence=state.evidence)


class _Merging:
    """The boxes still apart, the score of every pair, and each box's nearest later partner.

    Most scores are never needed. A pair above the threshold is never merged: its score is infinite
    here. A box that lost its nearest partner keeps that partner's score, below which no other can
    be, and looks for another only when this makes it the nearest of all.
    """

    def __init__(
        self, boxes_xyxy: np.ndarray, probabilities: np.ndarray, config: GreedyMerge
    ) -> None:
        count = len(boxes_xyxy)
        self.config = config
        # The same numbers twice: fast to compute with, and fast to pick boxes from.
        self.boxes = np.array(boxes_xyxy, order="F")
        self.columns = self.boxes.T
        self.areas = box_arithmetic.box_areas(self.boxes)
        self.evidence = probabilities.copy()
        self.windows = np.ones(count)
        self.leader = np.arange(count, dtype=np.int64)
        self.apart = np.ones(count, dtype=bool)
        # Row i holds the scores of the pairs (i, j) with j > i; nothing else is read.
        self.scores = np.empty((count, count))
        self.nearest = np.full(count, np.inf)
        self.partner = np.full(count, UNKNOWN)
        for start in range(0, count, BLOCK):
            rows, later = slice(start, start + BLOCK), slice(start, None)
            self.scores[rows, later] = self._measure(rows, later)
        for index in range(count):
            self._find_partner(index)

    def find_nearest_pair(self) -> tuple[int, int] | None:
        """The pair with the lowest match score, or None if that is above the threshold."""
        while len(self.boxes):
            first = int(self.nearest.argmin())
            # A lone box's score is infinite, and the threshold is not.
            if not self.nearest[first] <= self.config.threshold:
                return None
            if self.partner[first] != UNKNOWN:
                return first, int(self.partner[first])
            self._find_partner(first)
        return None

    def merge(self, first: int, second: int) -> None:
        """Replace a pair by its average, in the place of the earlier box."""
        pair = [first, second]
        weights = {
            "plain": np.ones(2),
            "windows": self.windows[pair],
            "evidence": np.maximum(self.evidence[pair], LEAST),
        }[self.config.average]
        # No matrix product: how BLAS rounds depends on the machine.
        self.boxes[first] = (weights[:, None] * self.boxes[pair]).sum(axis=0) / weights.sum()
        self.areas[first] = box_arithmetic.box_areas(self.boxes[first])
        self.evidence[first] = self.evidence[pair].sum()
        self.windows[first] = self.windows[pair].sum()
        self.leader[self.leader == second] = first
        self.apart[second] = False
        self._renew_scores(first, second)

    def _renew_scores(self, first: int, second: int) -> None:
        """Bring the scores and partners up to date after `second` went into `first`."""
        scores = self._measure(slice(first, first + 1), slice(None))[0]
        self.scores[first, first + 1 :] = scores[first + 1 :]
        earlier = np.flatnonzero(self.apart[:first])
        self.scores[earlier, first] = scores[earlier]
        renewed, nearest, partner = scores[:first], self.nearest[:first], self.partner[:first]
        # An earlier box changes its partner if the merged one is nearer, or as near and earlier; an
        # unknown partner could be as near and earlier still.
        nearer = (renewed < nearest) | ((renewed == nearest) & (first < partner))
        self.partner[(self.partner == first) | (self.partner == second)] = UNKNOWN
        nearest[nearer] = renewed[nearer]
        partner[nearer] = first
        self.nearest[second] = np.inf
        self._find_partner(first)

    def _measure(self, rows: slice, others: slice) -> np.ndarray:
        """Scores of some boxes with others; infinite if above the threshold or merged already."""
        match, threshold = self.config.match, self.config.threshold
        boxes, areas = self.boxes[rows, None], self.areas[rows, None]
        overlap = _overlap(boxes, self.boxes[None, others], areas, self.areas[others], match)
        # The scores if no centres were apart: a distance only adds, and rounding keeps order.
        bounds = overlap if match == "literal" else 1 - overlap
        row, other = np.nonzero((bounds <= threshold) & self.apart[others])
        first, second = row + (rows.start or 0), other + (others.start or 0)
        scores = np.full(overlap.shape, np.inf)
        scores[row, other] = _add_distance(
            overlap[row, other],
            self.columns.take(first, axis=1).T,
            self.columns.take(second, axis=1).T,
            self.areas[first],
            self.areas[second],
            match,
        )
        return scores

    def _find_partner(self, index: int) -> None:
        """Find the nearest later partner of one box; the first of several."""
        later = slice(index + 1, None)
        if not len(self.apart[later]):
            self.nearest[index] = np.inf
            return
        scores = np.where(self.apart[later], self.scores[index, later], np.inf)
        place = int(scores.argmin())
        self.nearest[index] = scores[place]
        self.partner[index] = index + 1 + place
