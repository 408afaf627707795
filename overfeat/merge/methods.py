"""Which ways to merge boxes are there, and what holds for all of them?

The most probable windows take part, boxes come in the order of their first windows, and the result
depends on nothing but boxes, probabilities and configuration. There are no matrix products: how
BLAS rounds depends on the machine.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from types import MappingProxyType
from typing import Final, Literal, TypeAlias

import numpy as np
from jaxtyping import Float32

from overfeat.merge.fusion import BoxFusion, fuse_boxes
from overfeat.merge.greedy import GreedyMerge, merge_greedily
from overfeat.merge.groups import Grouping, MergedBoxes, collect_boxes
from overfeat.merge.soft_suppression import SoftSuppression, decay_overlaps
from overfeat.merge.suppression import NonMaxSuppression, suppress_overlaps

MergeConfig: TypeAlias = GreedyMerge | NonMaxSuppression | SoftSuppression | BoxFusion
"""How boxes are merged: the class says by which method."""
Method = Literal["greedy", "nms", "soft-nms", "wbf"]
"""Names of the methods."""
MERGES: Final[Mapping[Method, type[MergeConfig]]] = MappingProxyType(
    {
        "greedy": GreedyMerge,
        "nms": NonMaxSuppression,
        "soft-nms": SoftSuppression,
        "wbf": BoxFusion,
    }
)
"""Configuration of each method."""


def describe_merge(config: MergeConfig) -> dict[str, str | float | int]:
    """Write out how boxes are merged, for the fingerprint of a run.

    Args:
        config: Method and settings.

    Returns:
        The name of the method under `method`, and every setting under its own name.
    """
    method = next(name for name, kind in MERGES.items() if isinstance(config, kind))
    return {"method": method, **asdict(config)}


def merge_boxes(
    boxes_xyxy: Float32[np.ndarray, "windows 4"],
    probabilities: Float32[np.ndarray, " windows"],
    config: MergeConfig,
) -> MergedBoxes:
    """Merge the boxes of one class.

    Time grows with the square of the number of windows, at most `max_windows`; so does the memory
    of greedy merging.

    Args:
        boxes_xyxy: One box per window, all scales in one frame.
        probabilities: The class's probability in each window, 0 to 1.
        config: Method and settings.

    Returns:
        The merged boxes, in the order of their first windows, in the frame of the boxes.
    """
    most_probable = np.argsort(-probabilities, kind="stable")[: config.max_windows]
    taking_part = np.sort(most_probable)
    grouping = _group_windows(
        # Column by column, for speed; in double precision, so that the order of sums does not show.
        np.asfortranarray(boxes_xyxy[taking_part], dtype=np.float64),
        probabilities[taking_part].astype(np.float64),
        config,
    )
    return collect_boxes(grouping, probabilities, taking_part)


def _group_windows(
    boxes_xyxy: np.ndarray, probabilities: np.ndarray, config: MergeConfig
) -> Grouping:
    match config:
        case GreedyMerge():
            return merge_greedily(boxes_xyxy, probabilities, config)
        case NonMaxSuppression():
            return suppress_overlaps(boxes_xyxy, probabilities, config)
        case SoftSuppression():
            return decay_overlaps(boxes_xyxy, probabilities, config)
        case BoxFusion():
            return fuse_boxes(boxes_xyxy, probabilities, config)
