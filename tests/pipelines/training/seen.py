"""Examples that tell what was seen. Decoding processes import this: nothing heavy stands here."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np


@dataclass
class Seen:
    """What an example was made of."""

    number: int
    pixels: np.ndarray
    draw: float


def see(image, metadata, rng, epoch):
    """Make the example of a tiny image."""
    assert metadata.original_name == f"number {image[0, 0, 0]}"
    return Seen(number=int(image[0, 0, 0]), pixels=image, draw=rng.random())


def stamp(image, metadata, rng, epoch):
    """Make an example of the time at which it is made; the clock is that of all processes."""
    del image, metadata, rng
    return time.monotonic()
