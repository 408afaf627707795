"""Do the first guesses name an image's object and box it? The localization error of ILSVRC."""

from __future__ import annotations

from typing import Final

import numpy as np
from jaxtyping import Float32

from overfeat.boxes import intersection_over_union
from overfeat.predictions import Guesses

LEAST_OVERLAP: Final = 0.5
"""Intersection over union from which on a box counts as right."""


def misses_object(
    found: Guesses, label: int, boxes_xyxy: Float32[np.ndarray, "n 4"], *, guesses: int = 5
) -> bool:
    """Tell whether an image counts as wrongly localized.

    Args:
        found: Classes with a box each, best first.
        label: The image's true class.
        boxes_xyxy: Its objects of that class, in the pixels of the guesses.
        guesses: How many of them may be looked at.

    Returns:
        True if none of them has the true class and overlaps one of the boxes by half.

    Source:
        Sermanet et al. 2014, section 4; Russakovsky et al. 2015, section 4.2.
    """
    is_class = found.label_ids[:guesses] == label
    said = found.boxes_xyxy[:guesses][is_class]
    overlaps = intersection_over_union(said[:, None], boxes_xyxy[None])
    return not bool((overlaps >= LEAST_OVERLAP).any())
