"""Which images can be drawn on?"""

from __future__ import annotations

import numpy as np


def check_image(place: str, image: np.ndarray) -> None:
    """Refuse what is not an RGB image.

    Args:
        place: the function that received it, for the message.
        image: what it received.

    Raises:
        ValueError: it is not uint8 of shape (height, width, 3), or has no pixel.
    """
    if image.shape[2:] != (3,) or image.dtype != np.uint8 or not image.size:
        raise ValueError(
            f"{place}: image is {image.dtype} of shape {image.shape}, "
            "expected uint8 of shape (height, width, 3) with at least one pixel"
        )
