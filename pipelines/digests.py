"""How are the names and versions of millions of images held? As numbers, 24 bytes an image."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from pipelines.storage import ObjectInfo

NAME_WORDS: Final = 2
"""Numbers that stand for a name: two different ones that are taken for the same are not to be
expected."""
_WORD_BYTES: Final = 8


def digest_names(names: Sequence[str]) -> NDArray[np.uint64]:
    """Digest names.

    Args:
        names: URIs of images.

    Returns:
        `NAME_WORDS` numbers for each, in a row of their own.
    """
    size = NAME_WORDS * _WORD_BYTES
    digests = (
        hashlib.blake2b(name.encode("utf-8", "surrogateescape"), digest_size=size).digest()
        for name in names
    )
    return np.frombuffer(b"".join(digests), dtype="<u8").reshape(-1, NAME_WORDS)


def digest_infos(infos: Sequence[ObjectInfo]) -> NDArray[np.uint64]:
    """Digest the versions of images.

    Args:
        infos: As they are listed.

    Returns:
        As `digest_versions`.
    """
    sizes, etags = [info.size for info in infos], [info.etag for info in infos]
    return digest_versions(sizes, etags, [info.offset for info in infos])


def digest_versions(
    sizes: Sequence[int], etags: Sequence[str], offsets: Sequence[int | None]
) -> NDArray[np.uint64]:
    """Digest versions.

    Args:
        sizes: Encoded bytes of each image.
        etags: Of each.
        offsets: Where the bytes of each begin in its tar; None for a whole object.

    Returns:
        A number for each; 0 where size and etag are unknown.
    """
    digests = (
        hashlib.blake2b(f"{size} {etag} {offset}".encode(), digest_size=_WORD_BYTES).digest()
        if size or etag
        else bytes(_WORD_BYTES)
        for size, etag, offset in zip(sizes, etags, offsets, strict=True)
    )
    return np.frombuffer(b"".join(digests), dtype="<u8")
