"""What may the decoder make of any bytes at all? Pixels, or one of five reasons; nothing else."""

from __future__ import annotations

import logging
import warnings
from contextlib import contextmanager, suppress

import numpy as np

from pipelines.errors import ImageError, ImageReason
from pipelines.images import ImageLimits, decode_image
from pipelines.images.formats import identify_format
from pipelines.images.headers import read_header

OK = "ok"
REASONS = {
    ImageReason.NOT_AN_IMAGE,
    ImageReason.UNSUPPORTED,
    ImageReason.TOO_LARGE,
    ImageReason.TRUNCATED,
    ImageReason.CORRUPT,
}
"""Those that decoding can give; the others of the contract come from stores and processes."""


@contextmanager
def listen():
    """Collect what a library says in another way than by an exception: warnings and log lines."""
    said: list[object] = []
    handler = logging.Handler()
    handler.emit = said.append
    logger = logging.getLogger("PIL")
    logger.addHandler(handler)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = lambda message, *_, **__: said.append(message)
        try:
            yield said
        finally:
            logger.removeHandler(handler)


def judge(data: bytes, limits: ImageLimits, decode=decode_image) -> str:
    """Decode, and check what comes back: `ok`, or the reason. Any other exception escapes."""
    with listen() as said:
        try:
            pixels = decode(data, limits)
        except ImageError as error:
            return check_refusal(error)
        finally:
            assert not said, said
    assert isinstance(pixels, np.ndarray)
    assert pixels.dtype == np.uint8
    height, width, channels = pixels.shape
    assert channels == 3
    assert 0 < height * width <= limits.max_pixels
    assert pixels.flags.c_contiguous
    assert pixels.flags.writeable
    return OK


def check_refusal(error: ImageError) -> str:
    assert error.reason in REASONS
    assert error.message
    return str(error.reason)


def judge_twice(data: bytes, limits: ImageLimits) -> str:
    """The same, and the same again: pixels that nobody wrote differ from one time to the next."""
    # Read where no child is, and no net: nothing but that error may leave it.
    with suppress(ImageError):
        read_header(identify_format(data), data, limits.max_frames)
    verdict = judge(data, limits)
    if verdict == OK:
        first = decode_image(data, limits)
        # Fill what the allocator is about to hand out, so that forgotten pixels show.
        dirt = np.full_like(first, 0xA5)
        del dirt
        assert (decode_image(data, limits) == first).all()
    return verdict
