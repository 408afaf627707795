"""Where does the tag with a box's label stand?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import ImageDraw, ImageFont

from overfeat.draw.colors import RGB, color_of, text_color_on
from overfeat.draw.outlines import CASING_WIDTH, Corners
from overfeat.draw.text import choose_padding, flatten, shorten


@dataclass(frozen=True, kw_only=True, slots=True)
class Tag:
    """One label, laid out: where its rectangle stands and what is written in it."""

    left: int
    top: int
    right: int
    bottom: int
    """Half-open pixels of the image."""
    text: str
    color: RGB
    """Of the rectangle."""

    def overlaps(self, other: Tag) -> bool:
        """Tell whether two rectangles share a pixel.

        Args:
            other: a tag on the same image.

        Returns:
            True if they do.
        """
        beside = self.right <= other.left or other.right <= self.left
        return not (beside or self.bottom <= other.top or other.bottom <= self.top)


def lay_out_tags(
    size: tuple[int, int],
    corners: Sequence[Corners],
    labels: Sequence[str],
    scores: Sequence[float] | np.ndarray | None,
    font: ImageFont.FreeTypeFont,
) -> list[Tag]:
    """Put each tag at its first free place; where none is free, at its first place.

    Args:
        size: width and height of the image, in pixels.
        corners: of each box, half-open pixels inside the image, best box first.
        labels: one for each box.
        scores: one for each box, or none.
        font: of the text.

    Returns:
        The tags in the order of their boxes, without those for which the image is too small.
    """
    tags: list[Tag] = []
    for rank, (box, label) in enumerate(zip(corners, labels, strict=True)):
        ending = "" if scores is None else f" {scores[rank]:.2f}"
        places = _list_places(size, box, label, ending, font)
        free = [place for place in places if not any(place.overlaps(tag) for tag in tags)]
        tags += (free or places)[:1]
    return tags


def draw_tag(pen: ImageDraw.ImageDraw, tag: Tag, font: ImageFont.FreeTypeFont) -> None:
    """Draw one tag.

    Args:
        pen: draws on the image.
        tag: what and where.
        font: that it was laid out with.
    """
    pen.rectangle((tag.left, tag.top, tag.right - 1, tag.bottom - 1), fill=tag.color)
    middle = ((tag.left + tag.right) / 2, (tag.top + tag.bottom) / 2)
    pen.text(middle, tag.text, fill=text_color_on(tag.color), font=font, anchor="mm")


def _list_places(
    size: tuple[int, int],
    box: Corners,
    label: str,
    ending: str,
    font: ImageFont.FreeTypeFont,
) -> list[Tag]:
    """Above, inside at the top, below, inside at the bottom: those that lie in the image."""
    pad = choose_padding(font)
    text = shorten(flatten(label), ending, font, room=size[0] - 2 * pad)
    if text is None:
        return []
    tag_width, tag_height = math.ceil(font.getlength(text)) + 2 * pad, sum(font.getmetrics()) + pad
    first_x, first_y = box[0] - CASING_WIDTH, box[1] - CASING_WIDTH
    end_y = box[3] + CASING_WIDTH
    left = max(0, min(first_x, size[0] - tag_width))
    tops = (first_y - tag_height, max(0, first_y), end_y, min(end_y, size[1]) - tag_height)
    return [
        Tag(
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
