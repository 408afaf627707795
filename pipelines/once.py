"""How is each object of a listing taken once, whatever the server names twice?

A name above all those before it is new, and on AWS every name is. What is out of order is looked up
among digests of the names before, 16 bytes each: all that is kept of a listing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray

from pipelines.storage import ObjectInfo

_DIGEST_BYTES: Final = 16
"""Of a name: two different ones that are taken for the same are not to be expected."""
_RECENT: Final = 65_536
"""Names kept as Python objects, before they become an array."""


def take_once(found: Iterable[ObjectInfo]) -> Iterator[ObjectInfo]:
    """Pass on the first entry of each object.

    Args:
        found: A listing, in any order.

    Yields:
        Entries of different names, each at once.
    """
    names, highest = Names(), ""
    for info in found:
        if info.uri <= highest and info.uri in names:
            continue
        names.add(info.uri)
        highest = max(highest, info.uri)
        yield info


class Names:
    """Names that have been seen: their digests, 16 bytes each.

    They lie in sorted arrays, each at least about twice as long as the next.
    """

    def __init__(self) -> None:
        """Begin with none."""
        self._arrays: list[NDArray[np.bytes_]] = []
        self._recent: set[bytes] = set()

    def __contains__(self, name: str) -> bool:
        digest = _digest(name)
        return digest in self._recent or any(_holds(array, digest) for array in self._arrays)

    def add(self, name: str) -> None:
        """Note one that is not among them.

        Args:
            name: Of an object.
        """
        self._recent.add(_digest(name))
        if len(self._recent) < _RECENT:
            return
        array = np.array(sorted(self._recent), dtype=f"S{_DIGEST_BYTES}")
        self._recent.clear()
        while self._arrays and len(self._arrays[-1]) <= len(array):
            array = np.concatenate([self._arrays.pop(), array])
            array.sort()
        self._arrays.append(array)


def _holds(array: NDArray[np.bytes_], digest: bytes) -> bool:
    at = np.searchsorted(array, np.bytes_(digest))
    return bool(at < len(array) and array[at] == digest)


def _digest(name: str) -> bytes:
    data = name.encode("utf-8", "surrogateescape")
    # Without zeros at its end, as numpy gives it back.
    return hashlib.blake2b(data, digest_size=_DIGEST_BYTES).digest().rstrip(b"\0")
