"""Which pixels do annotations speak of, and which do samples?

A data set's boxes are in pixels of the image as stored; a sample's are in pixels of the image as
seen, after its EXIF orientation, and after `--max-side` has shrunk it. A box that sticks out is cut
off at the border; one with nothing inside the image makes the whole annotation bad, for an image
enters the shards with all of its objects or with none of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipelines.shards.masks import decode_mask, encode_mask
from pipelines.shards.records import Annotation
from pipelines.shards.rejects import AnnotationError, AnnotationReason
from pipelines.shards.samples import Box, Keypoint, ObjectMetadata

_TRANSPOSING: Final = frozenset({5, 6, 7, 8})
"""EXIF orientations that swap width and height."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Frame:
    """How an image lies in its file, and how a sample shows it."""

    width: int
    """Pixels, as stored."""

    height: int
    """Pixels, as stored."""

    orientation: int = 1
    """EXIF orientation, 1 to 8: what has to be done to see the image upright."""

    max_side: int | None = None
    """Longest side of the sample's image in pixels; None to leave it as it is."""

    @property
    def seen_size(self) -> tuple[int, int]:
        """Width and height as seen, in full size."""
        is_swapped = self.orientation in _TRANSPOSING
        return (self.height, self.width) if is_swapped else (self.width, self.height)

    @property
    def sample_size(self) -> tuple[int, int]:
        """Width and height of the sample's image."""
        width, height = self.seen_size
        longest = max(width, height)
        if self.max_side is None or longest <= self.max_side:
            return width, height
        short = max(1, round(min(width, height) * self.max_side / longest))
        return (self.max_side, short) if width >= height else (short, self.max_side)


def settle_objects(annotation: Annotation, frame: Frame) -> tuple[ObjectMetadata, ...]:
    """Bring an image's objects into the pixels of its sample.

    A source that tells the size of its frame may mean the image as seen; where both have that shape
    the image as stored is meant (assumed: the tools of those years knew no EXIF). It may speak of
    the image in another size, as ImageNet's may: only the shape must be the image's.

    Args:
        annotation: What the source says.
        frame: Of the image.

    Returns:
        The objects, inside the sample's image.

    Raises:
        AnnotationError: The source speaks of an image of another shape, or a box or part has
            nothing inside the image.
    """
    stored = (frame.width, frame.height)
    said = annotation.size or stored
    is_stored = _have_one_shape(said, stored)
    if not (is_stored or _have_one_shape(said, frame.seen_size)):
        raise AnnotationError(
            AnnotationReason.BAD_ANNOTATION,
            f"speaks of an image of {said[0]} x {said[1]} pixels; it has {stored[0]} x {stored[1]}",
        )
    orientation = frame.orientation if is_stored else 1
    return tuple(_settle(one, said, orientation, frame.sample_size) for one in annotation.objects)


def turn_point(x: float, y: float, size: tuple[int, int], orientation: int) -> tuple[float, float]:
    """Find the point of the image as stored in the image as seen.

    Args:
        x: From 0 at the left border to the width at the right.
        y: From 0 at the upper border to the height at the lower.
        size: Width and height in pixels, as stored.
        orientation: As EXIF numbers it, 1 to 8.

    Returns:
        x and y in the image as seen.
    """
    right, down = size[0] - x, size[1] - y
    turned = {
        1: (x, y), 2: (right, y), 3: (right, down), 4: (x, down),
        5: (y, x), 6: (down, x), 7: (down, right), 8: (y, right),
    }  # fmt: skip
    return turned[orientation]


def turn_mask(mask: NDArray[np.bool_], orientation: int) -> NDArray[np.bool_]:
    """Turn a mask of the image as stored into one of the image as seen.

    Args:
        mask: Bool (height, width).
        orientation: As EXIF numbers it, 1 to 8.

    Returns:
        Bool, height and width swapped for 5 to 8.
    """
    flipped = {2: (1,), 3: (0, 1), 4: (0,), 6: (0,), 7: (0, 1), 8: (1,)}
    turned = np.flip(mask, flipped.get(orientation, ()))
    return turned.T if orientation in _TRANSPOSING else turned


def _settle(
    one: ObjectMetadata, size: tuple[int, int], orientation: int, sample_size: tuple[int, int]
) -> ObjectMetadata:
    """Cut off, turn and shrink everything of an object that has a place."""
    seen = size[::-1] if orientation in _TRANSPOSING else size

    def move(x: float, y: float) -> tuple[float, float]:
        x, y = turn_point(x, y, size, orientation)
        # In this order the border of the image stays the border exactly.
        return x * sample_size[0] / seen[0], y * sample_size[1] / seen[1]

    def move_box(box: Box, what: str) -> Box:
        left, top, right, bottom = _clip(box, size, what)
        (x0, y0), (x1, y1) = move(left, top), move(right, bottom)
        return min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1)

    def move_keypoint(point: Keypoint) -> Keypoint:
        x, y, visibility = point
        return (*move(x, y), visibility) if visibility else (0.0, 0.0, 0)

    is_moved = orientation != 1 or sample_size != seen
    return replace(
        one,
        box_xyxy=move_box(one.box_xyxy, "a box"),
        mask=_move_mask(one.mask, orientation, sample_size) if is_moved else one.mask,
        keypoints=one.keypoints and tuple(move_keypoint(point) for point in one.keypoints),
        parts=one.parts
        and tuple(
            replace(part, box_xyxy=move_box(part.box_xyxy, f"the {part.name}"))
            for part in one.parts
        ),
    )


def _have_one_shape(size: tuple[int, int], other: tuple[int, int]) -> bool:
    """Whether one may be the other, enlarged and rounded to whole pixels."""
    small, large = sorted((size, other))
    # A side of the smaller one is off by half a pixel at most.
    across = abs(large[0] * small[1] - small[0] * large[1])
    return min(small) > 0 and across <= max(large) / 2


# Cuts off what lies outside the image; raises if nothing is left.
def _clip(box: Box, size: tuple[int, int], what: str) -> Box:
    width, height = size
    left, top = max(0.0, box[0]), max(0.0, box[1])
    right, bottom = min(float(width), box[2]), min(float(height), box[3])
    if left >= right or top >= bottom:
        corners = ", ".join(f"{value:g}" for value in box)
        raise AnnotationError(
            AnnotationReason.BAD_ANNOTATION,
            f"{what} at {corners} has nothing inside the image of {width} x {height} pixels",
        )
    return left, top, right, bottom


def _move_mask(
    mask: Mapping[str, Any] | None, orientation: int, size: tuple[int, int]
) -> Mapping[str, Any] | None:
    if mask is None:
        return None
    turned = Image.fromarray(turn_mask(decode_mask(mask), orientation).astype(np.uint8))
    return encode_mask(np.asarray(turned.resize(size, Image.Resampling.NEAREST), np.bool_))
