"""From the windows of one image to its boxes: merged per class, ranked, cut to the limit.

Source: Sermanet et al. 2014, section 4.3. The paper takes the top k classes of each scale and
drops boxes below "the detection threshold"; here a window takes part for every class with a
probability of at least the score threshold, which decides both: a merged box's score is the
highest of its windows'.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from jaxtyping import Float32, Int32

from overfeat.merge import MergeConfig, MergedBoxes, merge_boxes
from overfeat.merge.limits import LEAST
from overfeat.predictions import Detections

MergedClasses = Literal["each", "any"]
"""`each` merges the boxes of each class alone; `any` merges boxes of whatever class, which then
take the class with the largest sum of probabilities, and count that class's windows alone. The
method's `max_windows` then bounds the windows of all classes together."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Candidates:
    """Windows of one image that may show an object."""

    label_ids: Int32[np.ndarray, " n"]
    """Class that the window votes for."""
    probabilities: Float32[np.ndarray, " n"]
    """Its probability, 0 to 1."""
    boxes_xyxy: Float32[np.ndarray, "n 4"]
    """Box of the window, in pixels of the original image, inside it."""


def find_objects(
    views: Sequence[Candidates],
    classes: Sequence[str],
    *,
    merge: MergeConfig,
    merged_classes: MergedClasses = "each",
    max_boxes: int,
) -> Detections:
    """Merge the candidates of all scales and flips into objects.

    Args:
        views: Candidates of each scale and flip, in one fixed order.
        classes: Names of the classes.
        merge: How boxes are merged.
        merged_classes: Which boxes are merged with each other.
        max_boxes: Boxes that are kept, at least 1.

    Returns:
        Boxes in pixels of the original image, most evidence first; ties by class, then corners.
    """
    candidates = _join_candidates(views)
    if merged_classes == "any":
        merged, label_ids = _merge_any(candidates, merge)
        return _rank(label_ids, [merged], classes, max_boxes)
    found = np.unique(candidates.label_ids)
    per_class = [
        merge_boxes(
            candidates.boxes_xyxy[candidates.label_ids == label],
            candidates.probabilities[candidates.label_ids == label],
            merge,
        )
        for label in found
    ]
    label_ids = np.repeat(found, [len(merged.score) for merged in per_class])
    return _rank(label_ids.astype(np.int32), per_class, classes, max_boxes)


def _join_candidates(views: Sequence[Candidates]) -> Candidates:
    return Candidates(
        label_ids=np.concatenate([view.label_ids for view in views]),
        probabilities=np.concatenate([view.probabilities for view in views]),
        boxes_xyxy=np.concatenate([view.boxes_xyxy for view in views]),
    )


def _merge_any(
    candidates: Candidates, merge: MergeConfig
) -> tuple[MergedBoxes, Int32[np.ndarray, " n"]]:
    """Merge boxes of all classes; each takes the class with the largest sum, and its windows."""
    merged = merge_boxes(candidates.boxes_xyxy, candidates.probabilities, merge)
    kept = merged.group >= 0
    places = (merged.group[kept], candidates.label_ids[kept])
    sums = np.zeros((len(merged.score), 1 + candidates.label_ids.max(initial=0)))
    np.add.at(sums, places, candidates.probabilities[kept])
    best = np.zeros_like(sums, dtype=np.float32)
    np.maximum.at(best, places, candidates.probabilities[kept])
    count = np.zeros_like(sums, dtype=np.int32)
    np.add.at(count, places, 1)
    label_ids = sums.argmax(axis=1)
    sum_of_label, score, n_windows = (
        np.take_along_axis(values, label_ids[:, None], axis=1)[:, 0]
        for values in (sums, best, count)
    )
    # A part of the method's evidence, for soft-NMS has decayed it.
    evidence = merged.evidence * (sum_of_label / np.maximum(sums.sum(axis=1), LEAST))
    chosen = replace(merged, score=score, evidence=evidence.astype(np.float32), n_windows=n_windows)
    return chosen, label_ids.astype(np.int32)


def _rank(
    label_ids: Int32[np.ndarray, " n"],
    merged: Sequence[MergedBoxes],
    classes: Sequence[str],
    max_boxes: int,
) -> Detections:
    boxes_xyxy = _join([m.boxes_xyxy for m in merged], np.zeros((0, 4), dtype=np.float32))
    evidence = _join([m.evidence for m in merged], np.zeros(0, dtype=np.float32))
    # np.lexsort takes its last key first.
    order = np.lexsort((*boxes_xyxy.T[::-1], label_ids, -evidence))[:max_boxes]
    return Detections(
        label_ids=label_ids[order],
        labels=tuple(classes[label] for label in label_ids[order]),
        scores=_join([m.score for m in merged], np.zeros(0, dtype=np.float32))[order],
        evidence=evidence[order],
        boxes_xyxy=boxes_xyxy[order],
        n_windows=_join([m.n_windows for m in merged], np.zeros(0, dtype=np.int32))[order],
        truncated_boxes=len(label_ids) > max_boxes,
    )


def _join(arrays: Sequence[np.ndarray], empty: np.ndarray) -> np.ndarray:
    return np.concatenate([empty, *arrays])
