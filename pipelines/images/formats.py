"""What kind of file are these bytes? Told from their content, never from a name.

Formats that are recognised but not decoded have a name too: "unsupported: HEIC" tells a user what
to convert, "not an image" tells them what to leave out.
"""

from __future__ import annotations

import re
from enum import StrEnum

from pipelines.errors import ImageError, ImageReason


class ImageFormat(StrEnum):
    """The formats that are decoded."""

    JPEG = "JPEG"
    PNG = "PNG"
    WEBP = "WebP"
    GIF = "GIF"
    BMP = "BMP"
    TIFF = "TIFF"


_DECODED = {
    b"\xff\xd8\xff": ImageFormat.JPEG,
    b"\x89PNG\r\n\x1a\n": ImageFormat.PNG,
    b"GIF87a": ImageFormat.GIF,
    b"GIF89a": ImageFormat.GIF,
    b"II*\0": ImageFormat.TIFF,
    b"MM\0*": ImageFormat.TIFF,
    b"II+\0": ImageFormat.TIFF,
    b"MM\0+": ImageFormat.TIFF,
}

_NOT_DECODED = {
    b"\x8aMNG\r\n\x1a\n": "MNG",
    b"\x8bJNG\r\n\x1a\n": "JNG",
    b"\0\0\0\x0cjP  \r\n\x87\n": "JPEG 2000",
    b"\xff\x4f\xff\x51": "JPEG 2000",
    b"\0\0\0\x0cJXL \r\n\x87\n": "JPEG XL",
    b"\xff\x0a": "JPEG XL",
    b"II\xbc\x01": "JPEG XR",
    b"IIRO": "Olympus raw",
    b"IIU\0": "Panasonic raw",
    b"FUJIFILMCCD-RAW": "Fujifilm raw",
    b"8BPS": "Photoshop (PSD)",
    b"gimp xcf": "GIMP (XCF)",
    b"%PDF-": "PDF",
    b"%!PS": "PostScript",
    b"\xc5\xd0\xd3\xc6": "PostScript",
    b"\0\0\1\0": "Windows icon",
    b"\0\0\2\0": "Windows cursor",
    b"icns": "Apple icon",
    b"\x76\x2f\x31\x01": "OpenEXR",
    b"#?RADIANCE": "Radiance HDR",
    b"#?RGBE": "Radiance HDR",
    b"DDS ": "DirectDraw surface",
    b"SIMPLE  =": "FITS",
    b"AT&TFORM": "DjVu",
    b"qoif": "QOI",
    b"BPG\xfb": "BPG",
    b"FLIF": "FLIF",
    b"\xd7\xcd\xc6\x9a": "Windows metafile",
}

# Brands of ISO base media files that hold pictures; the others hold video and sound.
_MEDIA_BRANDS = {
    b"avif": "AVIF", b"avis": "AVIF", b"crx ": "Canon raw (CR3)",
    b"heic": "HEIC", b"heix": "HEIC", b"heim": "HEIC", b"heis": "HEIC", b"hevc": "HEIC",
    b"hevx": "HEIC", b"mif1": "HEIF", b"mif2": "HEIF", b"msf1": "HEIF",
}  # fmt: skip

# All lengths of the header of a bitmap. `BM` alone also begins many a text.
_BITMAP_HEADERS = {12, 16, 40, 52, 56, 64, 108, 124}
_PORTABLE_ANYMAP = re.compile(rb"P[1-7fF]\s[\s\d#]")
# Declarations and comments, then the root. The groups are atomic: no way back, no exponential time.
_SVG = re.compile(
    rb"(?:\xef\xbb\xbf)?\s*+(?:(?><\?.*?\?>|<!--.*?-->)\s*+)*+<(?:svg|!DOCTYPE\s+svg)[\s>]",
    re.DOTALL,
)
_SVG_SEARCH_BYTES = 4096  # assumed: comments and declarations before the root are shorter


def identify_format(data: bytes) -> ImageFormat:
    """Tell the format of a file from its first bytes.

    Args:
        data: The file, or at least its first 4 KiB.

    Returns:
        The format.

    Raises:
        ImageError: `not_an_image`, or `unsupported` for a format that is known but not decoded.
    """
    for signature, image_format in _DECODED.items():
        if data.startswith(signature):
            return image_format
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return ImageFormat.WEBP
    if data[:2] == b"BM" and int.from_bytes(data[14:18], "little") in _BITMAP_HEADERS:
        return ImageFormat.BMP
    if name := _name_undecoded(data):
        message = f"{name} is not decoded, expected one of {', '.join(ImageFormat)}; convert it"
        raise ImageError(ImageReason.UNSUPPORTED, message)
    start = f"starts with {data[:16]!r}" if data else "is empty"
    message = f"the file {start}, expected one of {', '.join(ImageFormat)}"
    raise ImageError(ImageReason.NOT_AN_IMAGE, message)


def _name_undecoded(data: bytes) -> str | None:
    """Name an image format that is not decoded; None for anything else."""
    for signature, name in _NOT_DECODED.items():
        if data.startswith(signature):
            return name
    if data[4:8] == b"ftyp":
        return _MEDIA_BRANDS.get(data[8:12])
    if _PORTABLE_ANYMAP.match(data):
        return "Netpbm"
    if _SVG.match(data[:_SVG_SEARCH_BYTES]):
        return "SVG"
    return None
