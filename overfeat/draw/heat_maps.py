"""Where in an image is a class seen? Sermanet et al. 2014, figure 6."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Real, UInt8
from PIL import ImageFont

from overfeat.draw.checks import check_image
from overfeat.draw.grids import stack, tile
from overfeat.draw.heat_colors import tint
from overfeat.draw.heat_fields import Blend, HeatField, spread_heat
from overfeat.draw.legends import draw_legend, without_marks, write_legend, write_peak
from overfeat.draw.marks import mark
from overfeat.draw.text import choose_padding, flatten, load_font_for, shorten, write_line

SMALLEST_SCALE = 1e-6
"""Smaller probabilities are the rounding of float32."""
LEGEND_SHARE = 1 / 4
"""A legend that would hide more of an image's area is left out."""
GAP_PADS = 3
"""Between maps, in paddings of a text."""
LONGEST_TITLE = 20
"""In heights of the font: a narrow image gets that much room for its title."""


def draw_heat_map(
    image: UInt8[np.ndarray, "h w 3"],
    heat: Float[np.ndarray, "rows cols"],
    cells_xyxy: Real[np.ndarray, "rows cols 4"],
    *,
    label: str | None = None,
    full_scale: float = 1.0,
    blend: Blend = "smooth",
    legend: bool = True,
) -> UInt8[np.ndarray, "h w 3"]:
    """Draw where a class is seen, over a dimmed grey copy of the image.

    A cell's heat stands at the centre of its window; between the centres it is interpolated, and
    beyond the outermost ones it is that of the nearest. The more heat, the lighter, from orange to
    pale yellow; grey is 0. Pixels that no window covers are hatched. In images of at least 128
    pixels a thin frame shows the window with the most heat, which is what the network saw there,
    and dots the outermost centres. The legend stands in the coolest corner; it names the label and
    the largest heat of all cells, and an image too small for it goes without.

    Args:
        image: RGB pixels; not modified.
        heat: probabilities, 0 to 1, one for each cell.
        cells_xyxy: the window of each cell, half-open pixels of `image` (x_min, y_min, x_max,
            y_max), as `overfeat.geometry.window_boxes` lays them out, taken to the pixels of the
            image: a grid that grows to the right and down. Windows may overlap and reach beyond
            the image; do not clip them, for a clipped window has its centre elsewhere.
        label: what is seen, for the legend. Pillow's built-in font covers ASCII.
        full_scale: the heat that gets the last colour, 1e-6 to 1. Use less than 1
            where all probabilities are small, and the same for maps to be compared.
        blend: `smooth` is bilinear; in `blocks` each pixel takes the heat of the nearest centre.
        legend: whether to draw it.

    Returns:
        A new array, (h, w, 3), uint8, in the frame of `image`.

    Raises:
        ValueError: a shape or a number is not as above, or the windows are no grid.

    Source:
        Sermanet et al. 2014, figure 6.
    """
    check_image("draw_heat_map", image)
    _check_full_scale("draw_heat_map", full_scale)
    field = spread_heat("draw_heat_map", heat, cells_xyxy, image.shape[:2], blend)
    picture = _paint(image, field, full_scale)
    if legend:
        _add_legend(picture, field, flatten(label or ""), full_scale)
    return picture


def draw_heat_maps(
    image: UInt8[np.ndarray, "h w 3"],
    heats: Sequence[Float[np.ndarray, "_ _"]],
    cells_xyxy: Sequence[Real[np.ndarray, "_ _ 4"]],
    titles: Sequence[str],
    *,
    label: str | None = None,
    full_scale: float = 1.0,
    blend: Blend = "smooth",
    columns: int | None = None,
) -> UInt8[np.ndarray, "H W 3"]:
    """Draw maps of the same class side by side, such as one for each scale, with one legend below.

    Args:
        image: RGB pixels; not modified. Each map is drawn as large as it is.
        heats: at least one map, each as `draw_heat_map` takes it.
        cells_xyxy: the windows of each map, likewise.
        titles: one for each map, written above it before its largest heat; a scale, for instance.
        label: what is seen, for the legend.
        full_scale: the heat that gets the last colour in all maps, 1e-6 to 1.
        blend: `smooth` is bilinear; in `blocks` each pixel takes the heat of the nearest centre.
        columns: maps in a row, at least 1; by default all stand in one row.

    Returns:
        A new array, uint8, as large as the maps, their titles and the legend need.

    Raises:
        ValueError: a shape, a count or a number is not as above, or the windows are no grid.

    Source:
        Sermanet et al. 2014, figure 6.
    """
    check_image("draw_heat_maps", image)
    _check_full_scale("draw_heat_maps", full_scale)
    _check_counts(heats, cells_xyxy, titles, columns)
    fields = [
        spread_heat(f"draw_heat_maps: map {index}", heat, cells, image.shape[:2], blend)
        for index, (heat, cells) in enumerate(zip(heats, cells_xyxy, strict=True))
    ]
    font = load_font_for(min(image.shape[:2]))
    pad = choose_padding(font)
    lines = [flatten(title) for title in titles]
    captions = [(line, write_peak(field, line)) for line, field in zip(lines, fields, strict=True)]
    width = max(image.shape[1], *(_wish_width(*caption, font) for caption in captions))
    panels = [
        stack([_draw_caption(*caption, font, width), _paint(image, field, full_scale)])
        for caption, field in zip(captions, fields, strict=True)
    ]
    sheet = tile(panels, columns or len(panels), GAP_PADS * pad)
    text = write_legend(flatten(label or ""), "", fields, full_scale)
    strip = draw_legend(text, font, max_width=sheet.shape[1] - 2 * GAP_PADS * pad)
    return sheet if strip is None else stack([sheet, tile([strip], 1, (GAP_PADS - 1) * pad)])


def _check_full_scale(place: str, full_scale: float) -> None:
    if not SMALLEST_SCALE <= full_scale <= 1:
        raise ValueError(f"{place}: full_scale is {full_scale}, expected {SMALLEST_SCALE} to 1")


def _check_counts(
    heats: Sequence[np.ndarray],
    cells_xyxy: Sequence[np.ndarray],
    titles: Sequence[str],
    columns: int | None,
) -> None:
    if not heats:
        raise ValueError("draw_heat_maps: no heats, need at least one map")
    for name, values in (("cells_xyxy", cells_xyxy), ("titles", titles)):
        if len(values) != len(heats):
            raise ValueError(
                f"draw_heat_maps: {len(values)} {name} for {len(heats)} heats, expected as many"
            )
    if columns is not None and columns < 1:
        raise ValueError(f"draw_heat_maps: columns is {columns}, need at least 1")


def _paint(image: np.ndarray, field: HeatField, full_scale: float) -> np.ndarray:
    """The map without words."""
    pixels = tint(image, np.minimum(field.heat / np.float32(full_scale), 1))
    mark(pixels, field)
    return pixels


def _add_legend(picture: np.ndarray, field: HeatField, label: str, full_scale: float) -> None:
    """In the corner where it hides the least heat; of equal ones the first, bottom left."""
    height, width = picture.shape[:2]
    font = load_font_for(min(height, width))
    legend = write_legend(label, write_peak(field, label), [field], full_scale)
    for candidate in (legend, without_marks(legend)):
        panel = draw_legend(candidate, font, max_width=width)
        if panel is not None and len(panel) <= height and panel.size <= LEGEND_SHARE * picture.size:
            break
    else:
        return
    rows, cols = panel.shape[:2]
    corners = [(top, left) for top in (height - rows, 0) for left in (0, width - cols)]
    hidden = [field.heat[top:, left:][:rows, :cols].max() for top, left in corners]
    top, left = corners[int(np.argmin(hidden))]
    picture[top : top + rows, left : left + cols] = panel


def _wish_width(title: str, ending: str, font: ImageFont.FreeTypeFont) -> int:
    return math.ceil(min(font.getlength(title + ending), LONGEST_TITLE * font.size))


def _draw_caption(title: str, ending: str, font: ImageFont.FreeTypeFont, width: int) -> np.ndarray:
    return write_line([shorten(title, ending, font, room=width) or ""], font, width=width)
