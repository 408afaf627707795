"""What memory does a photograph take, in bytes a pixel? Measured in a child, from its header on."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from pipelines.images import ImageLimits
from pipelines.isolation import Isolated
from tests.hostile.bombs import make_flat_png
from tests.hostile.measure import decode_and_measure
from tests.pipelines.images.image_files import encode, make_exif, make_tiff

WIDTH, HEIGHT = 3000, 2000
SPARE_BYTES = 12 * 2**20
"""For the bands in which pixels are converted, whatever the size of the picture."""


def make_flat(mode="RGB"):
    return Image.new(mode, (WIDTH, HEIGHT), 99 if mode == "L" else None)


def make_deep_tiff(channels):
    return make_tiff(np.full((HEIGHT, WIDTH, channels), 40_000, np.uint16), 2)


PEAKS = {
    "jpeg": (lambda: encode(make_flat()), 3),
    "jpeg turned": (lambda: encode(make_flat(), exif=make_exif(6)), 6),
    "jpeg progressive": (lambda: encode(make_flat(), progressive=True), 6),
    "jpeg cmyk": (lambda: encode(make_flat("CMYK")), 7),
    "png": (lambda: make_flat_png(WIDTH, HEIGHT), 7),
    "png alpha": (lambda: encode(make_flat("RGBA"), "PNG", compress_level=1), 7),
    "png 16 bit": (lambda: make_flat_png(WIDTH, HEIGHT, depth=16), 11),
    "gif": (lambda: encode(make_flat("L"), "GIF"), 4),
    "bmp": (lambda: encode(make_flat(), "BMP"), 7),
    "webp": (lambda: encode(make_flat(), "WEBP", lossless=True, quality=0, method=0), 20),
    "tiff": (lambda: encode(make_flat(), "TIFF"), 7 + 3),
    "tiff 16 bit": (lambda: make_deep_tiff(3), 11 + 6),
}
"""Kind -> (how to write one, bytes a pixel). A TIFF is copied without its metadata: that counts."""


@pytest.fixture(scope="module")
def child():
    with Isolated(decode_and_measure, memory_bytes=2**30, seconds=60) as isolated:
        yield isolated


@pytest.mark.parametrize("kind", PEAKS)
def test_decoding_takes_no_more_than_the_documented_bytes_a_pixel(child, kind):
    write, bytes_per_pixel = PEAKS[kind]
    cost = child(write(), ImageLimits())
    assert cost.verdict == "ok"
    assert cost.peak_bytes / (WIDTH * HEIGHT) >= 2
    assert cost.peak_bytes <= bytes_per_pixel * WIDTH * HEIGHT + SPARE_BYTES
