"""How does an 8x8 handwritten digit become a stroke of an exact height?

The digit is upscaled smoothly and cut at one grey level; the edge is antialiased, or soft where a
style asks for it. Pixels are made by Pillow's 8-bit operations, so that they do not depend on the
CPU.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from PIL import Image

INK_LEVEL: Final = 96
"""Grey level, 0 to 255, of the outline: the ink is everything at least this dark. *Measured*: a
higher level breaks the thin sides of zeros (29 % at 112, 8 % at 96), a lower one fills loops."""

_GREY_PER_UNIT: Final = 15
_MARGIN_CELLS: Final = 3
"""Empty cells around the 8x8 digit, so that neither rotation nor shear cuts it."""
_CELL_PIXELS: Final = 8
_EDGE_PIXELS: Final = 1.5
"""Width of the antialiased edge."""
_SOFT_CELLS: Final = 2
"""How far from its outline ink reaches if its edge is soft: there the upscaled digit ends."""
_EDGE_GREY_PER_CELL: Final = 200
"""Steepness of the upscaled digit at its outline: median *measured* over every fifth digit."""
_SIZE_TRIES: Final = 32
_TRIES_PER_SHIFT: Final = 4


@dataclass(frozen=True, kw_only=True, slots=True)
class InkStyle:
    """How a digit is written; the defaults change nothing."""

    angle: float = 0.0
    """Counter-clockwise rotation in degrees."""

    shear: float = 0.0
    """Horizontal shift per unit of height: 0.1 slants by about 6 degrees."""

    aspect: float = 1.0
    """Factor on the width."""

    level: int = INK_LEVEL
    """Grey level of the outline, 1 to 255: a lower one thickens the stroke."""

    softness: float = 0.0
    """Between a crisp edge (0) and one as wide as the ink of the upscaled digit fades (1)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Ink:
    """A written digit."""

    alpha: Image.Image
    """Mode L: 0 where there is no ink, 255 inside the stroke, between them on its edge."""

    margin: int
    """Pixels of `alpha` beyond each side of `mask`, where a soft edge fades; 0 for a crisp one."""

    mask: np.ndarray
    """Bool (height, width): the ink, pixels covered at least by half; its first and last row and
    column each hold ink."""


def write_digit(cells: np.ndarray, *, height: int, style: InkStyle) -> Ink:
    """Draw a digit so that its ink, after the rotation, is exactly `height` pixels high.

    Args:
        cells: uint8 (8, 8) with values 0 to 16.
        height: Pixels between the top and the bottom of the ink, at least 8.
        style: Rotation, slant, thickness and edge.

    Returns:
        The ink; its mask is cropped to its tight bounds.

    Raises:
        ValueError: The height is below 8, or no canvas gives it (not seen in 10,000 scenes).
    """
    if height < _CELL_PIXELS:
        raise ValueError(f"write_digit: height is {height} pixels, expected at least 8")
    around = _SOFT_CELLS * _CELL_PIXELS if style.softness else _CELL_PIXELS // 2
    small = _crop_to_ink(_warp(_upscale(cells), style), style.level, margin=around)
    rows = height
    # One canvas row more usually makes the ink at most one row higher, so this walks to the height.
    # Where both its ends jump at once, another start of the sampling grid parts them.
    for attempt in range(_SIZE_TRIES):
        shift = attempt // _TRIES_PER_SHIFT / 4
        size = (max(1, round(small.width * rows / small.height)), rows)
        box = (0, shift, small.width, small.height)
        canvas = small.resize(size, Image.Resampling.BICUBIC, box=box)
        left, top, right, bottom = bound_ink(np.asarray(canvas) >= style.level)
        if bottom - top == height:
            return _outline(canvas, (left, top, right, bottom), rows / small.height, style)
        rows += height - (bottom - top)
    raise ValueError(f"write_digit: no canvas gives ink of {height} pixels, reached {bottom - top}")


def bound_ink(mask: np.ndarray) -> tuple[int, int, int, int]:
    """Tight bounds of the ink.

    Args:
        mask: Bool (height, width), not empty.

    Returns:
        Left, top, right and bottom, half-open pixels of the mask.
    """
    rows = np.flatnonzero(mask.any(axis=1))
    columns = np.flatnonzero(mask.any(axis=0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def _upscale(cells: np.ndarray) -> Image.Image:
    """Smooth grey picture of a digit with an empty margin."""
    grey = np.pad(cells * np.uint8(_GREY_PER_UNIT), _MARGIN_CELLS)
    side = grey.shape[0] * _CELL_PIXELS
    return Image.fromarray(grey).resize((side, side), Image.Resampling.BICUBIC)


def _warp(grey: Image.Image, style: InkStyle) -> Image.Image:
    """Rotate, shear and stretch about the centre."""
    # Rounded as Pillow's own rotate does: the last digits of a sine differ between C libraries.
    cosine = round(math.cos(math.radians(style.angle)), 15)
    sine = round(math.sin(math.radians(style.angle)), 15)
    # Output pixel -> input pixel: undo the rotation, then the shear, then the stretch.
    a = (cosine - style.shear * sine) / style.aspect
    b = (-sine - style.shear * cosine) / style.aspect
    c, d = sine, cosine
    centre = grey.width / 2
    matrix = (a, b, centre - (a + b) * centre, c, d, centre - (c + d) * centre)
    return grey.transform(grey.size, Image.Transform.AFFINE, matrix, Image.Resampling.BICUBIC)


def _crop_to_ink(grey: Image.Image, level: int, *, margin: int) -> Image.Image:
    left, top, right, bottom = bound_ink(np.asarray(grey) >= level)
    return grey.crop((left - margin, top - margin, right + margin, bottom + margin))


def _outline(
    grey: Image.Image, bounds: tuple[int, int, int, int], zoom: float, style: InkStyle
) -> Ink:
    """Cut at the level, with an edge about `_EDGE_PIXELS` wide, or a wider one."""
    crisp = 255 * _CELL_PIXELS * zoom / (_EDGE_GREY_PER_CELL * _EDGE_PIXELS)
    # No wider than that paper stays white: grey 0 has no ink.
    gain = crisp ** (1 - style.softness) * max(1.0, 128 / style.level) ** style.softness
    table = [min(255, max(0, round(128 + gain * (value - style.level)))) for value in range(256)]
    margin = math.ceil(_SOFT_CELLS * _CELL_PIXELS * zoom) if style.softness else 0
    left, top, right, bottom = bounds
    around = grey.crop((left - margin, top - margin, right + margin, bottom + margin))
    mask = np.asarray(grey.crop(bounds)) >= style.level
    return Ink(alpha=around.point(table), margin=margin, mask=mask)
