"""Which numbers may stand in the configuration of a merge, and how large is one?"""

from __future__ import annotations

from typing import Final, get_args

MAX_WINDOWS: Final = 4000
"""Default bound on the windows of one class and image. The default ladders have 3150 windows an
image, flips included."""
LEAST: Final = 1e-100
"""Stands for a side, an area or a weight of 0 in a divisor; no finite quotient overflows by it."""


def check_max_windows(max_windows: int) -> None:
    """Refuse a bound that leaves nothing to merge.

    Args:
        max_windows: Windows of one class and image that are merged.

    Raises:
        ValueError: If it is below 1.
    """
    if max_windows < 1:
        msg = f"max_windows: received {max_windows}, expected at least 1"
        raise ValueError(msg)


def check_share(name: str, share: float) -> None:
    """Refuse what is no share of a whole.

    Args:
        name: What the number is, for the message.
        share: An overlap or a probability.

    Raises:
        ValueError: If it is not a number from 0 to 1.
    """
    if not 0 <= share <= 1:
        msg = f"{name}: received {share}, expected a number from 0 to 1"
        raise ValueError(msg)


def check_choice(name: str, choice: str, choices: object) -> None:
    """Refuse a word that names nothing.

    Args:
        name: What is chosen, for the message.
        choice: The word.
        choices: The `Literal` of the words that name something.

    Raises:
        ValueError: If the word is none of them.
    """
    if choice not in get_args(choices):
        msg = f"{name}: received {choice!r}, expected one of {', '.join(get_args(choices))}"
        raise ValueError(msg)
