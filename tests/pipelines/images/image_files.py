"""Builders of image files for the tests of the decoder: what Pillow cannot write, too."""

from __future__ import annotations

import functools
import io
import struct
import zlib

import numpy as np
from PIL import Image

from pipelines.images import ImageLimits, decode_image

LIMITS = ImageLimits()


def decode(data, **limits):
    return decode_image(data, ImageLimits(**limits) if limits else LIMITS)


def make_picture(height=48, width=72, channels=3):
    """Smooth in one part, rough in the other, different in every corner and channel."""
    rows, columns = np.mgrid[:height, :width]
    bands = [
        120 + 100 * np.sin(rows / (5 + k) + k) * np.cos(columns / (7 - k)) for k in range(channels)
    ]
    picture = np.stack(bands, axis=-1)
    picture[height // 2 :] += np.random.default_rng(0).normal(0, 15, picture[height // 2 :].shape)
    picture[: height // 4, : width // 4, 0] = 250
    return picture.clip(0, 255).astype(np.uint8)


def encode(picture, image_format="JPEG", **options):
    image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    buffer = io.BytesIO()
    image.save(buffer, image_format, **options)
    return buffer.getvalue()


def read_by_pillow(data):
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def lay_on_white(rgba):
    color, alpha = rgba[..., :3].astype(int), rgba[..., 3:].astype(int)
    return ((2 * (color * alpha + 255 * (255 - alpha)) + 255) // 510).astype(np.uint8)


def largest_difference(one, other):
    return int(np.abs(one.astype(int) - other.astype(int)).max())


def make_exif(orientation, order="<"):
    return (
        b"Exif\0\0"
        + {"<": b"II", ">": b"MM"}[order]
        + struct.pack(f"{order}HIHHHIHHI", 42, 8, 1, 274, 3, 1, orientation, 0, 0)
    )


def insert_jpeg_segment(data, marker, content):
    return data[:2] + struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content + data[2:]


def make_png_chunk(kind, content):
    checksum = zlib.crc32(kind + content)
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)


PNG_START = b"\x89PNG\r\n\x1a\n"


def make_png_header(width, height, depth=8, color=2):
    return make_png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0))


def _filter_rows(rows, pixel_bytes):
    """Filter each row in another way, by the five methods of the PNG specification."""
    filtered = bytearray()
    above = np.zeros_like(rows[0])
    for index, row in enumerate(rows):
        left = np.concatenate([np.zeros(pixel_bytes, int), row[:-pixel_bytes]])
        corner = np.concatenate([np.zeros(pixel_bytes, int), above[:-pixel_bytes]])
        guess = left + above - corner
        distances = [np.abs(guess - near) for near in (left, above, corner)]
        paeth = np.choose(np.argmin(distances, axis=0), [left, above, corner])
        predicted = [np.zeros_like(row), left, above, (left + above) // 2, paeth][index % 5]
        filtered += bytes([index % 5]) + ((row - predicted) % 256).astype(np.uint8).tobytes()
        above = row
    return bytes(filtered)


def make_png(samples, depth, color, extra=b""):
    """Write samples (height, width, channels) as they are, with the given depth in bits."""
    height, width, channels = samples.shape
    if depth == 16:
        raw = samples.astype(">u2").tobytes()
        rows = np.frombuffer(raw, np.uint8).reshape(height, -1).astype(int)
    else:
        bits = np.unpackbits(samples.astype(np.uint8)[..., np.newaxis], axis=-1)[..., 8 - depth :]
        rows = np.packbits(bits.reshape(height, -1), axis=1).astype(int)
    content = zlib.compress(_filter_rows(rows, max(1, channels * depth // 8)))
    chunks = make_png_chunk(b"IDAT", content) + make_png_chunk(b"IEND", b"")
    return PNG_START + make_png_header(width, height, depth, color) + extra + chunks


def make_tiff(samples, photometric, order="<", compressed=False, tags=None):
    """Write one strip of uint8 or uint16 samples; `tags` set tags of type SHORT, None removes."""
    height, width, channels = samples.shape
    strip = samples.astype(samples.dtype.newbyteorder(order)).tobytes()
    strip = zlib.compress(strip) if compressed else strip
    bits = struct.pack(f"{order}{channels}H", *[8 * samples.itemsize] * channels)
    start = 8 + len(strip) + len(strip) % 2
    shorts = {256: width, 257: height, 259: 8 if compressed else 1, 262: photometric}
    shorts |= {277: channels, 278: height}
    if channels in {2, 4} and photometric != 5:
        shorts[338] = 2  # alpha, not premultiplied
    entries = {
        258: struct.pack(f"{order}HHI", 258, 3, channels)
        + (bits.ljust(4, b"\0") if channels < 3 else struct.pack(f"{order}I", start)),
        273: struct.pack(f"{order}HHII", 273, 4, 1, 8),
        279: struct.pack(f"{order}HHII", 279, 4, 1, len(strip)),
    }
    for tag, value in (shorts | (tags or {})).items():
        entries[tag] = (
            struct.pack(f"{order}HHIHH", tag, 3, 1, value, 0) if value is not None else b""
        )
    kept = [entries[tag] for tag in sorted(entries) if entries[tag]]
    header = {"<": b"II", ">": b"MM"}[order] + struct.pack(f"{order}HI", 42, start + len(bits))
    directory = struct.pack(f"{order}H", len(kept)) + b"".join(kept)
    return header + strip.ljust(start - 8, b"\0") + bits + directory + bytes(4)


def make_gif(screen, corner, frame, control=b"", *, local=False):
    """Write a GIF whose first frame, a palette image, lies anywhere; `local` moves its palette."""
    data = bytearray(encode(frame, "GIF", optimize=False))
    size_flags = data[10] & 7
    palette_end = 13 + (3 << size_flags + 1)
    start = data.index(b",", palette_end)
    head, palette, tail = data[:13], data[13:palette_end], data[start:]
    head[6:10] = struct.pack("<HH", *screen)
    tail[1:5] = struct.pack("<HH", *corner)
    if local:
        tail[9] |= 0x80 | size_flags
        tail[10:10] = palette
        palette = palette[::-1]  # a global palette that must not be used
    return bytes(head + palette + control + tail)


@functools.cache
def every_kind_of_file():
    """Write one file of each kind that the decoder has a path for, by name; once for all tests."""
    picture = make_picture()
    image = Image.fromarray(picture)
    rgba = Image.fromarray(make_picture(channels=4))
    indexed = image.quantize(40)
    turned = image.rotate(90)
    samples = np.random.default_rng(1).integers(0, 65536, (16, 24, 3)).astype(np.uint16)
    files = {
        "jpeg": encode(image, quality=85),
        "jpeg progressive": encode(image, progressive=True),
        "jpeg gray": encode(image.convert("L")),
        "jpeg cmyk": encode(image.convert("CMYK")),
        "jpeg turned": encode(image, exif=make_exif(6)),
        "png": encode(image, "PNG"),
        "png alpha": encode(rgba, "PNG"),
        "png palette": encode(indexed, "PNG"),
        "png bits": encode(image.convert("1"), "PNG"),
        "png 16 bit": make_png(samples, 16, 2),
        "png animated": encode(image, "PNG", save_all=True, append_images=[turned]),
        "webp": encode(image, "WEBP"),
        "webp lossless": encode(rgba, "WEBP", lossless=True),
        "webp animated": encode(rgba, "WEBP", save_all=True, append_images=[turned]),
        "gif": encode(indexed, "GIF"),
        "gif animated": encode(indexed, "GIF", save_all=True, append_images=[indexed.rotate(90)]),
        "bmp": encode(image, "BMP"),
        "bmp palette": encode(indexed, "BMP"),
        "tiff": encode(image, "TIFF"),
        "tiff 16 bit": make_tiff(samples, 2),
        "tiff big": encode(image, "TIFF", big_tiff=True),
        "tiff cmyk": encode(image.convert("CMYK"), "TIFF"),
        "tiff pages": encode(image, "TIFF", save_all=True, append_images=[turned]),
    }
    for compression in ("tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg"):
        files[f"tiff {compression}"] = encode(image, "TIFF", compression=compression)
    files["tiff group4"] = encode(image.convert("1"), "TIFF", compression="group4")
    return files
