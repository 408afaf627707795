"""What does one annotation of COCO say? Box, mask, crowd and keypoints, checked before use."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

from pipelines.shards.masks import encode_counts, encode_polygons
from pipelines.shards.samples import Box, Keypoint, ObjectMetadata

_LEAST_POLYGON: Final = 6
"""Numbers: three corners."""


_LETTERS: Final = 64
_MOST_BITS: Final = 60
"""Of a run length: no image is larger."""


def parse_object(
    values: Mapping[str, Any], labels: Mapping[str, int], *, width: int, height: int
) -> ObjectMetadata:
    """Read one annotation.

    Args:
        values: As in the JSON.
        labels: Label of each number of a category, as text.
        width: Of the image in pixels.
        height: Of the image in pixels.

    Returns:
        The object, its mask as compressed run lengths.

    Raises:
        ValueError: Something in it cannot be.
    """
    keypoints = values.get("keypoints")
    return ObjectMetadata(
        label=labels[str(values["category_id"])],
        box_xyxy=convert_box(values["bbox"]),
        crowd=bool(values.get("iscrowd", 0)),
        mask=_encode_segmentation(values.get("segmentation"), width=width, height=height),
        keypoints=None if keypoints is None else convert_keypoints(keypoints),
    )


def convert_box(bbox: Sequence[float]) -> Box:
    """Turn x, y, width, height into corners; COCO's pixels are half-open already.

    Args:
        bbox: Four numbers.

    Returns:
        x_min, y_min, x_max, y_max.

    Raises:
        ValueError: They are not four numbers.
    """
    x, y, width, height = _read_numbers(bbox)
    return x, y, x + width, y + height


def convert_keypoints(values: Sequence[float]) -> tuple[Keypoint, ...]:
    """Turn a flat list of x, y, visibility into points.

    Args:
        values: Three numbers a keypoint; x and y count pixels from 0.

    Returns:
        Points in the middle of these pixels: half a pixel is added.

    Raises:
        ValueError: They are not three numbers each.
    """
    numbers = _read_numbers(values)
    if len(numbers) % 3:
        raise ValueError(f"{len(numbers)} numbers of keypoints, expected three each")
    points = zip(numbers[::3], numbers[1::3], numbers[2::3], strict=True)
    return tuple(
        (x + 0.5, y + 0.5, int(visibility)) if visibility else (0.0, 0.0, 0)
        for x, y, visibility in points
    )


def _encode_segmentation(segmentation: object, *, width: int, height: int) -> dict[str, Any] | None:
    """Compress any of COCO's three ways to write a mask.

    Raises:
        ValueError: It is none of them, or it is of another image: pycocotools checks nothing.
    """
    if not segmentation:
        return None
    if isinstance(segmentation, list):
        polygons = [_read_polygon(one, width, height) for one in segmentation]
        return encode_polygons(polygons, width=width, height=height)
    if not isinstance(segmentation, dict) or segmentation["size"] != [height, width]:
        raise ValueError(f"a mask that does not fit an image of {width} x {height} pixels")
    counts = segmentation["counts"]
    if isinstance(counts, str):
        counts = read_counts(counts)
    numbers = [int(count) for count in counts]
    if min(numbers, default=0) < 0 or sum(numbers) != width * height:
        raise ValueError(f"a mask of {sum(numbers)} pixels, expected {width * height}")
    return encode_counts(numbers, width=width, height=height)


def _read_polygon(values: Sequence[float], width: int, height: int) -> list[float]:
    numbers = _read_numbers(values)
    if len(numbers) < _LEAST_POLYGON or len(numbers) % 2:
        raise ValueError(f"a polygon of {len(numbers)} numbers, expected three corners or more")
    # A corner a million pixels away would cost the memory of a million pixels.
    if min(numbers) < -max(width, height) or max(numbers) > 2 * max(width, height):
        raise ValueError(f"a polygon far outside the image: {min(numbers):g} to {max(numbers):g}")
    return numbers


def read_counts(text: str) -> list[int]:
    """Read compressed run lengths.

    Args:
        text: As COCO writes them: six bits a letter, five of the number and whether it goes on;
            from the fourth on, the difference to the last but one.

    Returns:
        Run lengths.

    Raises:
        ValueError: A letter that is none of these, or an end inside a number.
    """
    done: list[int] = []
    number = bits = 0
    for letter in text:
        chunk = ord(letter) - 48
        if not 0 <= chunk < _LETTERS or bits > _MOST_BITS:
            raise ValueError(f"a mask with the letter {letter!r}")
        number |= (chunk & 31) << bits
        bits += 5
        if chunk & 32:
            continue
        if chunk & 16:
            number -= 1 << bits
        # The first three stand for themselves.
        done.append(number + (done[-2] if done[2:] else 0))
        number = bits = 0
    if bits:
        raise ValueError("a mask that ends inside a number")
    return done


def _read_numbers(values: Sequence[float]) -> list[float]:
    numbers = [float(value) for value in values]
    if not all(map(math.isfinite, numbers)):
        raise ValueError(f"numbers that are none: {numbers[:4]}")
    return numbers
