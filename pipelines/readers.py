"""How is one thing read of each of many slices? Several at a time, and it says how far it is."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

from pipelines.progress import follow

_READERS: Final = 16
"""Slices read at a time (assumed: hides an object store's latency)."""

_Read = TypeVar("_Read")


def read_slices(
    numbers: Sequence[int], read: Callable[[int], _Read], *, doing: str
) -> Iterator[_Read]:
    """Read one thing of each slice.

    Args:
        numbers: Of the slices.
        read: Reads it of one; called in several threads.
        doing: What this is, in words, for who waits for long.

    Yields:
        What each call returns, in the order of the numbers. What one raises is raised in its turn,
        and no further one is begun.
    """
    with ThreadPoolExecutor(_READERS) as readers:
        answers = readers.map(read, numbers)
        yield from follow(answers, total=len(numbers), unit="slices", doing=doing)
