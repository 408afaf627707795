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

from pipelines.errors import InputError

_KEY_PATTERN: Final = re.compile(r"[A-Za-z0-9_-]+(/[A-Za-z0-9_-]+)*")
_EXTENSION_PATTERN: Final = re.compile(r"[a-z0-9]+")


Box = tuple[float, float, float, float]
"""x_min, y_min, x_max, y_max in half-open pixels: a pixel covers 0 to 1, not 0 to 0."""

Keypoint = tuple[float, float, int]
"""x and y in the same pixels (the middle of the first is 0.5, 0.5), and COCO's visibility: 0 not
labelled (then x and y are 0), 1 labelled but hidden, 2 visible."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PartMetadata:
    """A named part of an object, such as a head."""

    name: str
    box_xyxy: Box


@dataclass(frozen=True, kw_only=True, slots=True)
class ObjectMetadata:
    """One annotated object of an image."""

    label: int
    """Index into the set's classes."""

    box_xyxy: Box
    """Inside the image."""

    difficult: bool = False
    truncated: bool = False
    """Whether the border of the image cuts the object."""

    crowd: bool = False
    mask: Mapping[str, Any] | None = None
    """COCO run lengths (`size` as [height, width], `counts` as text), if the source has masks."""

    keypoints: tuple[Keypoint, ...] | None = None
    """In the order of the set's names of keypoints."""

    parts: tuple[PartMetadata, ...] | None = None
    actions: Mapping[str, bool] | None = None
    """What a person does and does not do; None where nobody looked."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SampleMetadata:
    """What is known about an image, in pixels of the image as it is seen.

    That is after its EXIF orientation, as `decode_image` gives it; the bytes may lie otherwise.
    """

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
        property of the objects: `boxes`, `box_labels`, `difficult`, `truncated`, `crowd`, and, if
        any object has one, `masks`, `keypoints`, `parts`, `actions`.
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
    columns: dict[str, list[Any]] = {
        "masks": [one.mask for one in objects],
        "keypoints": [one.keypoints for one in objects],
        "parts": [_encode_parts(one.parts) for one in objects],
        "actions": [one.actions for one in objects],
    }
    record |= {
        name: column
        for name, column in columns.items()
        if any(value is not None for value in column)
    }
    return json.dumps(record, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def decode_metadata(data: bytes) -> SampleMetadata:
    """Read what `encode_metadata` wrote.

    Args:
        data: The bytes of a sample's JSON.

    Returns:
        Equal metadata.
    """
    record = json.loads(data)
    none = [None] * len(record["boxes"])
    names = ("box_labels", "boxes", "difficult", "truncated", "crowd")
    optional = ("masks", "keypoints", "parts", "actions")
    columns = [*(record[name] for name in names), *(record.get(name, none) for name in optional)]
    return SampleMetadata(
        width=record["width"],
        height=record["height"],
        original_name=record["original_name"],
        label=record["label"],
        objects=tuple(_decode_object(*values) for values in zip(*columns, strict=True)),
    )


def _encode_parts(parts: tuple[PartMetadata, ...] | None) -> list[dict[str, Any]] | None:
    if parts is None:
        return None
    return [{"name": part.name, "box": list(part.box_xyxy)} for part in parts]


def _decode_object(label: int, box: list[float], *values: Any) -> ObjectMetadata:  # noqa: ANN401 (JSON)
    difficult, truncated, crowd, mask, keypoints, parts, actions = values
    return ObjectMetadata(
        label=label,
        box_xyxy=_decode_box(box),
        difficult=difficult,
        truncated=truncated,
        crowd=crowd,
        mask=mask,
        keypoints=None if keypoints is None else tuple((x, y, seen) for x, y, seen in keypoints),
        parts=parts
        if parts is None
        else tuple(
            PartMetadata(name=part["name"], box_xyxy=_decode_box(part["box"])) for part in parts
        ),
        actions=actions,
    )


def _decode_box(box: list[float]) -> Box:
    x_min, y_min, x_max, y_max = box
    return x_min, y_min, x_max, y_max
