"""Arithmetic on boxes: x_min, y_min, x_max, y_max, half-open, in any one frame."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Float32


def box_areas(boxes_xyxy: Float[np.ndarray, "*n 4"]) -> Float[np.ndarray, "*n"]:
    """Compute areas; a box turned inside out has none.

    Args:
        boxes_xyxy: Boxes in one frame.

    Returns:
        Areas in square pixels of that frame.
    """
    width = np.maximum(boxes_xyxy[..., 2] - boxes_xyxy[..., 0], 0)
    height = np.maximum(boxes_xyxy[..., 3] - boxes_xyxy[..., 1], 0)
    return np.asarray(width * height)


def intersection_areas(
    first: Float[np.ndarray, "*n 4"], second: Float[np.ndarray, "*m 4"]
) -> Float[np.ndarray, "*k"]:
    """Compute the areas that boxes share, with NumPy broadcasting over the leading axes.

    Args:
        first: Boxes.
        second: Boxes in the same frame.

    Returns:
        Areas in square pixels of that frame.
    """
    low = np.maximum(first[..., :2], second[..., :2])
    high = np.minimum(first[..., 2:], second[..., 2:])
    sides = np.maximum(high - low, 0)
    return np.asarray(sides[..., 0] * sides[..., 1])


def intersection_over_union(
    first: Float[np.ndarray, "*n 4"], second: Float[np.ndarray, "*m 4"]
) -> Float[np.ndarray, "*k"]:
    """Compute IoU, with NumPy broadcasting over the leading axes; 0 for two empty boxes.

    Args:
        first: Boxes.
        second: Boxes in the same frame.

    Returns:
        Numbers from 0 to 1.
    """
    shared = intersection_areas(first, second)
    union = box_areas(first) + box_areas(second) - shared
    return np.asarray(shared / np.maximum(union, np.finfo(np.float32).tiny))


def clip_boxes(
    boxes_xyxy: Float32[np.ndarray, "*n 4"], *, height: int, width: int
) -> Float32[np.ndarray, "*n 4"]:
    """Cut boxes at the border of the image.

    Args:
        boxes_xyxy: Boxes in pixels of the image.
        height: Rows of the image.
        width: Columns of the image.

    Returns:
        Boxes inside the image; one that lay outside is empty.
    """
    limits = np.array([width, height, width, height], dtype=np.float32)
    return np.asarray(np.clip(boxes_xyxy, np.float32(0), limits))


def flip_boxes(
    boxes_xyxy: Float32[np.ndarray, "*n 4"], *, width: int
) -> Float32[np.ndarray, "*n 4"]:
    """Mirror boxes left to right: its own inverse.

    Args:
        boxes_xyxy: Boxes in pixels of the frame.
        width: Columns of the frame.

    Returns:
        Boxes in pixels of the mirrored frame.
    """
    flipped = boxes_xyxy.copy()
    flipped[..., 0] = width - boxes_xyxy[..., 2]
    flipped[..., 2] = width - boxes_xyxy[..., 0]
    return flipped
