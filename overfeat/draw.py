"""What do boxes look like on their image?

For people to look at: reports, notebooks, a first glance at a result. A label has the same colour
in every image and every run. The only module of this package that uses Pillow.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Real, UInt8
from PIL import Image, ImageDraw, ImageFont

RGB = tuple[int, int, int]

# Okabe and Ito's colours without black: told apart with every common colour vision deficiency.
PALETTE: tuple[RGB, ...] = (
    (230, 159, 0),
    (86, 180, 233),
    (0, 158, 115),
    (240, 228, 66),
    (0, 114, 178),
    (213, 94, 0),
    (204, 121, 167),
)
BLACK: RGB = (0, 0, 0)
WHITE: RGB = (255, 255, 255)
# Relative luminance on which black and white text contrast alike: sqrt(0.05 * 1.05) - 0.05.
EVEN_LUMINANCE = 0.179

# A dark hairline on both sides of a coloured line keeps it visible on that colour, too.
CASING: RGB = (24, 24, 24)
CASING_WIDTH = 1

# Parts of the image's shorter side; assumed, by eye on photographs of 240 to 2,000 pixels.
LINES_PER_SIDE = 200
TEXTS_PER_SIDE = 25
MIN_LINE_WIDTH = 2
MIN_FONT_SIZE = 14
ELLIPSIS = "…"


@dataclass(frozen=True, kw_only=True, slots=True)
class _Tag:
    """One label, laid out: where its rectangle stands and what is written in it."""

    left: int
    top: int
    right: int
    bottom: int
    text: str
    color: RGB

    def overlaps(self, other: _Tag) -> bool:
        """Whether the two rectangles share a pixel."""
        beside = self.right <= other.left or other.right <= self.left
        return not (beside or self.bottom <= other.top or other.bottom <= self.top)


def draw_boxes(
    image: UInt8[np.ndarray, "h w 3"],
    boxes_xyxy: Real[np.ndarray, "n 4"],
    labels: Sequence[str],
    scores: Sequence[float] | Float[np.ndarray, " n"] | None = None,
    *,
    width: int | None = None,
) -> UInt8[np.ndarray, "h w 3"]:
    """Draw boxes with their labels and scores on a copy of an image.

    The first box lies on top, so pass the best one first. A tag stands above its box, or inside or
    below where there is no room or another tag; it never leaves the image. A box is clipped to the
    image, a label too long for the image is shortened, and in an image too small for any text only
    the outlines are drawn. Pillow's built-in font covers ASCII.

    Args:
        image: RGB pixels; not modified.
        boxes_xyxy: finite half-open pixels of `image` (x_min, y_min, x_max, y_max).
        labels: one for each box.
        scores: one for each box, written after the label with two decimals.
        width: of the lines, in pixels, at least 1; by default it follows the image's size.

    Returns:
        A new array, (h, w, 3), uint8, in the frame of `image`.

    Raises:
        ValueError: a shape, a count, a corner or the width is not as above.
    """
    _check_image(image)
    _check_boxes(boxes_xyxy, labels, scores)
    shorter = min(image.shape[:2])
    if width is None:
        width = max(MIN_LINE_WIDTH, round(shorter / LINES_PER_SIDE))
    if width < 1:
        raise ValueError(f"draw_boxes: width is {width} pixels, need at least 1")
    pixels = image.copy()
    corners = [_place_corners(box, image.shape[:2]) for box in boxes_xyxy]
    for box, label in reversed(list(zip(corners, labels, strict=True))):
        _draw_outline(pixels, box, color_of(label), width)
    canvas = Image.fromarray(pixels)
    pen = ImageDraw.Draw(canvas)
    font = _load_font(max(MIN_FONT_SIZE, round(shorter / TEXTS_PER_SIDE)))
    for tag in reversed(_lay_out_tags(canvas.size, corners, labels, scores, font)):
        _draw_tag(pen, tag, font)
    return np.array(canvas)


def color_of(label: str) -> RGB:
    """Choose a label's colour: the same for the same text in each process and on each machine.

    Args:
        label: any text.

    Returns:
        Red, green and blue, 0 to 255, one of `PALETTE`. More labels than colours share them.
    """
    # crc32, because Python's own hash of a text differs from process to process.
    return PALETTE[zlib.crc32(label.encode()) % len(PALETTE)]


def text_color_on(background: RGB) -> RGB:
    """Choose black or white, whichever is easier to read on a colour.

    Args:
        background: red, green and blue, 0 to 255.

    Returns:
        The one with the greater WCAG contrast; on `PALETTE` that is at least 5.1 to 1.
    """
    # A power of 2.2 stands for sRGB's two-piece curve: no choice on the palette depends on it.
    luminance = (np.array(background) / 255) ** 2.2 @ np.array([0.2126, 0.7152, 0.0722])
    return BLACK if luminance > EVEN_LUMINANCE else WHITE


def _check_image(image: np.ndarray) -> None:
    if image.shape[2:] != (3,) or image.dtype != np.uint8 or not image.size:
        raise ValueError(
            f"draw_boxes: image is {image.dtype} of shape {image.shape}, "
            "expected uint8 of shape (height, width, 3) with at least one pixel"
        )


def _check_boxes(
    boxes_xyxy: np.ndarray, labels: Sequence[str], scores: Sequence[float] | np.ndarray | None
) -> None:
    if boxes_xyxy.shape[1:] != (4,):
        raise ValueError(
            f"draw_boxes: boxes_xyxy has the shape {boxes_xyxy.shape}, expected (n, 4); "
            "no boxes are np.empty((0, 4))"
        )
    for name, values in (("labels", labels), ("scores", scores)):
        if values is not None and len(values) != len(boxes_xyxy):
            raise ValueError(
                f"draw_boxes: {len(values)} {name} for {len(boxes_xyxy)} boxes, expected as many"
            )
    is_sound = np.isfinite(boxes_xyxy).all(axis=1)
    is_sound &= (boxes_xyxy[:, :2] <= boxes_xyxy[:, 2:]).all(axis=1)
    if not is_sound.all():
        worst = int(np.argmin(is_sound))
        raise ValueError(
            f"draw_boxes: box {worst} is {boxes_xyxy[worst].tolist()}, "
            "expected finite x_min <= x_max and y_min <= y_max"
        )


def _place_corners(box: np.ndarray, shape: tuple[int, ...]) -> tuple[int, int, int, int]:
    """Whole half-open pixels inside the image, at least one on each axis."""
    height, width = shape
    left, top = np.clip(np.rint(box[:2]), 0, (width - 1, height - 1)).astype(int).tolist()
    right, bottom = np.clip(np.rint(box[2:]), (left + 1, top + 1), (width, height)).tolist()
    return left, top, int(right), int(bottom)


def _draw_outline(
    pixels: np.ndarray, box: tuple[int, int, int, int], color: RGB, width: int
) -> None:
    """A line that lies inside the box, and its casing: one ring outside of it and one inside."""
    left, top, right, bottom = box
    x_outer, y_outer = max(0, left - CASING_WIDTH), max(0, top - CASING_WIDTH)
    casing = (x_outer, y_outer, right + CASING_WIDTH, bottom + CASING_WIDTH)
    _draw_frame(pixels, casing, CASING, width + 2 * CASING_WIDTH)
    _draw_frame(pixels, box, color, width)


def _draw_frame(pixels: np.ndarray, box: tuple[int, int, int, int], color: RGB, width: int) -> None:
    """Four strips of the array: Pillow's outlines leave boxes thinner than twice their width."""
    left, top, right, bottom = box
    pixels[top : min(top + width, bottom), left:right] = color
    pixels[max(bottom - width, top) : bottom, left:right] = color
    pixels[top:bottom, left : min(left + width, right)] = color
    pixels[top:bottom, max(right - width, left) : right] = color


def _load_font(size: int) -> ImageFont.FreeTypeFont:
    font = ImageFont.load_default(size=size)
    # With a size Pillow gives its scalable font or raises; the bitmap font is for calls without.
    assert isinstance(font, ImageFont.FreeTypeFont)
    return font


def _lay_out_tags(
    size: tuple[int, int],
    corners: Sequence[tuple[int, int, int, int]],
    labels: Sequence[str],
    scores: Sequence[float] | np.ndarray | None,
    font: ImageFont.FreeTypeFont,
) -> list[_Tag]:
    """Each tag at its first free place; where none is free, its first place."""
    tags: list[_Tag] = []
    for rank, (box, label) in enumerate(zip(corners, labels, strict=True)):
        ending = "" if scores is None else f" {scores[rank]:.2f}"
        places = _list_places(size, box, label, ending, font)
        free = [place for place in places if not any(place.overlaps(tag) for tag in tags)]
        tags += (free or places)[:1]
    return tags


def _list_places(
    size: tuple[int, int],
    box: tuple[int, int, int, int],
    label: str,
    ending: str,
    font: ImageFont.FreeTypeFont,
) -> list[_Tag]:
    """Above, inside at the top, below, inside at the bottom: those that lie in the image."""
    pad = max(2, round(font.size / 5))
    text = _shorten(" ".join(label.split()), ending, font, room=size[0] - 2 * pad)
    if text is None:
        return []
    tag_width, tag_height = math.ceil(font.getlength(text)) + 2 * pad, sum(font.getmetrics()) + pad
    first_x, first_y = box[0] - CASING_WIDTH, box[1] - CASING_WIDTH
    end_y = box[3] + CASING_WIDTH
    left = max(0, min(first_x, size[0] - tag_width))
    tops = (first_y - tag_height, max(0, first_y), end_y, min(end_y, size[1]) - tag_height)
    return [
        _Tag(
            left=left,
            top=top,
            right=left + tag_width,
            bottom=top + tag_height,
            text=text,
            color=color_of(label),
        )
        for top in tops
        if 0 <= top <= size[1] - tag_height
    ]


def _shorten(label: str, ending: str, font: ImageFont.FreeTypeFont, *, room: int) -> str | None:
    """Cut the label, never the score, to the room in pixels; None where not one letter fits."""
    if font.getlength(label + ending) <= room:
        return label + ending
    for length in range(len(label) - 1, 0, -1):
        text = label[:length].rstrip() + ELLIPSIS + ending
        if font.getlength(text) <= room:
            return text
    return None


def _draw_tag(pen: ImageDraw.ImageDraw, tag: _Tag, font: ImageFont.FreeTypeFont) -> None:
    pen.rectangle((tag.left, tag.top, tag.right - 1, tag.bottom - 1), fill=tag.color)
    middle = ((tag.left + tag.right) / 2, (tag.top + tag.bottom) / 2)
    pen.text(middle, tag.text, fill=text_color_on(tag.color), font=font, anchor="mm")
