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
from typing import TYPE_CHECKING, Any

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
    image: Image.Image = source
    if _16_BITS.fullmatch(rawmode):
        image = _narrow_to_8_bits(source, header)
    elif rawmode in _GRAY_SCALES and "transparency" in source.info:
        # Pillow brings the samples to 8 bits, but not the one that stands for transparent.
        source.info["transparency"] *= _GRAY_SCALES[rawmode]
    return np.array(_lay_on_white(image, header))


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
    size = inverted.shape[1::-1]
    return np.array(Image.frombuffer("CMYK", size, ~inverted, "raw", "CMYK", 0, 1).convert("RGB"))


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


def _read_as(image: ImageFile, rawmode: str) -> NDArray[np.uint8]:
    """Decode a file, reading its samples in another way than Pillow chose."""
    for index, tile in enumerate(image.tile):
        arguments = (rawmode, *tile.args[1:]) if isinstance(tile.args, tuple) else rawmode
        image.tile[index] = tile._replace(args=arguments)
    return np.asarray(image)


def _narrow_to_8_bits(image: ImageFile, header: ImageHeader) -> Image.Image:
    """Divide 16 bit samples by 257, rounding. Pillow by itself cuts off the low byte."""
    high: NDArray[Any]
    low: NDArray[Any]
    rawmode = _rawmode(image)
    mode = image.mode
    transparent = image.info.pop("transparency", None)
    if mode.startswith("I"):
        samples = np.asarray(image)[..., np.newaxis]
        if isinstance(image, TiffImageFile) and image.tag_v2.get(Tag.PHOTOMETRIC) == 0:
            samples = ~samples  # white is zero
        high, low = samples >> 8, samples & 255
        mode = "L"
    elif mode == "RGBA" and rawmode.startswith("LA"):
        pairs = _read_as(image, "RGBA")
        high, low = pairs[..., ::2], pairs[..., 1::2]
        mode = "LA"
    else:
        # Read twice: samples taken for those of the other byte order give their low bytes.
        high, low = np.asarray(image), _read_as(_open(header), _swap_bytes(rawmode))
    narrow = _divide_by_257(high, low)
    if transparent is not None:
        # The colour that stands for transparent is one of 16 bits: told before it is rounded.
        key = np.atleast_1d(np.array(transparent, dtype=np.uint16))
        is_opaque = ((high != key >> 8) | (low != key & 255)).any(axis=-1, keepdims=True)
        narrow = np.concatenate([narrow, np.where(is_opaque, 255, 0).astype(np.uint8)], axis=-1)
        mode += "A"
    size = narrow.shape[1::-1]
    return Image.frombuffer(mode, size, np.ascontiguousarray(narrow), "raw", mode, 0, 1)


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


def _lay_on_white(image: Image.Image, header: ImageHeader) -> Image.Image:
    """Make a picture RGB, white where it is transparent or a frame does not reach."""
    if image.mode == "La":  # premultiplied, which Pillow converts in two steps only
        image = image.convert("LA")
    image = image.convert("RGBA" if image.has_transparency_data else "RGB")
    if image.mode == "RGB" and image.size == (header.width, header.height):
        return image
    canvas = Image.new("RGB", (header.width, header.height), "white")
    canvas.paste(image, (header.left, header.top), image if image.mode == "RGBA" else None)
    return canvas
