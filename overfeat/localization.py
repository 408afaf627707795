"""The box of what an image shows: a few guesses, each a class and one box.

Source: Sermanet et al. 2014, section 4.3: the top k classes of each scale take part with the boxes
of all their windows, which are merged; the boxes with the most evidence win. The paper gives no k,
and does not say whether a class may be guessed twice; here k is a setting, and each class has one
box, for the benchmark's five guesses count the best of one label.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from overfeat.detection import Candidates, find_objects
from overfeat.merge import GreedyMerge, MergeConfig
from overfeat.predictions import Guesses


@dataclass(frozen=True, kw_only=True, slots=True)
class LocalizeConfig:
    """What the paper leaves open in its localization."""

    guesses: int = 5
    """Guesses reported per image, at least 1."""
    classes_per_scale: int = 5
    """Classes of each scale and mirroring whose boxes take part, at least 1: the paper's k."""
    merge: MergeConfig = field(default_factory=lambda: GreedyMerge(max_windows=500))
    """How the windows' boxes are merged. All windows of a class take part, however improbable:
    500 keep the time of merging below the network's (assumed)."""

    def __post_init__(self) -> None:
        for name in ("guesses", "classes_per_scale"):
            if getattr(self, name) < 1:
                msg = f"{name}: received {getattr(self, name)}, expected at least 1"
                raise ValueError(msg)


def find_guesses(
    views: Sequence[Candidates], classes: Sequence[str], config: LocalizeConfig
) -> Guesses:
    """Merge the boxes of all scales and flips, and guess the classes with the most evidence.

    Args:
        views: All windows of each view's best classes, in one fixed order.
        classes: Names of the classes.
        config: How many guesses, and how boxes are merged.

    Returns:
        Boxes in pixels of the original image, most evidence first, each of another class.
    """
    every = sum(len(view.label_ids) for view in views)
    found = find_objects(views, classes, merge=config.merge, max_boxes=max(1, every))
    # Ranked by evidence already: the first box of a class is its best.
    first = np.sort(np.unique(found.label_ids, return_index=True)[1])[: config.guesses]
    return Guesses(
        label_ids=found.label_ids[first],
        labels=tuple(found.labels[rank] for rank in first),
        scores=found.scores[first],
        boxes_xyxy=found.boxes_xyxy[first],
    )
