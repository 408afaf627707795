"""What does a source know of an image before it is read, and what once its annotation is?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pipelines.shards.samples import ObjectMetadata
from pipelines.storage import ObjectInfo


@dataclass(frozen=True, kw_only=True, slots=True)
class Record:
    """An image that is to become a sample: where it is, and where its annotation."""

    key: str
    """Of the sample to be."""

    name: str
    """Of the file, in the source's own words."""

    image: ObjectInfo | None = None
    """None where the image is made, not read."""

    label: int | None = None
    """Index into the set's classes, where the place of the file tells."""

    beside: tuple[str, ...] = ()
    """URIs of the files that its annotation is read from."""

    note: str | None = None
    """What else its source wrote down when it listed the image, as JSON."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Listing:
    """Everything that is in one split of a data set."""

    classes: tuple[str, ...]
    """Names, in the order of the labels."""

    class_ids: tuple[str, ...]
    """The source's own words for them: WordNet ids, category numbers, or the names again."""

    keypoints: tuple[str, ...] = ()
    """Names of an object's keypoints, in their order."""

    records: Sequence[Record]
    """In the source's own order, with different keys."""

    @property
    def labels(self) -> Mapping[str, int]:
        """The label of each of the source's words for a class."""
        return {word: label for label, word in enumerate(self.class_ids)}


@dataclass(frozen=True, kw_only=True, slots=True)
class Annotation:
    """What a source says about one image, in pixels of the frame that it speaks of."""

    size: tuple[int, int] | None = None
    """Width and height of that frame, if the source says them; else the image as it is stored."""

    label: int | None = None
    """Index into the set's classes, of the whole image."""

    objects: tuple[ObjectMetadata, ...] = ()
    """Their boxes may stick out of the image."""
