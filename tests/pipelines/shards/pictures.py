"""Small pictures of known content, as files."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image

ORIENTATION_TAG = 0x0112


def make_pixels(width, height, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def make_jpeg(width=50, height=40, seed=0, orientation=None):
    exif = Image.Exif()
    if orientation is not None:
        exif[ORIENTATION_TAG] = orientation
    return encode(Image.fromarray(make_pixels(width, height, seed)), "JPEG", exif=exif)


def make_cmyk_jpeg(width=50, height=40, seed=0):
    return encode(Image.fromarray(make_pixels(width, height, seed)).convert("CMYK"), "JPEG")


def make_png(width=50, height=40, seed=0):
    return encode(Image.fromarray(make_pixels(width, height, seed)), "PNG")


def make_palette_png(numbers):
    """A picture whose palette indices are the numbers, as VOC keeps masks."""
    picture = Image.fromarray(numbers.astype(np.uint8))
    picture.putpalette([value for index in range(256) for value in (index, 255 - index, 7)])
    return encode(picture, "PNG")


def encode(picture, form, **options):
    buffer = io.BytesIO()
    picture.save(buffer, form, **options)
    return buffer.getvalue()


def write(path: Path, data: bytes | str):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data.encode() if isinstance(data, str) else data)
