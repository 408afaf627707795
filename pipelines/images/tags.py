"""What do the tags of a TIFF file, or of an EXIF block (the same layout), say about a picture?

Pillow reports a damaged tag by a Python warning, which threads cannot silence safely. So the few
tags that shape pixels are read here, and Pillow is given a copy of the file that has no others.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING

from pipelines.errors import ImageError, ImageReason

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet


class Tag(IntEnum):
    """The tags that shape pixels, as the TIFF 6.0 specification numbers them."""

    NEW_SUBFILE_TYPE = 254
    WIDTH = 256
    HEIGHT = 257
    BITS_PER_SAMPLE = 258
    COMPRESSION = 259
    PHOTOMETRIC = 262
    FILL_ORDER = 266
    STRIP_OFFSETS = 273
    ORIENTATION = 274
    SAMPLES_PER_PIXEL = 277
    ROWS_PER_STRIP = 278
    STRIP_BYTE_COUNTS = 279
    PLANAR_CONFIGURATION = 284
    T4_OPTIONS = 292
    T6_OPTIONS = 293
    PREDICTOR = 317
    COLOR_MAP = 320
    TILE_WIDTH = 322
    TILE_HEIGHT = 323
    TILE_OFFSETS = 324
    TILE_BYTE_COUNTS = 325
    EXTRA_SAMPLES = 338
    SAMPLE_FORMAT = 339
    JPEG_TABLES = 347
    YCBCR_COEFFICIENTS = 529
    YCBCR_SUBSAMPLING = 530
    YCBCR_POSITIONING = 531
    REFERENCE_BLACK_WHITE = 532


_SEVERAL_VALUES = {
    Tag.BITS_PER_SAMPLE, Tag.STRIP_OFFSETS, Tag.STRIP_BYTE_COUNTS, Tag.COLOR_MAP, Tag.TILE_OFFSETS,
    Tag.TILE_BYTE_COUNTS, Tag.EXTRA_SAMPLES, Tag.SAMPLE_FORMAT, Tag.JPEG_TABLES,
    Tag.YCBCR_COEFFICIENTS, Tag.YCBCR_SUBSAMPLING, Tag.REFERENCE_BLACK_WHITE,
}  # fmt: skip
# Those that may hold something else, or are not asked for their values.
_NOT_INTEGERS = {
    Tag.ORIENTATION, Tag.JPEG_TABLES, Tag.YCBCR_COEFFICIENTS, Tag.REFERENCE_BLACK_WHITE,
}  # fmt: skip

_CLASSIC, _BIG = 42, 43  # the version number in the header
# `struct` letters of the unsigned integer types: BYTE, SHORT, LONG, IFD, LONG8, IFD8.
_INTEGERS = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}
_TYPE_BYTES = {
    1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8,
    18: 8,
}  # fmt: skip
_MAX_ENTRIES = 4096  # assumed: the directories of real files hold some tens
_MAX_VALUES = 2**21
"""Of all tags together, *assumed*: two for each of a million strips. Every one becomes a Python
integer, of up to 40 bytes, and all tags may name the same bytes of the file."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Layout:
    """How a file writes its directories: classic TIFF or BigTIFF, little or big endian."""

    order: str
    """Byte order as `struct` writes it, `<` or `>`."""
    header_bytes: int
    """Bytes before anything else; the offset of the first directory is the last part of them."""
    count: str
    """`struct` letter of the number of entries."""
    offset: str
    """`struct` letter of an offset, and of the number of values in an entry."""

    @property
    def count_bytes(self) -> int:
        """Bytes of the number of entries."""
        return struct.calcsize("=" + self.count)

    @property
    def offset_bytes(self) -> int:
        """Bytes of an offset."""
        return struct.calcsize("=" + self.offset)

    @property
    def entry_bytes(self) -> int:
        """Bytes of an entry: tag and type, number of values, value or offset."""
        return 4 + 2 * self.offset_bytes

    def read(self, letter: str, data: bytes, position: int) -> int:
        """Read one unsigned integer.

        Args:
            letter: `struct` letter of its type.
            data: The whole file or EXIF block.
            position: Where it starts, in bytes.

        Returns:
            The integer.

        Raises:
            struct.error: It is not all there.
        """
        if position > len(data):
            # A position of 2^63 or more would be another error to Python.
            raise struct.error(f"position {position} in {len(data)} bytes")
        value: int = struct.unpack_from(self.order + letter, data, position)[0]
        return value

    def first_directory(self, data: bytes) -> int:
        """Find the first directory.

        Args:
            data: The whole file or EXIF block.

        Returns:
            Its position in bytes.
        """
        return self.read(self.offset, data, self.header_bytes - self.offset_bytes)


@dataclass(frozen=True, kw_only=True, slots=True)
class Directory:
    """The first page of a TIFF file: the tags that shape its pixels."""

    layout: Layout
    """Of the file."""
    tags: dict[int, tuple[int, ...]]
    """Values by tag; () for a tag that holds no integers."""
    entries: tuple[bytes, ...]
    """The same tags as they stand in the file, in its order."""

    def first(self, tag: Tag, default: int = 0) -> int:
        """Look up a tag that has one value.

        Args:
            tag: Which one.
            default: What it means for the tag to be missing.

        Returns:
            The value.
        """
        return (self.tags.get(tag) or (default,))[0]

    def all(self, tag: Tag) -> tuple[int, ...]:
        """Look up a tag that may have several values.

        Args:
            tag: Which one.

        Returns:
            The values, () if the tag is missing.
        """
        return self.tags.get(tag, ())


def read_layout(data: bytes) -> Layout:
    """Read the first bytes of a TIFF file or EXIF block.

    Args:
        data: The whole file or block.

    Returns:
        The layout.

    Raises:
        ImageError: The bytes are not TIFF.
    """
    order = {b"II": "<", b"MM": ">"}.get(data[:2], "")
    version = struct.unpack_from(f"{order}H", data, 2)[0] if order else 0
    if version == _CLASSIC:
        return Layout(order=order, header_bytes=8, count="H", offset="I")
    if version == _BIG:
        return Layout(order=order, header_bytes=16, count="Q", offset="Q")
    raise ImageError(ImageReason.CORRUPT, f"TIFF header is {data[:4]!r}, expected II or MM and 42")


def count_directories(layout: Layout, data: bytes, limit: int) -> int:
    """Count the pages of a file, as far as their chain is whole.

    Args:
        layout: Of the file.
        data: The whole file.
        limit: Where to stop counting.

    Returns:
        The number of pages, at most `limit`.
    """
    seen: set[int] = set()
    try:
        offset = layout.first_directory(data)
        while offset and offset not in seen and len(seen) < limit:
            n_entries = layout.read(layout.count, data, offset)
            seen.add(offset)
            end = offset + layout.count_bytes + n_entries * layout.entry_bytes
            offset = layout.read(layout.offset, data, end)
    except struct.error:
        # The rest of the chain is not there; the first page may still be whole.
        return len(seen)
    return len(seen)


def read_directory(
    layout: Layout, data: bytes, wanted: AbstractSet[int] = frozenset(Tag)
) -> Directory:
    """Read the tags of the first page.

    Args:
        layout: Of the file.
        data: The whole file or EXIF block.
        wanted: The tags to read; nothing is asked of the others, they may be damaged.

    Returns:
        The directory.

    Raises:
        ImageError: A wanted tag is damaged or not all there.
    """
    offset = layout.first_directory(data)
    n_entries = layout.read(layout.count, data, offset)
    if n_entries > _MAX_ENTRIES:
        raise ImageError(ImageReason.CORRUPT, f"TIFF directory claims to hold {n_entries} tags")
    start = offset + layout.count_bytes
    end = start + n_entries * layout.entry_bytes
    if end > len(data):
        message = f"TIFF of {len(data)} bytes, its first directory ends at byte {end}"
        raise ImageError(ImageReason.TRUNCATED, message)
    tags: dict[int, tuple[int, ...]] = {}
    room = _MAX_VALUES
    entries: list[bytes] = []
    for position in range(start, end, layout.entry_bytes):
        tag = layout.read("H", data, position)
        if tag in wanted and tag not in tags:
            tags[tag] = _read_values(layout, data, position, room)
            room -= len(tags[tag])
            entries.append(data[position : position + layout.entry_bytes])
    return Directory(layout=layout, tags=tags, entries=tuple(entries))


# Reads the values of one entry, after checking that they are all there and not too many.
def _read_values(layout: Layout, data: bytes, position: int, room: int) -> tuple[int, ...]:
    tag, kind = struct.unpack_from(f"{layout.order}HH", data, position)
    count = layout.read(layout.offset, data, position + 4)
    if kind not in _TYPE_BYTES or not count or (count > 1 and tag not in _SEVERAL_VALUES):
        message = f"TIFF tag {tag} has {count} values of type {kind}"
        raise ImageError(ImageReason.CORRUPT, message)
    place = position + 4 + layout.offset_bytes
    if count * _TYPE_BYTES[kind] > layout.offset_bytes:
        place = layout.read(layout.offset, data, place)
    if place + count * _TYPE_BYTES[kind] > len(data):
        raise ImageError(ImageReason.TRUNCATED, f"TIFF tag {tag}: its values are not all there")
    if kind not in _INTEGERS:
        if tag not in _NOT_INTEGERS:  # Pillow would take a fraction, and another picture
            raise ImageError(ImageReason.CORRUPT, f"TIFF tag {tag} has values of type {kind}")
        return ()
    if count > room:
        message = f"TIFF whose tags hold more than {_MAX_VALUES} values; write it in larger strips"
        raise ImageError(ImageReason.TOO_LARGE, message)
    return struct.unpack_from(f"{layout.order}{count}{_INTEGERS[kind]}", data, place)


_SEPARATE_PLANES = 2
_BYTE = 8
_MAX_SAMPLES = 6  # all that Pillow knows: CMYK and two more
_MAX_TILE_SIDE = 4096  # assumed; a small picture in a huge tile must not cost the tile's memory


def check_strips(page: Directory, n_bytes: int) -> None:
    """Check that all strips or tiles of a page are named, and lie inside the file.

    Args:
        page: The page.
        n_bytes: Size of the file in bytes.

    Raises:
        ImageError: Some are missing, or they are laid out in a way that is not decoded.
    """
    width, height = page.first(Tag.WIDTH), page.first(Tag.HEIGHT)
    if Tag.TILE_WIDTH in page.tags:
        places, sizes = page.all(Tag.TILE_OFFSETS), page.all(Tag.TILE_BYTE_COUNTS)
        across, down = page.first(Tag.TILE_WIDTH), page.first(Tag.TILE_HEIGHT)
        if Tag.STRIP_OFFSETS in page.tags:
            raise ImageError(ImageReason.CORRUPT, "TIFF has both strips and tiles")
    else:
        places, sizes = page.all(Tag.STRIP_OFFSETS), page.all(Tag.STRIP_BYTE_COUNTS)
        across, down = width, min(page.first(Tag.ROWS_PER_STRIP, height), height)
    if not (0 < across <= max(width, _MAX_TILE_SIDE) and 0 < down <= max(height, _MAX_TILE_SIDE)):
        message = f"TIFF of {width} x {height} pixels has strips or tiles of {across} x {down}"
        raise ImageError(ImageReason.CORRUPT, message)
    samples = page.first(Tag.SAMPLES_PER_PIXEL, 1)
    if samples > _MAX_SAMPLES:
        message = f"TIFF with {samples} samples per pixel is not decoded; convert it"
        raise ImageError(ImageReason.UNSUPPORTED, message)
    expected = math.ceil(width / across) * math.ceil(height / down)
    if page.first(Tag.PLANAR_CONFIGURATION) == _SEPARATE_PLANES:
        expected *= samples
        if page.first(Tag.BITS_PER_SAMPLE) > _BYTE:  # Pillow reads these as if of 8 bits
            message = "TIFF with 16 bit samples in separate planes is not decoded; convert it"
            raise ImageError(ImageReason.UNSUPPORTED, message)
    if len(places) < expected:
        message = f"TIFF names {len(places)} strips or tiles, expected {expected}"
        raise ImageError(ImageReason.CORRUPT, message)
    end = max((sum(pair) for pair in zip(places, sizes, strict=False)), default=max(places))
    if end > n_bytes:
        message = f"TIFF of {n_bytes} bytes, its pixels end at byte {end}"
        raise ImageError(ImageReason.TRUNCATED, message)


def strip_metadata(directory: Directory, data: bytes) -> bytes:
    """Copy a TIFF file with its first page alone, and of its tags only those that shape pixels.

    Args:
        directory: The first page.
        data: The whole file.

    Returns:
        A TIFF file in which the pixels stand where they stood. Its orientation is gone, because
        that is applied to the decoded pixels.
    """
    layout = directory.layout
    orientation = struct.pack(layout.order + "H", Tag.ORIENTATION)
    entries = [entry for entry in directory.entries if not entry.startswith(orientation)]
    padding = len(data) % 2  # a directory starts on a word boundary
    return b"".join((
        data[: layout.header_bytes - layout.offset_bytes],
        struct.pack(layout.order + layout.offset, len(data) + padding),
        memoryview(data)[layout.header_bytes :],
        bytes(padding),
        struct.pack(layout.order + layout.count, len(entries)),
        *entries,
        struct.pack(layout.order + layout.offset, 0),
    ))  # fmt: skip


def read_orientation(exif: bytes) -> int:
    """Read how a camera was held.

    Args:
        exif: An EXIF block, with or without the `Exif` before it.

    Returns:
        The EXIF orientation, 1 to 8; 1 (upright) where the block has none or is damaged, because
        damage there leaves the pixels whole.
    """
    exif = exif.removeprefix(b"Exif\0\0")
    try:
        directory = read_directory(read_layout(exif), exif, {Tag.ORIENTATION})
    except (struct.error, ImageError):
        return 1
    orientation = directory.first(Tag.ORIENTATION, 1)
    return orientation if 1 <= orientation <= 8 else 1  # noqa: PLR2004 - the range in the standard
