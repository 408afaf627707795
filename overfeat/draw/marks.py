"""What, beside heat, is marked in a heat map?

A thin frame: the window with the most heat, which is what the network saw there. Dots: the
outermost windows' centres; beyond them a pixel's heat is that of the nearest window. Hatching:
what no window covers.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Real

from overfeat.draw.colors import DARK, WHITE
from overfeat.draw.heat_colors import hatch
from overfeat.draw.heat_fields import HeatField
from overfeat.draw.outlines import CASING_WIDTH, draw_outline, place_corners

# Parts of the image's shorter side; assumed, by eye.
MARKS_PER_SIDE = 400
STRIPE_WIDTH = 2
"""In widths of a mark."""
SMALLEST_SIDE = 128
"""In pixels: in a smaller image frame and dots would hide the heat."""


def has_room_for_marks(shorter_side: int) -> bool:
    """Tell whether frame and dots leave enough of an image to be seen.

    Args:
        shorter_side: of the image, in pixels.

    Returns:
        True if they do.
    """
    return shorter_side >= SMALLEST_SIDE


def choose_mark_width(shorter_side: int) -> int:
    """Choose how thick a frame and how large a dot is, and by that all marks.

    Args:
        shorter_side: of the image, in pixels.

    Returns:
        Pixels, their casing not counted.
    """
    return max(1, round(shorter_side / MARKS_PER_SIDE))


def mark(pixels: np.ndarray, field: HeatField) -> None:
    """Draw the marks of a heat map; in an image too small for frame and dots, without them.

    Args:
        pixels: RGB, (height, width, 3), uint8; drawn on in place.
        field: the map, in the frame of the image.
    """
    shorter = min(pixels.shape[:2])
    width = choose_mark_width(shorter)
    hatch(pixels, field.is_covered, STRIPE_WIDTH * width)
    if not has_room_for_marks(shorter):
        return
    draw_dots(pixels, _list_outermost(field), width)
    if field.peak:
        draw_outline(pixels, place_corners(field.peak_window, pixels.shape[:2]), WHITE, width)


def draw_dots(pixels: np.ndarray, points_xy: Real[np.ndarray, "n 2"], width: int) -> None:
    """Draw square dots, each with a dark casing, those of them that lie in the image.

    Args:
        pixels: RGB, (height, width, 3), uint8; drawn on in place.
        points_xy: x and y of each centre, in pixels of the image.
        width: of a dot, in pixels.
    """
    starts = np.floor(points_xy - (width - 1) / 2).astype(int)
    inside = (points_xy >= 0).all(axis=1) & (points_xy < pixels.shape[1::-1]).all(axis=1)
    # All casings first: where dots are close, no casing hides another's dot.
    for color, reach in ((DARK, CASING_WIDTH), (WHITE, 0)):
        for left, top in np.maximum(starts[inside] - reach, 0).tolist():
            right, bottom = left + width + 2 * reach, top + width + 2 * reach
            pixels[top:bottom, left:right] = color


def _list_outermost(field: HeatField) -> np.ndarray:
    """The centres of the first and last row and column, as x and y."""
    y, x = field.centers
    is_outermost = np.ones((len(y), len(x)), dtype=bool)
    is_outermost[1:-1, 1:-1] = False
    rows, cols = np.nonzero(is_outermost)
    return np.stack([x[cols], y[rows]], axis=1)
