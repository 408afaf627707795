"""How is one thing read of each of many slices? Several at a time, and it says how far it is."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Final, TypeVar

from pipelines.progress import follow

_READERS: Final = 16
"""Slices read at a time (assumed: hides an object store's latency)."""

_Read = TypeVar("_Read")


def read_slices(
    numbers: Sequence[int], read: Callable[[int], _Read], *, doing: str | None
) -> Iterator[_Read]:
    """Read one thing of each slice.

    Args:
        numbers: Of the slices.
        read: Reads it of one; called in several threads.
        doing: What this is, in words, for who waits for long; None where nobody waits for it.

    Yields:
        What each call returns, in the order of the numbers. What one raises is raised in its turn.
        Then, and where the rest is not asked for, no further one is begun.
    """
    # The answers are closed first: the executor waits for all that is not cancelled by then.
    with ThreadPoolExecutor(_READERS) as readers, closing(_map(readers, read, numbers)) as answers:
        if doing is None:
            yield from answers
        else:
            yield from follow(answers, total=len(numbers), unit="slices", doing=doing)


def _map(
    readers: ThreadPoolExecutor, read: Callable[[int], _Read], numbers: Sequence[int]
) -> Generator[_Read]:
    """As a generator, which can be closed."""
    yield from readers.map(read, numbers)
