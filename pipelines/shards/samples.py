"""What is one sample of a shard: an image's bytes and what is known about it.

Every source yields these and the writer packs them. The JSON is canonical: equal metadata gives
equal bytes, whatever made it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from pipelines.errors import InputError

_KEY_PATTERN: Final = re.compile(r"[A-Za-z0-9_-]+(/[A-Za-z0-9_-]+)*")
_EXTENSION_PATTERN: Final = re.compile(r"[a-z0-9]+")


@dataclass(frozen=True, kw_only=True, slots=True)
class ObjectMetadata:
    """One annotated object of an image."""

    label: int
    """Index into the set's classes."""

    box_xyxy: tuple[float, float, float, float]
    """Half-open pixels of the image."""

    difficult: bool = False
    truncated: bool = False
    """Whether the border of the image cuts the object."""

    crowd: bool = False
    mask: Mapping[str, Any] | None = None
    """COCO run lengths (`size` as [height, width], `counts` as text), if the source has masks."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SampleMetadata:
    """What is known about an image, in pixels of the image as it is stored."""

    width: int
    height: int
    original_name: str
    """Where the image comes from, in the source's own words."""

    label: int | None = None
    """Index into the set's classes; None where only objects are labelled."""

    objects: tuple[ObjectMetadata, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Sample:
    """One keyed record: `KEY.EXTENSION` and `KEY.json` in a shard."""

    key: str
    """ASCII letters, digits, `_`, `-`, and `/` between parts; unique in the set."""

    image: bytes
    """An encoded image."""

    extension: str
    """Of the image, after its bytes and not its old name: `jpg`, `png`."""

    metadata: SampleMetadata

    def __post_init__(self) -> None:
        # webdataset cuts a name at its first dot and silently merges keys that differ after it.
        if _KEY_PATTERN.fullmatch(self.key) is None:
            raise InputError(
                f"sample key {self.key!r}: expected ASCII letters, digits, '_', '-', and '/' "
                "between parts; rename it"
            )
        if _EXTENSION_PATTERN.fullmatch(self.extension) is None or self.extension == "json":
            raise InputError(
                f"sample {self.key}: extension {self.extension!r}, expected lower-case letters and"
                " digits without a dot, and not json"
            )


def encode_metadata(metadata: SampleMetadata) -> bytes:
    """Write metadata as canonical JSON: sorted keys, no spaces, ASCII.

    Args:
        metadata: Of one sample.

    Returns:
        A JSON object with the keys `width`, `height`, `label`, `original_name` and one list per
        property of the objects (`boxes`, `box_labels`, `difficult`, `truncated`, `crowd`, and
        `masks` if any object has one).
    """
    objects = metadata.objects
    record: dict[str, Any] = {
        "width": metadata.width,
        "height": metadata.height,
        "label": metadata.label,
        "original_name": metadata.original_name,
        "boxes": [list(one.box_xyxy) for one in objects],
        "box_labels": [one.label for one in objects],
        "difficult": [one.difficult for one in objects],
        "truncated": [one.truncated for one in objects],
        "crowd": [one.crowd for one in objects],
    }
    if any(one.mask is not None for one in objects):
        record["masks"] = [one.mask for one in objects]
    return json.dumps(record, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def decode_metadata(data: bytes) -> SampleMetadata:
    """Read what `encode_metadata` wrote.

    Args:
        data: The bytes of a sample's JSON.

    Returns:
        Equal metadata.
    """
    record = json.loads(data)
    count = len(record["boxes"])
    columns = zip(
        record["box_labels"],
        record["boxes"],
        record["difficult"],
        record["truncated"],
        record["crowd"],
        record.get("masks", [None] * count),
        strict=True,
    )
    return SampleMetadata(
        width=record["width"],
        height=record["height"],
        original_name=record["original_name"],
        label=record["label"],
        objects=tuple(
            ObjectMetadata(
                label=label,
                box_xyxy=tuple(box),
                difficult=difficult,
                truncated=truncated,
                crowd=crowd,
                mask=mask,
            )
            for label, box, difficult, truncated, crowd, mask in columns
        ),
    )


def encode_mask(mask: np.ndarray) -> dict[str, Any]:
    """Write a mask as COCO run lengths.

    Args:
        mask: Bool (height, width).

    Returns:
        `size` as [height, width] and `counts` as text, fit for JSON.
    """
    from pycocotools import mask as coco_mask

    encoded = coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))
    return {"size": [int(side) for side in encoded["size"]], "counts": encoded["counts"].decode()}
