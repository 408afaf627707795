"""Procedural backgrounds, which hold no digit: stretched grids, overlapping shapes, clouds."""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from PIL import Image, ImageDraw

_SHAPES: Final = (20, 300)
_SHAPE_RADII: Final = (0.02, 0.5)
"""As parts of the image's shorter side."""
_CORNERS: Final = (2, 5)
"""Corners of a shape; two stand for a circle."""
_COLOUR_JITTER: Final = 30
_OCTAVES: Final = 8
"""The finest has 2 to the 7 cells each way: grain."""


def make_texture(size: tuple[int, int], rng: np.random.Generator) -> Image.Image:
    """Draw one of the textures below.

    Args:
        size: Width and height in pixels.
        rng: Every draw comes from it.

    Returns:
        RGB of that size.
    """
    makers = (make_grid, make_shapes, make_clouds)
    return makers[int(rng.integers(len(makers)))](size, rng)


def make_grid(size: tuple[int, int], rng: np.random.Generator) -> Image.Image:
    """Draw a grid of random colours, stretched.

    Few cells make gradients and patches, one row or column makes stripes, many cells make grain.

    Args:
        size: Width and height in pixels.
        rng: Every draw comes from it.

    Returns:
        RGB of that size.
    """
    rows, columns = (int(2 ** (6 * rng.random())) for _ in range(2))
    centre = rng.integers(0, 256, size=3)
    spread = int(rng.integers(20, 160))
    cells = np.clip(centre + rng.integers(-spread, spread + 1, (rows, columns, 3)), 0, 255)
    smooth = rng.random() < 2 / 3
    resampling = Image.Resampling.BICUBIC if smooth else Image.Resampling.NEAREST
    return Image.fromarray(cells.astype(np.uint8)).resize(size, resampling)


def make_shapes(size: tuple[int, int], rng: np.random.Generator) -> Image.Image:
    """Draw circles and polygons of all sizes in a few colours, the smallest on top.

    Args:
        size: Width and height in pixels.
        rng: Every draw comes from it.

    Returns:
        RGB of that size.

    Source:
        The dead leaves model (Lee, Mumford and Huang 2001): edges that cover each other, of all
        sizes, are what photographs are made of.
    """
    colours = rng.integers(0, 256, size=(int(rng.integers(2, 12)), 3))
    image = Image.new("RGB", size, _as_colour(colours[0]))
    draw = ImageDraw.Draw(image)
    count = int(rng.integers(_SHAPES[0], _SHAPES[1] + 1))
    least, largest = (share * min(size) for share in _SHAPE_RADII)
    # Parts of a pixel would be rounded; whole ones are the same on every machine.
    radii = np.sort(np.rint(least * (largest / least) ** rng.random(count)))[::-1].astype(int)
    for radius in radii.tolist():
        x, y = (int(rng.integers(side)) for side in size)
        jitter = rng.integers(-_COLOUR_JITTER, _COLOUR_JITTER + 1, size=3)
        colour = _as_colour(colours[rng.integers(len(colours))] + jitter)
        corners = int(rng.integers(_CORNERS[0], _CORNERS[1] + 1))
        if corners == _CORNERS[0]:
            draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour)
        else:
            turn = int(rng.integers(360))
            draw.polygon(_place_corners((x, y), radius, corners, turn), fill=colour)
    return image


def make_clouds(size: tuple[int, int], rng: np.random.Generator) -> Image.Image:
    """Draw noise of all sizes, the larger the stronger.

    Args:
        size: Width and height in pixels.
        rng: Every draw comes from it.

    Returns:
        RGB of that size.

    Source:
        The spectra of photographs, which fall with the frequency (Field 1987).
    """
    share = round(0.3 + 0.4 * rng.random(), 3)
    image = Image.new("RGB", size, _as_colour(rng.integers(0, 256, size=3)))
    for octave in reversed(range(_OCTAVES)):
        cells = rng.integers(0, 256, (2**octave, 2**octave, 3)).astype(np.uint8)
        layer = Image.fromarray(cells).resize(size, Image.Resampling.BICUBIC)
        image = Image.blend(image, layer, share)
    return image


def _place_corners(
    centre: tuple[int, int], radius: int, corners: int, turn: int
) -> list[tuple[int, int]]:
    """Corners of a regular polygon, turned by so many degrees."""
    angles = [math.radians(turn + 360 * corner / corners) for corner in range(corners)]
    return [
        (centre[0] + round(radius * math.cos(angle)), centre[1] + round(radius * math.sin(angle)))
        for angle in angles
    ]


def _as_colour(values: np.ndarray) -> tuple[int, int, int]:
    red, green, blue = np.clip(values, 0, 255).tolist()
    return red, green, blue
