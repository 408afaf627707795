"""How is an image decoded in bounded time and memory, whatever its bytes do to the decoder?

Ordinary photographs are decoded in this process, where the time they take is known from their
headers. All others, a few among many, are decoded in a child that may be killed.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from pipelines.errors import ImageError
from pipelines.images.decode import decode_image
from pipelines.images.formats import ImageFormat, identify_format
from pipelines.images.headers import read_header
from pipelines.isolation import Isolated, run_on_image

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from pipelines.images.decode import ImageLimits

_PLAIN_PIXELS = 2**25
"""Pixels times scans of a JPEG that is decoded in this process: up to 1.7 s of processor time for
noise at the best quality, 0.1 s for a photograph (*measured*)."""
_BYTES_PER_PIXEL = 20
"""What a decoder may allocate: WebP, the hungriest, takes 16 (*measured*)."""
_COPIES_OF_THE_FILE = 4
"""Received, unpickled, without metadata, and in a buffer of Pillow's."""
_SPARE_BYTES = 256 * 2**20


def decode_image_within(data: bytes, limits: ImageLimits, seconds: float) -> NDArray[np.uint8]:
    """Decode an image like `decode_image`, in bounded time: what to do at the first attempt.

    A JPEG that is cheap to decode takes no longer than with `decode_image`. Sending any other
    through a child costs about 1 ms a megapixel more, and 0.2 s once to start it (*measured*).

    Args:
        data: The whole file.
        limits: What to refuse.
        seconds: What decoding may take on the clock.

    Returns:
        uint8 (height, width, 3), RGB, contiguous and writable, in pixels after orientation.

    Raises:
        ImageError: As `decode_image` does; or `timeout`, or `crashed` if it killed two children.
    """
    if _is_cheap(data, limits):
        return decode_image(data, limits)
    return decode_image_apart(data, limits, seconds)


def decode_image_apart(data: bytes, limits: ImageLimits, seconds: float) -> NDArray[np.uint8]:
    """Decode an image like `decode_image`, in a child: what to do after a process has died.

    Args:
        data: The whole file.
        limits: What to refuse. They decide what memory the child may have.
        seconds: What decoding may take on the clock.

    Returns:
        uint8 (height, width, 3), RGB, contiguous and writable, in pixels after orientation.

    Raises:
        ImageError: As `decode_image` does; or `timeout`, or `crashed` if it killed two children.
    """
    return run_on_image(_open_decoder(limits, seconds), data, limits)


def _is_cheap(data: bytes, limits: ImageLimits) -> bool:
    """Whether its header says that an image takes little time, or is refused at once."""
    if len(data) > limits.max_bytes:
        return True
    try:
        image_format = identify_format(data)
        if image_format is not ImageFormat.JPEG:
            return False
        header = read_header(image_format, data, limits.max_frames)
    except ImageError:
        return True
    except (ArithmeticError, LookupError, TypeError, ValueError):
        # Of bytes that nobody has thought of: decoding finds the reason, in a child.
        return False
    n_pixels = header.width * header.height
    work = n_pixels * header.passes
    return n_pixels > limits.max_pixels or (work <= _PLAIN_PIXELS and not header.is_arithmetic)


@functools.cache
def _open_decoder(
    limits: ImageLimits, seconds: float
) -> Isolated[[bytes, ImageLimits], NDArray[np.uint8]]:
    """One child a process; it ends with it."""
    memory_bytes = (
        _BYTES_PER_PIXEL * limits.max_pixels + _COPIES_OF_THE_FILE * limits.max_bytes + _SPARE_BYTES
    )
    return Isolated(decode_image, memory_bytes=memory_bytes, seconds=seconds)
