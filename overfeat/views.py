"""How a model looks at an image: which views of it there are, mirrored or not.

A view is a placement of the image on a canvas. Dense evaluation places the whole image on each
canvas of a ladder; the crops of the older protocols are canvases of one window that cut the image.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float32, UInt8

from overfeat.boxes import flip_boxes
from overfeat.scales import Canvas, Placement, check_ladder, place, shrink

Views = Literal["dense", "ten-view", "centre-crop", "original"]
"""Which views a model looks at:

- `dense`: the image at every scale of the ladder, all windows (Sermanet et al. 2014, section 3.3).
- `ten-view`: four corners and centre of the central 256x256 pixels of the image scaled to a short
  side of 256, and their mirror images (Krizhevsky et al. 2012, section 4.1).
- `centre-crop`: the central window of the image scaled to a short side of 256.
- `original`: as the 2014 program classifies files: short side 231 for every network, central
  231x231 pixels.
"""
SHORT_SIDE = 256
"""Of the scaled image that crops are taken from, in pixels."""
ORIGINAL_SIDE = 231
"""The 2014 program's short side and crop, whatever the network."""

_CORNERS_AND_CENTRE = ((0.0, 0.0), (0.0, 1.0), (1.0, 0.0), (1.0, 1.0), (0.5, 0.5))


@dataclass(frozen=True, slots=True)
class View:
    """One image on one canvas."""

    image: int
    """Position of the image among those predicted together."""
    placement: Placement
    """Where it lies on the canvas."""
    flipped: bool
    """Whether the canvas is mirrored left to right."""
    scale: int = 0
    """Position of the canvas in the ladder, or of the crop among the crops."""

    def to_image(self, boxes_canvas: Float32[np.ndarray, "*n 4"]) -> Float32[np.ndarray, "*n 4"]:
        """Map boxes of the view to the original image.

        Args:
            boxes_canvas: Boxes in pixels of the canvas as the network sees it.

        Returns:
            The same boxes in pixels of the original image; not clipped.
        """
        return self.placement.to_image(self.unflip(boxes_canvas))

    def unflip(self, boxes_canvas: Float32[np.ndarray, "*n 4"]) -> Float32[np.ndarray, "*n 4"]:
        """Undo the mirroring of a view for boxes.

        Args:
            boxes_canvas: Boxes in pixels of the canvas as the network sees it.

        Returns:
            The same boxes in pixels of the canvas before it was mirrored.
        """
        if not self.flipped:
            return boxes_canvas
        return flip_boxes(boxes_canvas, width=self.placement.canvas.width)


@dataclass(frozen=True, kw_only=True, slots=True)
class ViewPlan:
    """The views that one network takes of every image."""

    views: Views
    """Which kind."""
    scales: tuple[Canvas, ...]
    """The ladder; only dense evaluation uses it."""
    window: int
    """Side of the network's window, in pixels: the side of a crop."""
    flips: bool
    """Whether each view is taken mirrored too; of ten views half always are."""

    def __post_init__(self) -> None:
        check_ladder(self.scales, window=self.window)

    @property
    def mirrorings(self) -> tuple[bool, ...]:
        """Which of plain and mirrored views are taken."""
        return (False, True) if self.flips or self.views == "ten-view" else (False,)

    def place(self, *, height: int, width: int) -> tuple[Placement, ...]:
        """Lay out the views of one image, mirror images left out.

        Args:
            height: Rows of the original image, in pixels.
            width: Columns of the original image, in pixels.

        Returns:
            One placement per scale or crop.
        """
        if self.views == "dense":
            return tuple(place(canvas, height=height, width=width) for canvas in self.scales)
        if self.views == "original":
            corner = (0.5, 0.5)
            return (place_crop(ORIGINAL_SIDE, ORIGINAL_SIDE, corner, height=height, width=width),)
        corners = _CORNERS_AND_CENTRE if self.views == "ten-view" else ((0.5, 0.5),)
        return tuple(
            place_crop(self.window, SHORT_SIDE, corner, height=height, width=width)
            for corner in corners
        )


def place_crop(
    side: int, short_side: int, corner: tuple[float, float], *, height: int, width: int
) -> Placement:
    """Lay a square crop on the central square of an image scaled to a short side.

    Args:
        side: Of the crop, in pixels.
        short_side: Of the scaled image, in pixels; at least `side`.
        corner: Where the crop lies in the central square, from 0 (top, left) to 1 (bottom, right).
        height: Rows of the original image, in pixels.
        width: Columns of the original image, in pixels.

    Returns:
        A placement whose canvas cuts the image.
    """
    factor = short_side / min(height, width)
    fitted = (max(short_side, round(height * factor)), max(short_side, round(width * factor)))
    offsets = [
        (length - short_side) // 2 + int((short_side - side) * part)
        for length, part in zip(fitted, corner, strict=True)
    ]
    return Placement(
        canvas=Canvas(side, side),
        image_height=height,
        image_width=width,
        fitted_height=fitted[0],
        fitted_width=fitted[1],
        top=-offsets[0],
        left=-offsets[1],
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class PreparedImage:
    """An image reduced to what its largest view needs, with the size that it had."""

    pixels: UInt8[np.ndarray, "h w 3"]
    """RGB."""
    height: int
    """Rows of the original image, in pixels."""
    width: int
    """Columns of the original image, in pixels."""


def prepare_image(image: UInt8[np.ndarray, "h w 3"], plans: Sequence[ViewPlan]) -> PreparedImage:
    """Reduce an image to what its largest view needs, so that full-size pixels go no further.

    Args:
        image: RGB, of any size.
        plans: The views that every network of the model takes.

    Returns:
        What a model predicts from.
    """
    height, width = image.shape[:2]
    placements = [where for plan in plans for where in plan.place(height=height, width=width)]
    return PreparedImage(pixels=shrink(image, placements), height=height, width=width)


def plan_batches(
    sizes: Sequence[tuple[int, int]], plan: ViewPlan, *, batch_pixels: int
) -> Iterator[list[View]]:
    """Group the views of several images into batches of equal canvases, in a fixed order.

    Args:
        sizes: Height and width of each original image, in pixels.
        plan: Which views are taken.
        batch_pixels: Canvas pixels in a batch; a larger canvas is a batch of its own.

    Yields:
        Views with the same canvas; each image has its views in the order scale, then flip.
    """
    placements = [plan.place(height=height, width=width) for height, width in sizes]
    for scale, of_scale in enumerate(zip(*placements, strict=True)):
        for flipped in plan.mirrorings:
            for canvas in sorted({placement.canvas for placement in of_scale}):
                views = [
                    View(image, placement, flipped, scale)
                    for image, placement in enumerate(of_scale)
                    if placement.canvas == canvas
                ]
                size = max(1, batch_pixels // canvas.area)
                yield from (views[i : i + size] for i in range(0, len(views), size))
