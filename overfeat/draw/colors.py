"""Which colour has what? A label has the same one in every image and every run."""

from __future__ import annotations

import zlib

import numpy as np

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
DARK: RGB = (24, 24, 24)
"""Around coloured lines, behind legends, between pictures."""

# Relative luminance on which black and white text contrast alike: sqrt(0.05 * 1.05) - 0.05.
EVEN_LUMINANCE = 0.179


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
