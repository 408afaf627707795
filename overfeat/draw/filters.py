"""What do the filters of the first layer look like? Sermanet et al. 2014, figure 2."""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float, UInt8

from overfeat.draw.grids import tile

MID_GRAY = 128
REACH = 127
"""Levels from mid-grey to a filter's largest weight: the same up and down, so 1 to 255."""
LINE_WIDTH = 1
N_AXES = 4


def draw_filters(
    weights: Float[np.ndarray, "filters 3 kh kw"],
    *,
    columns: int | None = None,
    zoom: int = 6,
) -> UInt8[np.ndarray, "H W 3"]:
    """Draw the filters of a first layer in a grid, row by row, each as a small RGB picture.

    Each filter is scaled on its own: a weight of 0 is mid-grey (128), its largest weight by
    magnitude 1 or 255. So pictures show patterns; how strong a filter is they do not tell. Thin
    dark lines separate the filters, and places left over in the last row are as dark.

    Args:
        weights: finite weights of filters on RGB, such as the first convolution's.
        columns: filters in a row, at least 1; by default the grid is about square, and without
            places left over where that is possible.
        zoom: pixels of the picture for each weight, on both axes, at least 1.

    Returns:
        H is rows * (kh * zoom + 1) + 1, and W the same with columns and kw; uint8.

    Raises:
        ValueError: the weights are not filters on three channels or not finite, or a number is
            below 1.

    Source:
        Sermanet et al. 2014, figure 2.
    """
    _check_weights(weights)
    for name, value in (("columns", columns), ("zoom", zoom)):
        if value is not None and value < 1:
            raise ValueError(f"draw_filters: {name} is {value}, need at least 1")
    columns = columns or _choose_columns(len(weights))
    tiles = _normalize(weights).transpose(0, 2, 3, 1).repeat(zoom, axis=1).repeat(zoom, axis=2)
    return tile(list(tiles), columns, LINE_WIDTH)


def _check_weights(weights: np.ndarray) -> None:
    if weights.ndim != N_AXES or weights.shape[1:2] != (3,) or not weights.size:
        raise ValueError(
            f"draw_filters: weights have the shape {weights.shape}, expected (filters, 3, height, "
            "width) with at least one weight; only filters on red, green and blue are colours, "
            "so pass the first layer's"
        )
    if not np.isfinite(weights).all():
        worst = int(np.argmin(np.isfinite(weights).all(axis=(1, 2, 3))))
        raise ValueError(f"draw_filters: filter {worst} has a weight that is not finite")


def _normalize(weights: np.ndarray) -> UInt8[np.ndarray, "filters 3 kh kw"]:
    wide = weights.astype(np.float64)
    largest = np.abs(wide).max(axis=(1, 2, 3), keepdims=True)
    shares = np.divide(wide, largest, out=np.zeros_like(wide), where=largest > 0)
    normalized: np.ndarray = np.rint(MID_GRAY + REACH * shares).astype(np.uint8)
    return normalized


def _choose_columns(count: int) -> int:
    """The first number from the square root to its double that leaves no place empty."""
    side = math.isqrt(count - 1) + 1
    return next((n for n in range(side, 2 * side) if count % n == 0), side)
