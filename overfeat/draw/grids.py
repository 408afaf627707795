"""How do pictures of one size stand in a grid?"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import UInt8

from overfeat.draw.colors import DARK


def tile(
    pictures: Sequence[UInt8[np.ndarray, "h w 3"]], columns: int, gap: int
) -> UInt8[np.ndarray, "H W 3"]:
    """Put pictures into a grid on a dark ground, row by row.

    Args:
        pictures: RGB pixels, at least one picture, all of one size.
        columns: pictures in a row, at least 1.
        gap: pixels between pictures, and around all of them.

    Returns:
        H is rows * (h + gap) + gap, and W the same with columns and w; uint8. What is left over in
        the last row is as dark as the gaps.
    """
    height, width = (side + gap for side in pictures[0].shape[:2])
    rows = math.ceil(len(pictures) / columns)
    grid = np.full((rows * height + gap, columns * width + gap, 3), DARK, dtype=np.uint8)
    for index, picture in enumerate(pictures):
        row, column = divmod(index, columns)
        top, left = row * height + gap, column * width + gap
        grid[top : top + picture.shape[0], left : left + picture.shape[1]] = picture
    return grid


def stack(pictures: Sequence[UInt8[np.ndarray, "_ _ 3"]]) -> UInt8[np.ndarray, "H W 3"]:
    """Put pictures below each other, flush left, on a dark ground.

    Args:
        pictures: RGB pixels, at least one picture, of any sizes.

    Returns:
        As wide as the widest and as high as all together; uint8.
    """
    shape = (sum(len(p) for p in pictures), max(p.shape[1] for p in pictures), 3)
    column = np.full(shape, DARK, dtype=np.uint8)
    top = 0
    for picture in pictures:
        column[top : top + picture.shape[0], : picture.shape[1]] = picture
        top += len(picture)
    return column
