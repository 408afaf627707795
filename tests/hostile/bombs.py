"""Files made to cost more than they weigh, and files that are something else than they say.

Each is a function that writes it, under its name, with the verdicts that are right for it.
"""

from __future__ import annotations

import struct
import zlib
from functools import cache

import numpy as np
from PIL import Image

from tests.hostile.jpeg_scans import make_jpeg_of_scans
from tests.pipelines.images.image_files import (
    PNG_START,
    encode,
    insert_jpeg_segment,
    make_exif,
    make_picture,
    make_png,
    make_png_chunk,
    make_png_header,
    make_tiff,
)

BOMBS = {}
"""Name -> (function that writes the file, verdicts that are right for it)."""
HEAVY = set()
"""Names of those that take a second or a gigabyte, because they are within every limit."""


def bomb(name, *verdicts, heavy=False):
    def register(write):
        assert name not in BOMBS
        BOMBS[name] = (write, set(verdicts))
        if heavy:
            HEAVY.add(name)
        return write

    return register


@cache
def small_jpeg():
    return encode(make_picture())


@cache
def small_png():
    return encode(make_picture(), "PNG")


@cache
def small_gif():
    return encode(Image.fromarray(make_picture(8, 8)).quantize(4), "GIF")


@cache
def deflate_zeros(n_bytes):
    """Compress zeros, a thousand to one, without having them all in memory."""
    packer = zlib.compressobj(9)
    block = bytes(2**20)
    parts = [packer.compress(block) for _ in range(n_bytes // 2**20)]
    return b"".join((*parts, packer.compress(bytes(n_bytes % 2**20)), packer.flush()))


def make_flat_png(width, height, color=2, depth=8):
    """Write a black PNG of any size; `color` is its colour type in the specification."""
    row_bytes = 1 + width * {0: 1, 2: 3}[color] * depth // 8
    content = make_png_chunk(b"IDAT", deflate_zeros(row_bytes * height))
    header = make_png_header(width, height, depth, color)
    return PNG_START + header + content + make_png_chunk(b"IEND", b"")


def insert_png_chunks(*chunks):
    data = small_png()
    return (
        data[:33] + b"".join(make_png_chunk(kind, content) for kind, content in chunks) + data[33:]
    )


for _color, _name in ((0, "gray"), (2, "rgb")):
    bomb(f"png of 100 megapixels, {_name}", "ok", heavy=True)(
        lambda color=_color: make_flat_png(10_000, 10_000, color)
    )

for _width, _height in ((30_000, 1), (1, 30_000), (2_000_000, 1), (1, 2_000_000)):
    bomb(f"png of {_width} x {_height}", "ok")(
        lambda width=_width, height=_height: make_flat_png(width, height, 0)
    )

for _side in (30_000, 2**31 - 1, 2**32 - 1):
    bomb(f"png whose header says {_side}", "too_large", "corrupt")(
        lambda side=_side: PNG_START + make_png_header(side, side) + small_png()[33:]
    )

for _kind, _head in (
    (b"zTXt", b"k\0\0"),
    (b"iCCP", b"k\0\0"),
    (b"iTXt", b"k\0\1\0\0\0"),
):
    bomb(f"png with 100 MB in a {_kind.decode()} chunk", "ok")(
        lambda kind=_kind, head=_head: insert_png_chunks((kind, head + deflate_zeros(100 * 2**20)))
    )


@bomb("png with 50 text chunks of 20 MB each", "ok")
def _():
    return insert_png_chunks(*[(b"zTXt", b"k\0\0" + deflate_zeros(20 * 2**20))] * 50)


@bomb("png with 100 MB of pixels behind its last row", "ok", "corrupt")
def _():
    content = make_png_chunk(b"IDAT", deflate_zeros(100 * 2**20))
    return PNG_START + make_png_header(8, 8) + content + make_png_chunk(b"IEND", b"")


@bomb("png of 300,000 empty chunks", "too_large")
def _():
    return small_png()[:33] + make_png_chunk(b"IDAT", b"") * 300_000 + small_png()[33:]


@bomb("png of 100,000 empty chunks", "ok")
def _():
    return small_png()[:33] + make_png_chunk(b"IDAT", b"") * 100_000 + small_png()[33:]


@bomb("png that claims two thousand million frames", "too_large")
def _():
    return insert_png_chunks((b"acTL", struct.pack(">II", 2**31 - 1, 0)))


@bomb("png with a second header, of a bomb", "corrupt")
def _():
    return make_png(make_picture(), 8, 2, extra=make_png_header(30_000, 30_000))


@bomb("gif of 10,000 frames", "too_large")
def _():
    data = small_gif()
    start = data.index(b",", 13 + (3 << (data[10] & 7) + 1))
    return data[:start] + data[start:-1] * 10_000 + b";"


@bomb("gif with a screen of 65,535 squared", "too_large")
def _():
    return small_gif()[:6] + b"\xff" * 4 + small_gif()[10:]


@bomb("gif with a small frame on 196 megapixels", "ok", heavy=True)
def _():
    return small_gif()[:6] + struct.pack("<HH", 14_000, 14_000) + small_gif()[10:]


@bomb("gif of a million empty extensions", "too_large")
def _():
    data = small_gif()
    start = 13 + (3 << (data[10] & 7) + 1)
    return data[:start] + b"!\xfe\0" * 1_000_000 + data[start:]


@bomb("gif with a comment in three million parts", "too_large")
def _():
    data = small_gif()
    start = 13 + (3 << (data[10] & 7) + 1)
    return data[:start] + b"!\xfe" + b"\1 " * 3_000_000 + b"\0" + data[start:]


for _scans in (101, 800):
    bomb(f"jpeg of {_scans} scans", "too_large")(
        lambda scans=_scans: make_jpeg_of_scans(scans, 64, 64)
    )

bomb("jpeg of 100 scans", "ok")(lambda: make_jpeg_of_scans(100, 300, 200))
bomb("jpeg of 100 scans over 64 megapixels", "ok", heavy=True)(
    lambda: make_jpeg_of_scans(100, 8000, 8000)
)
bomb("jpeg of 5,000 scans of 190 megapixels", "too_large")(
    lambda: (
        make_jpeg_of_scans(101, 19_000, 10_000)[:-2]
        + b"\xff\xda\0\x08\1\1\0\1\1\0z" * 5000
        + b"\xff\xd9"
    )
)


@bomb("jpeg whose header says 65,500 squared", "too_large")
def _():
    start = small_jpeg().index(b"\xff\xc0") + 5
    return small_jpeg()[:start] + b"\xff\xdc" * 2 + small_jpeg()[start + 4 :]


@bomb("jpeg of 100,000 empty segments", "too_large")
def _():
    return b"\xff\xd8" + b"\xff\xe5\0\2" * 100_000 + small_jpeg()[2:]


@bomb("jpeg with a megabyte of padding", "ok")
def _():
    return b"\xff\xd8" + b"\xff" * 2**20 + small_jpeg()[2:]


@bomb("jpeg with a megabyte of noise before its frame", "ok", "corrupt")
def _():
    noise = np.random.default_rng(0).bytes(2**20).replace(b"\xff", b"\xfe")
    return b"\xff\xd8\xff\xfe\0\2" + noise + small_jpeg()[2:]


@bomb("jpeg with 500 EXIF blocks", "ok")
def _():
    data = small_jpeg()
    for _ in range(500):
        data = insert_jpeg_segment(data, 0xE1, make_exif(6) + bytes(10))
    return data


@bomb("jpeg with a colour profile in 200 broken parts", "ok")
def _():
    data = small_jpeg()
    for part in range(200):
        data = insert_jpeg_segment(data, 0xE2, b"ICC_PROFILE\0" + bytes([part, 7]) + bytes(9000))
    return data


@bomb("webp whose canvas is 16,777,216 squared", "too_large")
def _():
    return b"RIFF\x1a\0\0\0WEBPVP8X\x0a\0\0\0\x10\0\0\0" + b"\xff" * 6 + bytes(4)


@bomb("webp of 2,000 frames", "too_large")
def _():
    frame = b"ANMF" + struct.pack("<I", 16) + bytes(16)
    chunks = b"WEBPVP8X\x0a\0\0\0\2\0\0\0" + bytes(6) + b"ANIM\6\0\0\0" + bytes(6) + frame * 2000
    return b"RIFF" + struct.pack("<I", len(chunks)) + chunks


@bomb("webp of 300,000 empty chunks", "too_large")
def _():
    chunks = b"WEBPVP8X\x0a\0\0\0\0\0\0\0" + bytes(6) + b"XMP \0\0\0\0" * 300_000
    return b"RIFF" + struct.pack("<I", len(chunks)) + chunks


@bomb("webp of 150 megapixels in a few bytes", "ok", heavy=True)
def _():
    return encode(Image.new("RGB", (15_000, 10_000)), "WEBP", lossless=True, quality=0, method=0)


@bomb("bmp whose header says 30,000 squared", "too_large")
def _():
    data = encode(make_picture(), "BMP")
    return data[:18] + struct.pack("<ii", 30_000, 30_000) + data[26:]


@bomb("bmp of less than nothing", "corrupt")
def _():
    data = encode(make_picture(), "BMP")
    return data[:18] + struct.pack("<ii", -5, -(2**31)) + data[26:]


@bomb("bmp with two thousand million colours", "ok", "corrupt", "unsupported", "truncated")
def _():
    data = encode(Image.fromarray(make_picture()).quantize(9), "BMP")
    return data[:46] + struct.pack("<I", 2**31 - 1) + data[50:]


@bomb("tiff of 5,000 pages", "too_large")
def _():
    data = make_tiff(make_picture(8, 8), 2)
    start = struct.unpack_from("<I", data, 4)[0]
    directory = data[start:-4]
    pages = []
    for number in range(5000):
        after = len(data) + (number + 1) * (len(directory) + 4)
        pages.append(directory + struct.pack("<I", after))
    return data[:-4] + struct.pack("<I", len(data)) + b"".join(pages)


@bomb("tiff whose pages go round in a circle", "ok")
def _():
    data = make_tiff(make_picture(8, 8), 2)
    return data[:-4] + data[4:8]


@bomb("tiff whose tags all hold the same two million numbers", "too_large")
def _():
    entries = [
        struct.pack("<HHII", tag, 4, 2_000_000, 8)
        for tag in (258, 273, 279, 320, 324, 325, 338, 339, 529, 530, 532)
    ]
    start = 8 + 8_000_000
    directory = struct.pack("<H", len(entries)) + b"".join(entries) + bytes(4)
    return b"II*\0" + struct.pack("<I", start) + bytes(8_000_000) + directory


@bomb("tiff with a tag of four thousand million numbers", "truncated")
def _():
    entry = struct.pack("<HHII", 273, 4, 2**32 - 1, 8)
    return b"II*\0" + struct.pack("<IH", 8, 1) + entry + bytes(4)


@bomb("tiff with 100 MB in a strip for 64 pixels", "ok", "corrupt", "truncated")
def _():
    strip = deflate_zeros(100 * 2**20)
    start = 8 + len(strip) + len(strip) % 2
    tags = ((256, 8), (257, 8), (258, 8), (259, 8), (262, 1), (273, 8), (277, 1), (278, 8))
    entries = [struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags]
    entries.append(struct.pack("<HHII", 279, 4, 1, len(strip)))
    directory = struct.pack("<H", len(entries)) + b"".join(entries) + bytes(4)
    return b"II*\0" + struct.pack("<I", start) + strip.ljust(start - 8, b"\0") + directory


@bomb("tiff with a tile of 10 GB", "corrupt")
def _():
    return make_tiff(make_picture(), 2, tags={322: 60_000, 323: 60_000, 324: 8, 325: 100})
