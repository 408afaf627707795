"""How is text set in a picture? Pillow's built-in font covers ASCII."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont

from overfeat.draw.colors import DARK, WHITE

# A part of the image's shorter side; assumed, by eye on photographs of 240 to 2,000 pixels.
TEXTS_PER_SIDE = 25
MIN_FONT_SIZE = 14
ELLIPSIS = "…"


def load_font_for(shorter_side: int) -> ImageFont.FreeTypeFont:
    """Load the font at the size that suits an image.

    Args:
        shorter_side: of the image, in pixels.

    Returns:
        The scalable font built into Pillow.
    """
    font = ImageFont.load_default(size=max(MIN_FONT_SIZE, round(shorter_side / TEXTS_PER_SIDE)))
    # With a size Pillow gives its scalable font or raises; the bitmap font is for calls without.
    assert isinstance(font, ImageFont.FreeTypeFont)
    return font


def choose_padding(font: ImageFont.FreeTypeFont) -> int:
    """Choose the space between a text and the edge of what it stands on.

    Args:
        font: of the text.

    Returns:
        Pixels.
    """
    return max(2, round(font.size / 5))


def flatten(text: str) -> str:
    """Bring a text onto one line.

    Args:
        text: any.

    Returns:
        Its words with one space between them.
    """
    return " ".join(text.split())


def shorten(label: str, ending: str, font: ImageFont.FreeTypeFont, *, room: int) -> str | None:
    """Cut the label, never its ending, so that both fit.

    Args:
        label: what may be cut.
        ending: what must stay, such as a score.
        font: of the text.
        room: pixels there are for it.

    Returns:
        The text; None where not one letter of the label fits.
    """
    if font.getlength(label + ending) <= room:
        return label + ending
    for length in range(len(label) - 1, 0, -1):
        text = label[:length].rstrip() + ELLIPSIS + ending
        if font.getlength(text) <= room:
            return text
    return None


def write_line(
    texts: Sequence[str], font: ImageFont.FreeTypeFont, *, width: int
) -> UInt8[np.ndarray, "h w 3"]:
    """Write texts side by side on a dark strip of their own.

    Args:
        texts: the first stands at the left edge, the last of several at the right one.
        font: of the texts, which gives the strip its height.
        width: of the strip, in pixels.

    Returns:
        RGB pixels of the strip.
    """
    strip = Image.new("RGB", (width, sum(font.getmetrics())), DARK)
    pen = ImageDraw.Draw(strip)
    for place, text in enumerate(texts):
        x = place / max(1, len(texts) - 1) * (width - font.getlength(text))
        pen.text((x, 0), text, fill=WHITE, font=font, anchor="la")
    return np.array(strip)
