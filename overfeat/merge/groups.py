"""What does every method hand back: which windows are one box, and what do they say together?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from jaxtyping import Float32, Float64, Int, Int32, Int64

DROPPED: Final = -1
"""Stands where a window went into no box."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MergedBoxes:
    """What is left of one class's boxes, in the order of the first window that went into each."""

    boxes_xyxy: Float32[np.ndarray, "n 4"]
    """Merged boxes, in the frame of the boxes that went in."""
    score: Float32[np.ndarray, " n"]
    """Highest probability among the merged windows, 0 to 1."""
    evidence: Float32[np.ndarray, " n"]
    """What ranks: the sum of the merged windows' probabilities; after soft suppression the decayed
    probability."""
    n_windows: Int32[np.ndarray, " n"]
    """How many windows were merged."""
    group: Int32[np.ndarray, " windows"]
    """For each window that went in, the index of the merged box it went into, or -1: dropped by
    `max_windows`, or decayed below the floor of soft suppression."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Grouping:
    """What a method found: one window of each group leads it, and its row describes the group."""

    leader: Int64[np.ndarray, " windows"]
    """For each window the one that leads its group, itself if it leads, or DROPPED."""
    boxes_xyxy: Float64[np.ndarray, "windows 4"]
    """In a leader's row the box of its group."""
    evidence: Float64[np.ndarray, " windows"]
    """In a leader's row the evidence of its group."""


def sum_by_leader(
    leader: Int64[np.ndarray, " windows"], probabilities: Float64[np.ndarray, " windows"]
) -> Float64[np.ndarray, " windows"]:
    """Add up the probabilities of each group, in the order of its windows.

    Args:
        leader: For each window the one that leads its group.
        probabilities: Each window's probability, 0 to 1.

    Returns:
        In a leader's row the sum over its group, elsewhere 0.
    """
    sums = np.zeros_like(probabilities)
    np.add.at(sums, leader, probabilities)
    return sums


def collect_boxes(
    grouping: Grouping,
    probabilities: Float32[np.ndarray, " windows"],
    merged: Int[np.ndarray, " merged"],
) -> MergedBoxes:
    """Number the groups by their first windows and describe each by all its windows.

    Args:
        grouping: What a method found among the windows that it was given.
        probabilities: The probabilities of all windows, 0 to 1.
        merged: Indices of the windows that the method was given, ascending.

    Returns:
        The merged boxes; `group` covers all windows.
    """
    leaders, index = _number_groups(grouping.leader)
    group = np.full(len(probabilities), DROPPED, dtype=np.int32)
    group[merged] = index
    inside = group != DROPPED
    score = np.zeros(len(leaders), dtype=np.float32)
    np.maximum.at(score, group[inside], probabilities[inside])
    return MergedBoxes(
        boxes_xyxy=np.ascontiguousarray(grouping.boxes_xyxy[leaders], dtype=np.float32),
        score=score,
        evidence=grouping.evidence[leaders].astype(np.float32),
        n_windows=np.bincount(group[inside], minlength=len(leaders)).astype(np.int32),
        group=group,
    )


def _number_groups(leader: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Leaders in the order of their groups' first windows, and each window's place among them."""
    inside = leader != DROPPED
    leaders, first, place = np.unique(leader[inside], return_index=True, return_inverse=True)
    order = np.argsort(first)
    number = np.empty(len(order), dtype=np.int32)
    number[order] = np.arange(len(order), dtype=np.int32)
    index = np.full(len(leader), DROPPED, dtype=np.int32)
    index[inside] = number[place]
    return leaders[order], index
