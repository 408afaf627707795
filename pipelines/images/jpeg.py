"""How is a JPEG put together: its segments, its frame, and the scans that each cost a pass?"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipelines.errors import ImageError, ImageReason
from pipelines.images import tags

if TYPE_CHECKING:
    from collections.abc import Iterator

# A marker that says something. The others are stuffing (0), restarts (D0 to D7) and padding (FF).
_MARKER = re.compile(rb"\xff([\xc0-\xcf\xd9-\xfe])")
_EXIF, _END_OF_IMAGE, _START_OF_SCAN = 0xE1, 0xD9, 0xDA
_STARTS_OF_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_DECODED_PROCESSES = {0xC0, 0xC1, 0xC2, 0xC9, 0xCA}  # not the lossless and hierarchical ones
_PROGRESSIVE_PROCESSES = {0xC2, 0xCA}
_ARITHMETIC_PROCESSES = {0xC9, 0xCA}
_CMYK_COMPONENTS = 4
# Tables and frames, restart interval; application segments 0 and 14 say whether colours are
# YCbCr, RGB or CMYK. Of all others no pixel depends.
_KEPT = (frozenset(range(0xC0, 0xD0)) - {0xC8}) | {0xDB, 0xDD, 0xE0, 0xEE}
_MAX_SCANS = 100
"""*Assumed*: encoders write about ten. A file of 10 MB can hold 25,000, each of which costs a pass
over all pixels."""
_MAX_SEGMENTS = 2**16
"""*Assumed*: files hold some tens. A file may consist of empty ones."""


@dataclass(frozen=True, kw_only=True, slots=True)
class JpegFrame:
    """What the segments of a JPEG say of its picture."""

    width: int
    """Pixels, before the EXIF orientation is applied; 0 if there is no picture."""
    height: int
    """Pixels, before the EXIF orientation is applied; 0 if there is no picture."""
    components: int
    """Samples a pixel: 1 gray, 3 colours, 4 inks."""
    is_arithmetic: bool
    """Whether samples are coded in the rare way that takes several times as long."""
    scans: int
    """How often a decoder passes over the pixels."""
    orientation: int
    """EXIF orientation, 1 to 8."""
    encoded: bytes
    """The file without what no pixel depends on; the same bytes if there is no such thing."""

    @property
    def is_cmyk(self) -> bool:
        """Whether a sample is for each of four inks."""
        return self.components == _CMYK_COMPONENTS


# Yields marker, start and end of each segment. What stands between them, say the bits of a scan, is
# skipped; the end of the image comes last.
def _walk_segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    position = 2
    for _ in range(_MAX_SEGMENTS):
        match = _MARKER.search(data, position)
        if match is None:
            message = f"JPEG of {len(data)} bytes ends before its picture does"
            raise ImageError(ImageReason.TRUNCATED, message)
        start, marker = match.start(), match[1][0]
        if marker == _END_OF_IMAGE:
            yield marker, start, start + 2
            return
        position = start + 2 + struct.unpack_from(">H", data, start + 2)[0]
        yield marker, start, position
    message = f"JPEG of more than {_MAX_SEGMENTS} segments; write it anew"
    raise ImageError(ImageReason.TOO_LARGE, message)


def read_frame(data: bytes) -> JpegFrame:
    """Read what a JPEG promises, up to where its picture begins; to its end if it has many scans.

    Segments that no pixel depends on are left out of what is decoded, for damage there is none of
    the pixels'. libjpeg would report a colour profile whose parts are numbered wrongly, and the end
    of a thumbnail could be taken for that of the picture.

    Args:
        data: The whole file.

    Returns:
        The frame.

    Raises:
        ImageError: `truncated`, `corrupt`, `unsupported`, or `too_large` for what it is made of.
    """
    width = height = components = process = scans = position = 0
    orientation = None
    parts = []
    for marker, start, end in _walk_segments(data):
        if marker == _START_OF_SCAN:
            scans += 1
            # A scan of all components is the only one, unless each adds detail.
            if process not in _PROGRESSIVE_PROCESSES and data[start + 4] == components:
                break
        elif scans:
            continue
        elif marker in _STARTS_OF_FRAME:
            process = marker
            height, width, components = struct.unpack_from(">HHB", data, start + 5)
            _check_frame(process, height)
        elif marker not in _KEPT:
            parts.append(data[position:start])
            position = end
            if orientation is None and marker == _EXIF and data.startswith(b"Exif", start + 4):
                orientation = tags.read_orientation(data[start + 4 : end])
    _check_scans(scans)
    return JpegFrame(
        width=width,
        height=height,
        components=components,
        is_arithmetic=process in _ARITHMETIC_PROCESSES,
        scans=scans,
        orientation=orientation or 1,
        encoded=b"".join((*parts, data[position:])) if parts else data,
    )


# Raises if there is no scan, or so many that decoding takes minutes.
def _check_scans(scans: int) -> None:
    if not scans:
        raise ImageError(ImageReason.CORRUPT, "JPEG ends before its first scan; write it anew")
    if scans > _MAX_SCANS:
        message = f"JPEG of {scans} scans, expected at most {_MAX_SCANS}; write it anew with fewer"
        raise ImageError(ImageReason.TOO_LARGE, message)


# Raises if libjpeg does not know the process.
def _check_frame(process: int, height: int) -> None:
    if not height or process not in _DECODED_PROCESSES:
        # The height may stand behind the first scan instead; libjpeg does not look there.
        message = f"JPEG of process {process:#x} and height {height} is not decoded; convert it"
        raise ImageError(ImageReason.UNSUPPORTED, message)
