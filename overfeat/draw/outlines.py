"""Which pixels does the line around a box colour?"""

from __future__ import annotations

import numpy as np

from overfeat.draw.colors import DARK, RGB

Corners = tuple[int, int, int, int]

# A dark hairline on both sides of a coloured line keeps it visible on that colour, too.
CASING_WIDTH = 1

# A part of the image's shorter side; assumed, by eye on photographs of 240 to 2,000 pixels.
LINES_PER_SIDE = 200
MIN_LINE_WIDTH = 2


def choose_line_width(shorter_side: int) -> int:
    """Choose how thick a line is.

    Args:
        shorter_side: of the image, in pixels.

    Returns:
        Pixels.
    """
    return max(MIN_LINE_WIDTH, round(shorter_side / LINES_PER_SIDE))


def place_corners(box: np.ndarray, shape: tuple[int, ...]) -> Corners:
    """Clip a box to whole pixels of the image.

    Args:
        box: finite x_min, y_min, x_max, y_max, half-open pixels of the image.
        shape: height and width of the image, in pixels.

    Returns:
        Half-open pixels inside the image, at least one on each axis.
    """
    height, width = shape
    left, top = np.clip(np.rint(box[:2]), 0, (width - 1, height - 1)).astype(int).tolist()
    right, bottom = np.clip(np.rint(box[2:]), (left + 1, top + 1), (width, height)).tolist()
    return left, top, int(right), int(bottom)


def draw_outline(pixels: np.ndarray, box: Corners, color: RGB, width: int) -> None:
    """Draw a line inside a box, and its casing: one ring outside of it and one inside.

    Args:
        pixels: RGB, (height, width, 3), uint8; drawn on in place.
        box: half-open pixels inside the image.
        color: of the line.
        width: of the line, in pixels.
    """
    left, top, right, bottom = box
    x_outer, y_outer = max(0, left - CASING_WIDTH), max(0, top - CASING_WIDTH)
    casing = (x_outer, y_outer, right + CASING_WIDTH, bottom + CASING_WIDTH)
    _draw_frame(pixels, casing, DARK, width + 2 * CASING_WIDTH)
    _draw_frame(pixels, box, color, width)


def _draw_frame(pixels: np.ndarray, box: Corners, color: RGB, width: int) -> None:
    """Four strips of the array: Pillow's outlines leave boxes thinner than twice their width."""
    left, top, right, bottom = box
    pixels[top : min(top + width, bottom), left:right] = color
    pixels[max(bottom - width, top) : bottom, left:right] = color
    pixels[top:bottom, left : min(left + width, right)] = color
    pixels[top:bottom, max(right - width, left) : right] = color
