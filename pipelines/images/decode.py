"""How do encoded bytes become RGB pixels? The one decoder of annotation and training.

The same bytes always give the same pixels: no file name, no colour profile and no setting of a
library has a say. simplejpeg decodes JPEG, Pillow the rest (docs/benchmarks.md has the numbers).
Nothing but `ImageError` leaves `decode_image`, whatever the bytes are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import simplejpeg
from PIL import Image

from pipelines.errors import ImageError, ImageReason, InputError
from pipelines.images.formats import ImageFormat, identify_format
from pipelines.images.headers import read_header
from pipelines.images.samples import check_size, convert_inverted_cmyk, read_rgb

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pipelines.images.headers import ImageHeader

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff")
"""Names taken for images when a bucket is listed, in any case. Decoding never looks at a name."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageLimits:
    """What an image may cost before it is refused as too large, without decoding it."""

    max_pixels: int = 200_000_000
    """Width times height in pixels. The default lets every camera through; decoding takes 3 bytes
    of memory a pixel (JPEG) to 16 (WebP) and for TIFF a copy of the file more, *measured*. Pillow
    itself refuses a WebP of more than 179 million."""
    max_bytes: int = 256 * 2**20
    """Size of the encoded file in bytes."""
    max_frames: int = 1000
    """Frames of an animation or pages of a TIFF file, of which the first is decoded."""

    def __post_init__(self) -> None:
        for name in ("max_pixels", "max_bytes", "max_frames"):
            if getattr(self, name) < 1:
                message = f"ImageLimits: {name} is {getattr(self, name)}, expected at least 1"
                raise InputError(message)


def decode_image(data: bytes, limits: ImageLimits) -> NDArray[np.uint8]:
    """Decode an image of any supported format: JPEG, PNG, WebP, GIF, BMP, TIFF.

    The first frame or page is taken, its EXIF orientation applied. Alpha is laid on white, 16 bit
    samples are divided by 257 and rounded, CMYK is multiplied out, colour profiles are ignored.

    Args:
        data: The whole file.
        limits: What to refuse.

    Returns:
        uint8 (height, width, 3), RGB, contiguous and writable, in pixels after orientation.

    Raises:
        ImageError: `too_large`, `not_an_image`, `unsupported`, `truncated` or `corrupt`.
    """
    try:
        _check_limit("bytes", len(data), limits.max_bytes)
        header = read_header(identify_format(data), data, limits.max_frames)
        _check_limit("pixels", header.width * header.height, limits.max_pixels)
        _check_limit("frames", header.frames, limits.max_frames)
        is_jpeg = header.format is ImageFormat.JPEG
        pixels = _decode_jpeg(header) if is_jpeg else read_rgb(header)
        return _apply_orientation(pixels, header.orientation)
    except ImageError:
        raise
    except Exception as error:  # decoders raise any type, and a bad image is one row
        raise ImageError(_find_reason(error), f"{type(error).__name__}: {error}") from error


# Raises if an image costs more than the limit.
def _check_limit(unit: str, value: int, limit: int) -> None:
    if value > limit:
        message = (
            f"image of {value} {unit}, expected at most {limit}; a run into another --output may "
            f"take it, with a higher --max-{unit}"
        )
        raise ImageError(ImageReason.TOO_LARGE, message)


# Complaints of libjpeg about files whose pixels may all be right: sloppy fields in headers, and
# ways of subsampling that TurboJPEG has no name for.
_HARMLESS = (
    "Invalid SOS parameters", "JFIF revision", "Adobe color transform", "subsampling level",
)  # fmt: skip
_END_OF_JPEG = b"\xff\xd9"


# Decodes strictly: any damage that libjpeg notices is an error, not gray pixels.
def _decode_jpeg(header: ImageHeader) -> NDArray[np.uint8]:
    colors = "CMYK" if header.is_cmyk else "RGB"
    pixels = np.empty((header.height, header.width, len(colors)), np.uint8)
    try:
        decoded = simplejpeg.decode_jpeg(header.encoded, colorspace=colors, buffer=pixels)
    except ValueError as error:
        if _END_OF_JPEG not in header.encoded:
            raise ImageError(ImageReason.TRUNCATED, f"JPEG without an end: {error}") from error
        if any(words in str(error) for words in _HARMLESS) and not header.is_arithmetic:
            # Pillow would look for metadata inside the parameters of arithmetic coding.
            return read_rgb(header)
        raise
    check_size(header, decoded.shape[1::-1])
    return convert_inverted_cmyk(pixels) if header.is_cmyk else pixels


# What decoders say, in lower case, of files that are whole but beyond what they can do...
_UNSUPPORTED = (
    "unsupported jpeg", "unsupported color", "unsupported bmp", "not supported", "cannot handle",
    "not yet supported", "not implemented", "unknown pixel mode", "unknown data organization",
)  # fmt: skip
# ...and of files that end too early.
_TRUNCATED = ("truncated", "not enough image data")


def _find_reason(error: Exception) -> ImageReason:
    """Find the reason that stands behind an exception of a decoder."""
    if isinstance(error, MemoryError | Image.DecompressionBombError):
        return ImageReason.TOO_LARGE
    message = str(error).lower()
    if any(words in message for words in _UNSUPPORTED):
        return ImageReason.UNSUPPORTED
    if any(words in message for words in _TRUNCATED):
        return ImageReason.TRUNCATED
    return ImageReason.CORRUPT


def _apply_orientation(pixels: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """Turn pixels as stored into pixels as seen; the numbers are those of the EXIF standard."""
    match orientation:
        case 2:
            pixels = pixels[:, ::-1]
        case 3:
            pixels = pixels[::-1, ::-1]
        case 4:
            pixels = pixels[::-1]
        case 5:
            pixels = pixels.swapaxes(0, 1)
        case 6:
            pixels = np.rot90(pixels, k=-1)
        case 7:
            pixels = pixels[::-1, ::-1].swapaxes(0, 1)
        case 8:
            pixels = np.rot90(pixels)
    return np.ascontiguousarray(pixels)
