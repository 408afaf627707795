"""What a user hears of a weight file that cannot be imported."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor


class WeightFileError(ValueError):
    """A weight file is missing, damaged, or of another network."""


def check_is_file(source: Path, *, give: str) -> None:
    """Make sure that there is a file to read.

    Args:
        source: The path that the user gave.
        give: What to give instead, for the message.

    Raises:
        WeightFileError: If there is no file.
    """
    if not source.is_file():
        raise WeightFileError(f"weights {source}: no such file; give {give}")


def check_finite(source: Path, name: str, values: Tensor) -> None:
    """Make sure that a tensor has no NaN and no infinity: with one, every image would score NaN.

    Args:
        source: The file it comes from.
        name: Its name, for the message.
        values: Its numbers.

    Raises:
        WeightFileError: If a number is not finite.
    """
    # The extremes tell without a copy; the numbers are counted only for the message.
    if torch.stack(values.aminmax()).isfinite().all():
        return
    wrong = values.numel() - int(values.isfinite().sum())
    raise WeightFileError(
        f"weights {source}: {name} has {wrong:,} of {values.numel():,} numbers that are not "
        "finite, expected none; the file is damaged or its training diverged"
    )
