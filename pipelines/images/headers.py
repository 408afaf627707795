"""What does a file promise before anything is decoded: its size, its frames, how it was held?

One reader a container. Each walks the parts of the file without decoding them, so that a bomb is
refused by its header, a file that ends too early is told from a damaged one, and the decoder gets
a copy without metadata, which is where most of the hostile and the broken bytes are.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from pipelines.errors import ImageError, ImageReason
from pipelines.images import jpeg, tags
from pipelines.images.formats import ImageFormat
from pipelines.images.tags import Tag

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_Part = TypeVar("_Part")


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageHeader:
    """What is known of a picture before it is decoded."""

    format: ImageFormat
    """Told from the content."""
    width: int
    """Pixels, before the EXIF orientation is applied."""
    height: int
    """Pixels, before the EXIF orientation is applied."""
    frames: int = 1
    """Frames or pages; one more than the limit stands for any number above it."""
    orientation: int = 1
    """EXIF orientation, 1 to 8."""
    left: int = 0
    """Pixels from the left edge of the picture to the first frame (GIF)."""
    top: int = 0
    """Pixels from the upper edge of the picture to the first frame (GIF)."""
    frame_size: tuple[int, int] | None = None
    """Width and height in pixels of the first frame, where it may be smaller (GIF)."""
    is_cmyk: bool = False
    """Whether a JPEG has four components. Other decoders tell by themselves."""
    is_arithmetic: bool = False
    """Whether a JPEG is coded in the rare way that takes several times as long."""
    passes: int = 1
    """How often a decoder passes over the pixels: the scans of a JPEG."""
    encoded: bytes
    """What the decoder is given: the file, or a copy that holds its first picture alone."""

    @property
    def encoded_size(self) -> tuple[int, int]:
        """Width and height that the decoder finds in `encoded`, in pixels."""
        return self.frame_size or (self.width, self.height)


def read_header(image_format: ImageFormat, data: bytes, max_frames: int) -> ImageHeader:
    """Read the header of a file and check that its first picture is all there.

    Args:
        image_format: Of the file.
        data: The whole file.
        max_frames: Where to stop counting frames.

    Returns:
        The header.

    Raises:
        ImageError: `truncated`, `corrupt`, `unsupported`, or `too_large` for what no limit of the
            caller bounds.
    """
    try:
        header = _READERS[image_format](data, max_frames)
    except (struct.error, IndexError) as error:
        message = f"{image_format} of {len(data)} bytes ends inside its header"
        raise ImageError(ImageReason.TRUNCATED, message) from error
    if header.width <= 0 or header.height <= 0:
        message = f"{image_format} header says {header.width} x {header.height} pixels"
        raise ImageError(ImageReason.CORRUPT, message)
    return header


def _read_jpeg(data: bytes, _max_frames: int) -> ImageHeader:
    frame = jpeg.read_frame(data)
    return ImageHeader(
        format=ImageFormat.JPEG,
        width=frame.width,
        height=frame.height,
        orientation=frame.orientation,
        is_cmyk=frame.is_cmyk,
        is_arithmetic=frame.is_arithmetic,
        passes=frame.scans,
        encoded=frame.encoded,
    )


_MAX_PARTS = 2**18
"""*Assumed*: 256 MB in parts of 4 KB are a quarter of that. A file may consist of empty ones."""
_MAX_GIF_BLOCKS = 2**21
"""Twice those of 256 MB in blocks of 255 bytes, which is their usual and greatest size."""


# Walks through a file, but not through one of so many parts that this takes seconds.
def _take_parts(parts: Iterator[_Part]) -> Iterator[_Part]:
    for number, part in enumerate(parts):
        _check_parts(number, _MAX_PARTS)
        yield part


def _check_parts(number: int, limit: int) -> None:
    if number >= limit:
        message = f"file of more than {limit} parts; write it anew"
        raise ImageError(ImageReason.TOO_LARGE, message)


_PNG_KEPT = {b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"}


# Yields kind, content and the whole of each chunk.
def _walk_png(data: bytes) -> Iterator[tuple[bytes, memoryview, memoryview]]:
    view = memoryview(data)
    position = 8
    kind = b""
    while kind != b"IEND":
        length, kind = struct.unpack_from(">I4s", data, position)
        end = position + 12 + length
        if end > len(data):
            message = f"PNG of {len(data)} bytes ends inside a {kind!r} chunk"
            raise ImageError(ImageReason.TRUNCATED, message)
        yield kind, view[position + 8 : end - 4], view[position:end]
        position = end


def _read_png(data: bytes, _max_frames: int) -> ImageHeader:
    kept: list[bytes | memoryview] = [data[:8]]
    frames = orientation = 1
    for kind, content, chunk in _take_parts(_walk_png(data)):
        if len(kept) == 1 and kind != b"IHDR":
            reason = ImageReason.UNSUPPORTED if kind == b"CgBI" else ImageReason.CORRUPT
            raise ImageError(reason, f"PNG begins with a {kind!r} chunk, expected IHDR")
        if kind in _PNG_KEPT:
            kept.append(chunk)
        elif kind == b"acTL" and content:
            frames = struct.unpack_from(">I", content)[0]
        elif kind == b"eXIf":
            orientation = tags.read_orientation(bytes(content))
    width, height = struct.unpack_from(">II", data, 16)
    return ImageHeader(
        format=ImageFormat.PNG,
        width=width,
        height=height,
        frames=frames,
        orientation=orientation,
        encoded=b"".join(kept),
    )


# Yields kind, start of the content and its length of each chunk.
def _walk_webp(data: bytes, end: int) -> Iterator[tuple[bytes, int, int]]:
    position = 12
    while position + 8 <= end:
        kind, length = struct.unpack_from("<4sI", data, position)
        yield kind, position + 8, length
        position += 8 + length + length % 2


def _read_webp(data: bytes, max_frames: int) -> ImageHeader:
    end = 8 + struct.unpack_from("<I", data, 4)[0]
    if end > len(data):
        message = f"WebP of {len(data)} bytes, its header says {end}"
        raise ImageError(ImageReason.TRUNCATED, message)
    width = height = frames = 0
    orientation = 1
    for kind, start, length in _take_parts(_walk_webp(data, end)):
        if not width:
            width, height = _read_webp_size(kind, data, start)
        frames += kind == b"ANMF"
        if frames > max_frames:
            break
        if kind == b"EXIF":
            orientation = tags.read_orientation(data[start : start + length])
    return ImageHeader(
        format=ImageFormat.WEBP,
        width=width,
        height=height,
        frames=max(frames, 1),
        orientation=orientation,
        encoded=data,
    )


def _read_webp_size(kind: bytes, data: bytes, start: int) -> tuple[int, int]:
    """Read width and height from the first chunk; (0, 0) if it holds none."""
    if kind == b"VP8X":
        extended = struct.unpack_from("<HBHB", data, start + 4)
        return 1 + extended[0] + (extended[1] << 16), 1 + extended[2] + (extended[3] << 16)
    if kind == b"VP8L":
        bits = struct.unpack_from("<I", data, start + 1)[0]
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", data, start + 6)
        return width & 0x3FFF, height & 0x3FFF
    return 0, 0


# Yields kind, start and end of each block after the global palette.
def _walk_gif(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    position = 13 + _palette_bytes(data[10])
    n_blocks = 0
    while True:
        kind = data[position : position + 1]
        if kind == b";":
            return
        start = position
        if kind == b",":
            position += 11 + _palette_bytes(data[position + 9])
        elif kind == b"!":
            position += 2
        elif kind:
            message = f"GIF block at byte {position} begins with {kind!r}"
            raise ImageError(ImageReason.CORRUPT, message)
        while length := data[position]:
            n_blocks += 1
            _check_parts(n_blocks, _MAX_GIF_BLOCKS)
            position += 1 + length
        position += 1
        yield kind, start, position


def _palette_bytes(flags: int) -> int:
    """Bytes of the palette that the flags of a GIF screen or frame announce."""
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


def _read_gif(data: bytes, max_frames: int) -> ImageHeader:
    control = b""
    first = b""
    frames = 0
    try:
        for kind, start, end in _take_parts(_walk_gif(data)):
            if kind == b",":
                frames += 1
                first = first or data[start:end]
            elif not frames and data[start + 1 : start + 3] == b"\xf9\x04":
                control = data[start:end]
            if frames > max_frames:
                break
    except (IndexError, ImageError):
        if not frames:
            raise
        # Damage behind the first frame: that one is whole.
    if not frames:
        raise ImageError(ImageReason.CORRUPT, "GIF without a frame")
    left, top, width, height = struct.unpack_from("<HHHH", first, 1)
    screen_width, screen_height = struct.unpack_from("<HH", data, 6)
    return ImageHeader(
        format=ImageFormat.GIF,
        # A frame that reaches over the edge of the screen widens it: no pixel is lost.
        width=max(screen_width, left + width) if width else 0,
        height=max(screen_height, top + height) if height else 0,
        frames=frames,
        left=left,
        top=top,
        frame_size=(width, height),
        encoded=_build_gif(data, first, control),
    )


def _build_gif(data: bytes, frame: bytes, control: bytes) -> bytes:
    """Build a GIF whose screen is one frame, with the palette of that frame as the global one."""
    size, flags = frame[5:9], frame[9]
    local = _palette_bytes(flags)
    if local:
        palette, palette_flags = frame[10 : 10 + local], flags & 0x87
    else:
        palette, palette_flags = data[13 : 13 + _palette_bytes(data[10])], data[10] & 0x87
    transparency = b""
    if control and control[3] & 1:
        # Of the control block only the transparent colour: what comes after the frame is moot.
        transparency = b"!\xf9\x04\x01\0\0" + control[6:7] + b"\0"
    descriptor = b",\0\0\0\0" + size + bytes([flags & 0x40])  # only whether it is interlaced
    screen = b"GIF89a" + size + bytes([palette_flags, 0, 0])
    return b"".join((screen, palette, transparency, descriptor, frame[10 + local :], b";"))


_OS2_HEADER_BYTES = 12  # the only bitmap header with sizes of 16 bits


def _read_bmp(data: bytes, _max_frames: int) -> ImageHeader:
    letters = "<HH" if struct.unpack_from("<I", data, 14)[0] == _OS2_HEADER_BYTES else "<ii"
    width, height = struct.unpack_from(letters, data, 18)
    # A negative height says that the first row is the upper one.
    return ImageHeader(format=ImageFormat.BMP, width=width, height=abs(height), encoded=data)


_OLD_JPEG = 6  # the compression that TIFF 6.0 specified wrongly and its authors withdrew


def _read_tiff(data: bytes, max_frames: int) -> ImageHeader:
    layout = tags.read_layout(data)
    page = tags.read_directory(layout, data)
    if page.first(Tag.NEW_SUBFILE_TYPE) & 1:
        message = "TIFF that begins with a thumbnail (a camera raw file) is not decoded; convert it"
        raise ImageError(ImageReason.UNSUPPORTED, message)
    if page.first(Tag.COMPRESSION, 1) == _OLD_JPEG:
        raise ImageError(ImageReason.UNSUPPORTED, "TIFF with old-style JPEG is not decoded")
    tags.check_strips(page, len(data))
    orientation = page.first(Tag.ORIENTATION, 1)
    return ImageHeader(
        format=ImageFormat.TIFF,
        width=page.first(Tag.WIDTH),
        height=page.first(Tag.HEIGHT),
        frames=tags.count_directories(layout, data, max_frames + 1),
        orientation=orientation if orientation in range(1, 9) else 1,
        encoded=tags.strip_metadata(page, data),
    )


_READERS: dict[ImageFormat, Callable[[bytes, int], ImageHeader]] = {
    ImageFormat.JPEG: _read_jpeg,
    ImageFormat.PNG: _read_png,
    ImageFormat.WEBP: _read_webp,
    ImageFormat.GIF: _read_gif,
    ImageFormat.BMP: _read_bmp,
    ImageFormat.TIFF: _read_tiff,
}
