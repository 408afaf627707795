"""How do the samples of a file become 8 bit RGB? What Pillow decodes passes here.

Pillow's plugins are called by name: `Image.open` would try others, and hold a picture against a
limit that is a global of Pillow. No global of Pillow is changed.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import io
import re
import sys
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from PIL import Image, _imaging
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from pipelines.errors import ImageError, ImageReason
from pipelines.images.formats import ImageFormat
from pipelines.images.tags import Tag

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray
    from PIL.ImageFile import ImageFile

    from pipelines.images.headers import ImageHeader

_PLUGINS: dict[ImageFormat, type[ImageFile]] = {
    ImageFormat.JPEG: JpegImageFile,
    ImageFormat.PNG: PngImageFile,
    ImageFormat.WEBP: WebPImageFile,
    ImageFormat.GIF: GifImageFile,
    ImageFormat.BMP: BmpImageFile,
    ImageFormat.TIFF: TiffImageFile,
}

# Pillow's names for the ways in which it reads samples. Premultiplied alpha (RGBa) is left out: it
# is divided out of the high bytes, so such a file is off by at most one level more.
_16_BITS = re.compile(r"(I|LA|RGBX?|RGBA|CMYK);16[BLNR]?")
_GRAY_SCALES = {"L;2": 85, "L;4": 17}
_NO_DEFINED_WHITE = {"I;12", "I;16S", "I;16BS", "I;32N", "I;32S", "I;32BS", "F;32F", "F;32BF"}


_BAND_PIXELS = 2**18
"""What is converted at a time, so that a picture stands in memory as it was decoded and as RGB, and
never between the two."""

_Rows: TypeAlias = "Callable[[int, int], Image.Image]"
"""Gives the rows of a picture from one to before another."""
_HighAndLow: TypeAlias = "tuple[NDArray[Any], NDArray[Any]]"
_Split: TypeAlias = "Callable[[int, int], _HighAndLow]"
"""Gives the high and the low bytes of such rows, each (height, width, channels)."""


def read_rgb(header: ImageHeader) -> NDArray[np.uint8]:
    """Decode a file with Pillow: all formats but JPEG, and the odd JPEG.

    Args:
        header: Of the file, already held against the limits.

    Returns:
        uint8 (height, width, 3), RGB, writable, before orientation.

    Raises:
        ImageError: The samples have no defined white.
    """
    source = _open(header)
    rawmode = _rawmode(source)
    if rawmode in _NO_DEFINED_WHITE:
        message = f"{header.format} with samples of kind {rawmode} is not decoded; convert it"
        raise ImageError(ImageReason.UNSUPPORTED, message)
    if _16_BITS.fullmatch(rawmode):
        return _lay_on_white(_narrow_to_8_bits(source, header), header)
    if rawmode in _GRAY_SCALES and "transparency" in source.info:
        # Pillow brings the samples to 8 bits, but not the one that stands for transparent.
        source.info["transparency"] *= _GRAY_SCALES[rawmode]
    return _lay_on_white(functools.partial(_take_rows, source), header)


def check_size(header: ImageHeader, size: tuple[int, int]) -> None:
    """Refuse a file in which a decoder finds another size than the one held against the limits.

    Args:
        header: Of the file.
        size: Width and height that the decoder found, in pixels.

    Raises:
        ImageError: They differ.
    """
    if size != header.encoded_size:
        message = f"{header.format} of {header.encoded_size} pixels would be decoded as {size}"
        raise ImageError(ImageReason.CORRUPT, message)


def convert_inverted_cmyk(inverted: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Convert the samples of a CMYK JPEG to RGB by the formula that Pillow applies to a CMYK TIFF.

    Args:
        inverted: uint8 (height, width, 4), where 255 is no ink. Adobe's programs write it so, and
            browsers and Pillow take it for granted.

    Returns:
        uint8 (height, width, 3), RGB, writable.
    """
    height, width = inverted.shape[:2]
    pixels = np.empty((height, width, 3), np.uint8)
    for top, bottom in _cut_into_bands(width, height):
        samples = ~inverted[top:bottom]
        band = Image.frombuffer("CMYK", (width, bottom - top), samples, "raw", "CMYK", 0, 1)
        pixels[top:bottom] = np.asarray(band.convert("RGB"))
    return pixels


def _open(header: ImageHeader) -> ImageFile:
    image = _PLUGINS[header.format](io.BytesIO(header.encoded))
    check_size(header, image.size)
    if header.format is ImageFormat.TIFF:
        _silence_libtiff()
        # A buffer that Pillow makes itself, it would hold against its own limit.
        image.im = Image.new(image.mode, image.size).im
    return image


@functools.cache
def _silence_libtiff() -> None:
    """Keep libtiff from printing what is wrong with a file; its callers get an error as well."""
    with contextlib.suppress(AttributeError, OSError):  # linked in another way: then it prints
        ctypes.CDLL(_imaging.__file__).TIFFSetErrorHandler(None)


def _rawmode(image: ImageFile) -> str:
    """Name the way in which Pillow is going to read the samples of a file."""
    arguments: Any = image.tile[0].args if image.tile else ""
    return arguments if isinstance(arguments, str) else str(arguments[0])


# Yields the first row of each band, and the first behind it.
def _cut_into_bands(width: int, height: int) -> Iterator[tuple[int, int]]:
    n_rows = max(1, _BAND_PIXELS // width)
    for top in range(0, height, n_rows):
        yield top, min(top + n_rows, height)


def _take_rows(image: Image.Image, top: int, bottom: int) -> Image.Image:
    """Copy rows, as `crop` does, which would hold them against Pillow's own limit."""
    image.load()
    return image._new(image.im.crop((0, top, image.width, bottom)))


def _read_as(image: ImageFile, rawmode: str) -> ImageFile:
    """Have the samples of a file read in another way than Pillow chose."""
    for index, tile in enumerate(image.tile):
        arguments = (rawmode, *tile.args[1:]) if isinstance(tile.args, tuple) else rawmode
        image.tile[index] = tile._replace(args=arguments)
    return image


def _narrow_to_8_bits(image: ImageFile, header: ImageHeader) -> _Rows:
    """Divide 16 bit samples by 257, rounding. Pillow by itself cuts off the low byte."""
    transparent = image.info.pop("transparency", None)
    mode, split = _choose_split(image, header)

    def narrow(top: int, bottom: int) -> Image.Image:
        high, low = split(top, bottom)
        samples = _divide_by_257(high, low)
        if transparent is None:
            return _make_image(samples, mode)
        # The colour that stands for transparent is one of 16 bits: told before it is rounded.
        key = np.atleast_1d(np.array(transparent, dtype=np.uint16))
        is_opaque = ((high != key >> 8) | (low != key & 255)).any(axis=-1, keepdims=True)
        alpha = np.where(is_opaque, 255, 0).astype(np.uint8)
        return _make_image(np.concatenate([samples, alpha], axis=-1), mode + "A")

    return narrow


def _make_image(samples: NDArray[np.uint8], mode: str) -> Image.Image:
    size = samples.shape[1::-1]
    return Image.frombuffer(mode, size, np.ascontiguousarray(samples), "raw", mode, 0, 1)


def _choose_split(image: ImageFile, header: ImageHeader) -> tuple[str, _Split]:
    """Choose how to come by high and low bytes, and name the mode of 8 bits that they make."""
    rawmode = _rawmode(image)
    if image.mode.startswith("I"):
        is_white_zero = isinstance(image, TiffImageFile) and image.tag_v2.get(Tag.PHOTOMETRIC) == 0
        return "L", functools.partial(_split_gray, image, 0xFFFF if is_white_zero else 0)
    if image.mode == "RGBA" and rawmode.startswith("LA"):
        return "LA", functools.partial(_split_pairs, _read_as(image, "RGBA"))
    # Read twice: samples taken for those of the other byte order give their low bytes.
    other = _read_as(_open(header), _swap_bytes(rawmode))
    return image.mode, functools.partial(_split_two, image, other)


def _split_gray(image: Image.Image, inversion: int, top: int, bottom: int) -> _HighAndLow:
    samples = np.asarray(_take_rows(image, top, bottom))[..., np.newaxis] ^ inversion
    return samples >> 8, samples & 255


def _split_pairs(image: Image.Image, top: int, bottom: int) -> _HighAndLow:
    pairs = np.asarray(_take_rows(image, top, bottom))
    return pairs[..., ::2], pairs[..., 1::2]


def _split_two(high: Image.Image, low: Image.Image, top: int, bottom: int) -> _HighAndLow:
    return np.asarray(_take_rows(high, top, bottom)), np.asarray(_take_rows(low, top, bottom))


def _swap_bytes(rawmode: str) -> str:
    kind, order = rawmode.split(";16")
    if order == "N":
        order = "L" if sys.byteorder == "little" else "B"
    return f"{kind};16{'B' if order == 'L' else 'L'}"


def _divide_by_257(high: NDArray[Any], low: NDArray[Any]) -> NDArray[np.uint8]:
    """Divide 256 * high + low by 257 and round."""
    # That is high + (low - high) / 257, where the fraction is above a half from 129 on.
    rest = low.astype(np.int16) - high.astype(np.int16)
    return high.astype(np.uint8) + (rest > 128) - (rest < -128)  # noqa: PLR2004 - said above


def _lay_on_white(take_rows: _Rows, header: ImageHeader) -> NDArray[np.uint8]:
    """Make a picture RGB, white where it is transparent or a frame does not reach."""
    width, height = header.encoded_size
    shape = (header.height, header.width, 3)
    is_covered = (width, height) == (header.width, header.height)
    pixels = np.empty(shape, np.uint8) if is_covered else np.full(shape, 255, np.uint8)
    columns = slice(header.left, header.left + width)
    for top, bottom in _cut_into_bands(width, height):
        rows = slice(header.top + top, header.top + bottom)
        pixels[rows, columns] = np.asarray(_flatten(take_rows(top, bottom)))
    return pixels


def _flatten(image: Image.Image) -> Image.Image:
    if image.mode == "La":  # premultiplied, which Pillow converts in two steps only
        image = image.convert("LA")
    if not image.has_transparency_data:
        return image if image.mode == "RGB" else image.convert("RGB")
    image = image.convert("RGBA")
    canvas = Image.new("RGB", image.size, "white")
    canvas.paste(image, None, image)
    return canvas
