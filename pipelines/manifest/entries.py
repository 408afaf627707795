"""What the manifest says of one image, and how images are cut into slices."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from pipelines.storage import ObjectInfo


@dataclass(frozen=True, slots=True)
class ManifestEntry:
    """One image of a slice."""

    info: ObjectInfo
    """As it was listed."""
    todo: bool = True
    """Whether the generation asks for it to be done; else its rows are kept."""


def cut_slices(
    images: Iterable[ObjectInfo], *, slice_size: int, slice_bytes: int
) -> Iterator[list[ManifestEntry]]:
    """Cut a stream of images into slices, each sorted by URI.

    Args:
        images: In the order of the listing.
        slice_size: Most images in a slice, at least 1.
        slice_bytes: Most encoded bytes in a slice, as listed; a larger image is a slice of its own.

    Yields:
        The images of each slice, all to be done.
    """
    current: list[ObjectInfo] = []
    size = 0
    for info in images:
        if current and (len(current) == slice_size or size + info.size > slice_bytes):
            yield _sorted(current)
            current, size = [], 0
        current.append(info)
        size += info.size
    if current:
        yield _sorted(current)


def _sorted(images: list[ObjectInfo]) -> list[ManifestEntry]:
    return [ManifestEntry(info) for info in sorted(images, key=lambda info: info.uri)]
