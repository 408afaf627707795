"""Which colour has a pixel of a photograph that is so hot?

The photograph is dimmed to grey, and only heat has a colour: grey means 0. The colour is laid over
with more and more opacity while it turns from orange to a pale yellow, so on every pixel of every
photograph more heat is lighter, with every colour vision deficiency and in grey print.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float32, UInt8

# Chosen by eye on photographs, then checked over all greys: luminance grows with heat everywhere.
DARKEST, LIGHTEST = 16, 128
"""What black and white of the photograph become."""
COOL = (225, 125, 0)
HOT = (255, 230, 110)
OPACITY = 0.8
"""At full heat: the photograph's edges still show."""
RISE = 0.7
"""The exponent of the opacity below full heat: at 1 a heat of 0.1 could hardly be seen."""

LUMA = (0.299, 0.587, 0.114)
HATCH = (4, 140)
"""Dark and light stripes, both outside the greys that a dimmed photograph has."""
STRIPE_PERIOD = 5
"""In widths of a stripe."""


def tint(
    image: UInt8[np.ndarray, "h w 3"], heat: Float32[np.ndarray, "h w"]
) -> UInt8[np.ndarray, "h w 3"]:
    """Lay heat over a dimmed photograph.

    Args:
        image: RGB pixels; not modified.
        heat: 0 to 1.

    Returns:
        A new array, (h, w, 3), uint8, in the frame of `image`.
    """
    luma = sum(np.float32(part) * image[..., c] for c, part in enumerate(LUMA))
    gray = DARKEST + luma * np.float32((LIGHTEST - DARKEST) / 255)
    tinted = np.empty_like(image)
    opacity = np.float32(OPACITY) * heat ** np.float32(RISE)
    for c, (cool, hot) in enumerate(zip(COOL, HOT, strict=True)):
        color = cool + heat * np.float32(hot - cool)
        tinted[..., c] = np.rint(gray + opacity * (color - gray))
    return tinted


def hatch(
    pixels: UInt8[np.ndarray, "h w 3"], is_covered: Bool[np.ndarray, "h w"], width: int
) -> None:
    """Mark what no window covers with diagonal stripes.

    Args:
        pixels: RGB; drawn on in place.
        is_covered: whether a window covers the pixel.
        width: of a stripe from left to right, in pixels.
    """
    rows, cols = np.nonzero(~is_covered)
    stripe = (rows + cols) // width % STRIPE_PERIOD
    for index, level in enumerate(HATCH):
        chosen = stripe == index
        pixels[rows[chosen], cols[chosen]] = level
