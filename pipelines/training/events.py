"""How do numbers and pictures become a file that TensorBoard reads?

It is written on local disk and handed on as bytes, so that any store can hold it. TensorBoard reads
all files of a folder as one run, in the order of their names.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tensorboardX import SummaryWriter


@dataclass(frozen=True, kw_only=True, slots=True)
class Scalars:
    """Numbers of one step."""

    step: int
    """Global batches that were done."""
    time: float
    """Seconds since 1970."""
    values: Mapping[str, float]
    """By tag, such as `loss/total`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Picture:
    """An image with what was found on it."""

    name: str
    """Of the sample."""
    pixels: NDArray[np.uint8]
    """RGB (height, width, 3)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Album:
    """Pictures of one step."""

    step: int
    """Global batches that were done."""
    time: float
    """Seconds since 1970."""
    pictures: Sequence[Picture]
    """In the order in which they are shown."""


def encode_events(scalars: Sequence[Scalars], albums: Sequence[Album]) -> bytes:
    """Write an event file.

    Args:
        scalars: Numbers, in the order of the steps.
        albums: Pictures, in the order of the steps.

    Returns:
        The bytes of the file.
    """
    with tempfile.TemporaryDirectory() as folder:
        with SummaryWriter(logdir=folder, write_to_disk=True) as writer:
            for one in scalars:
                for tag, value in one.values.items():
                    writer.add_scalar(tag, value, one.step, walltime=one.time)
            for album in albums:
                for picture in album.pictures:
                    writer.add_image(
                        f"validation/{picture.name}",
                        picture.pixels,
                        album.step,
                        walltime=album.time,
                        dataformats="HWC",
                    )
        (file,) = Path(folder).iterdir()
        return file.read_bytes()
