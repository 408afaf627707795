"""What tells a reader how to read a heat map?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from jaxtyping import UInt8
from PIL import ImageFont

from overfeat.draw.colors import DARK, WHITE
from overfeat.draw.heat_colors import hatch, tint
from overfeat.draw.heat_fields import HeatField
from overfeat.draw.marks import STRIPE_WIDTH, draw_dots, has_room_for_marks
from overfeat.draw.outlines import CASING_WIDTH, draw_outline
from overfeat.draw.text import choose_padding, shorten, write_line

Key = Literal["window", "centers", "unseen"]
MEANINGS: dict[Key, str] = {
    "window": "hottest window",
    "centers": "outer window centres",
    "unseen": "not seen",
}

# In heights of the font; assumed, by eye.
USUAL_WIDTH = 9
LARGEST_WIDTH = 20
"""Where a long heading is cut."""
BAR_HEIGHT = 0.5
FONT_PER_MARK = 16
"""As in the map, where the font is 1/25 of a side and a mark 1/400."""
BAR_PHOTOGRAPH = 128
"""The bar shows heat over a photograph of this grey."""
SMALL_PEAK = 0.1
"""A smaller one is written with two digits that count rather than two decimals."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Legend:
    """What a legend says."""

    heading: str
    """Cut where there is no room; may be empty."""
    ending: str
    """Follows the heading and is never cut; may be empty."""
    ticks: tuple[str, str, str]
    """At the beginning, the middle and the end of the bar."""
    keys: tuple[Key, ...]
    """The marks that are explained."""


def write_legend(
    heading: str, ending: str, fields: Sequence[HeatField], full_scale: float
) -> Legend:
    """Choose what the legend of some maps of one image says.

    Args:
        heading: what is seen in the maps; may be empty.
        ending: follows the heading and is never cut; may be empty.
        fields: the maps.
        full_scale: the heat at the end of the bar.

    Returns:
        The legend of all of them.
    """
    has_marks = has_room_for_marks(min(fields[0].heat.shape))
    shown: dict[Key, bool] = {
        "window": has_marks and any(field.peak > 0 for field in fields),
        "centers": has_marks,
        "unseen": not all(field.is_covered.all() for field in fields),
    }
    # Heat is float32: 0.2 as such is a little more than Python's.
    more = "+" if any(field.peak > np.float32(full_scale) for field in fields) else ""
    return Legend(
        heading=heading,
        ending=ending,
        ticks=("0", f"{full_scale / 2:.3g}", f"{full_scale:.3g}{more}"),
        keys=tuple(key for key, is_shown in shown.items() if is_shown),
    )


def without_marks(legend: Legend) -> Legend:
    """Leave frame and dots unexplained, where there is no room for all.

    Args:
        legend: what it says.

    Returns:
        The same with no more than the key to unseen pixels.
    """
    return replace(legend, keys=tuple(key for key in legend.keys if key == "unseen"))


def write_peak(field: HeatField, heading: str) -> str:
    """Write the largest number of a map, to follow a heading.

    Args:
        field: the map.
        heading: what it follows; may be empty.

    Returns:
        Such as `, max 0.93`.
    """
    number = f"{field.peak:.2g}" if 0 < field.peak < SMALL_PEAK else f"{field.peak:.2f}"
    return f", max {number}" if heading else f"max {number}"


def draw_legend(
    legend: Legend, font: ImageFont.FreeTypeFont, *, max_width: int
) -> UInt8[np.ndarray, "h w 3"] | None:
    """Draw a legend as a picture of its own: heading, bar, ticks, and what the marks mean.

    Args:
        legend: what it says.
        font: of its text.
        max_width: room for it, in pixels.

    Returns:
        RGB pixels; None where not all of its ticks and keys and some of its heading fit.
    """
    pad = choose_padding(font)
    width = min(_wish_width(legend, font), max_width - 2 * pad)
    heading = shorten(legend.heading, legend.ending, font, room=width)
    if heading is None or width < _need_width(legend, font):
        return None
    strips = [write_line([heading], font, width=width)] if heading else []
    strips.append(_draw_bar(width, round(BAR_HEIGHT * font.size)))
    strips.append(write_line(legend.ticks, font, width=width))
    strips += [_draw_key(key, font, width) for key in legend.keys]
    inside = np.vstack(strips)
    panel = np.full((len(inside) + 2 * pad, width + 2 * pad, 3), DARK, dtype=np.uint8)
    panel[pad:-pad, pad:-pad] = inside
    return panel


def _wish_width(legend: Legend, font: ImageFont.FreeTypeFont) -> int:
    words = font.getlength(legend.heading + legend.ending)
    usual = max(USUAL_WIDTH * font.size, _need_width(legend, font))
    return math.ceil(max(usual, min(words, LARGEST_WIDTH * font.size)))


def _need_width(legend: Legend, font: ImageFont.FreeTypeFont) -> int:
    """What ticks and keys take, which are never cut."""
    pad, line = choose_padding(font), sum(font.getmetrics())
    ticks = sum(map(font.getlength, legend.ticks)) + 2 * pad
    return math.ceil(
        max([ticks, *(line + pad + font.getlength(MEANINGS[key]) for key in legend.keys)])
    )


def _draw_bar(width: int, height: int) -> np.ndarray:
    photograph = np.full((height, width, 3), BAR_PHOTOGRAPH, dtype=np.uint8)
    return tint(photograph, np.tile(np.linspace(0, 1, width, dtype=np.float32), (height, 1)))


def _draw_key(key: Key, font: ImageFont.FreeTypeFont, width: int) -> np.ndarray:
    """A mark on a piece of photograph without heat, and in words what it means."""
    strip = write_line([], font, width=width)
    pad, line = choose_padding(font), len(strip)
    swatch = strip[pad // 2 : line - pad // 2, :line]
    swatch[:] = _draw_bar(line, len(swatch))[:, :1]
    _draw_mark(key, swatch, max(1, round(font.size / FONT_PER_MARK)))
    text = write_line([MEANINGS[key]], font, width=width)
    strip[:, line + pad :] = text[:, : width - line - pad]
    return strip


def _draw_mark(key: Key, swatch: np.ndarray, width: int) -> None:
    rows, cols = swatch.shape[:2]
    if key == "unseen":
        hatch(swatch, np.zeros((rows, cols), dtype=bool), STRIPE_WIDTH * width)
    elif key == "window":
        inset = 2 * CASING_WIDTH + width
        draw_outline(swatch, (inset, inset, cols - inset, rows - inset), WHITE, width)
    else:
        x = np.array([0.2, 0.5, 0.8]) * cols
        draw_dots(swatch, np.stack([x, np.full_like(x, rows / 2)], axis=1), width)
