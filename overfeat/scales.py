"""One image at several scales: how it is fitted into each canvas, and how boxes come back.

A scale is a canvas, height x width in pixels, turned for a portrait image. The image is fitted
inside with its aspect kept, centred, and the rest is the mean colour (figure 6 of the paper shows
mid-grey bars; the text says nothing). Every conversion between image and canvas pixels is made
here and has its inverse here.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, UInt8
from torch import Tensor
from torch.nn import functional as F

FAR_SIDES = 8
"""How many times its canvas an image may be enlarged to before its far parts are cut off first."""


@dataclass(frozen=True, order=True, slots=True)
class Canvas:
    """A scale: the frame that an image is fitted into."""

    height: int
    """Rows, in pixels, for a landscape image."""
    width: int
    """Columns, in pixels, for a landscape image."""

    def __post_init__(self) -> None:
        if self.height < 1 or self.width < 1:
            msg = f"scale: received {self.height}x{self.width}, expected positive pixels"
            raise ValueError(msg)

    def __str__(self) -> str:
        return f"{self.height}x{self.width}"

    @classmethod
    def parse(cls, text: str) -> Canvas:
        """Read a scale such as `281x317`: height, then width, in pixels.

        Args:
            text: Two whole numbers joined by `x`.

        Returns:
            The canvas.

        Raises:
            ValueError: If the text is of another form.
        """
        match = re.fullmatch(r"(\d+)x(\d+)", text.strip())
        if match is None:
            msg = f"scale: received {text!r}, expected HEIGHTxWIDTH in pixels, such as 281x317"
            raise ValueError(msg)
        return cls(int(match[1]), int(match[2]))

    @property
    def area(self) -> int:
        """Pixels."""
        return self.height * self.width

    def turned_for(self, height: int, width: int) -> Canvas:
        """Give the canvas the orientation of an image.

        Args:
            height: Rows of the image.
            width: Columns of the image.

        Returns:
            This canvas, transposed if the image is taller than wide.
        """
        return Canvas(self.width, self.height) if height > width else self


@dataclass(frozen=True, kw_only=True, slots=True)
class Placement:
    """Where an image lies on a canvas: the two frames and the maps between them."""

    canvas: Canvas
    """The canvas, already turned for the image."""
    image_height: int
    """Rows of the original image, in pixels."""
    image_width: int
    """Columns of the original image, in pixels."""
    fitted_height: int
    """Rows that the image takes on the canvas."""
    fitted_width: int
    """Columns that the image takes on the canvas."""
    top: int
    """First canvas row of the image; below 0 if the canvas cuts it, as in training."""
    left: int
    """First canvas column of the image; below 0 if the canvas cuts it."""

    def to_canvas(self, boxes_xyxy: Float32[np.ndarray, "*n 4"]) -> Float32[np.ndarray, "*n 4"]:
        """Map boxes from original-image pixels to canvas pixels.

        Args:
            boxes_xyxy: Boxes in pixels of the original image.

        Returns:
            The same boxes in canvas pixels.
        """
        return np.asarray(boxes_xyxy * self._factors() + self._shift())

    def to_image(self, boxes_canvas: Float32[np.ndarray, "*n 4"]) -> Float32[np.ndarray, "*n 4"]:
        """Map boxes from canvas pixels to original-image pixels: the inverse of `to_canvas`.

        Args:
            boxes_canvas: Boxes in canvas pixels.

        Returns:
            The same boxes in pixels of the original image; not clipped.
        """
        return np.asarray((boxes_canvas - self._shift()) / self._factors())

    def sees_image(self, windows: Float32[np.ndarray, "*n 4"]) -> Bool[np.ndarray, "*n"]:
        """Tell which windows hold at least a part of the image; the others see only padding.

        Args:
            windows: Windows in canvas pixels.

        Returns:
            True for each window that counts.
        """
        right, bottom = self.left + self.fitted_width, self.top + self.fitted_height
        across = (windows[..., 0] < right) & (windows[..., 2] > self.left)
        down = (windows[..., 1] < bottom) & (windows[..., 3] > self.top)
        return np.asarray(across & down)

    def _factors(self) -> Float32[np.ndarray, 4]:
        x, y = self.fitted_width / self.image_width, self.fitted_height / self.image_height
        return np.array([x, y, x, y], dtype=np.float32)

    def _shift(self) -> Float32[np.ndarray, 4]:
        return np.array([self.left, self.top, self.left, self.top], dtype=np.float32)


def place(canvas: Canvas, *, height: int, width: int) -> Placement:
    """Fit an image into a canvas: aspect kept, as large as fits, centred.

    Args:
        canvas: The scale, in its landscape orientation.
        height: Rows of the original image, at least 1.
        width: Columns of the original image, at least 1.

    Returns:
        Where the image lies.

    Raises:
        ValueError: If the image has no pixel.
    """
    if height < 1 or width < 1:
        msg = f"image: received {height}x{width} pixels, expected at least 1x1"
        raise ValueError(msg)
    turned = canvas.turned_for(height, width)
    factor = min(turned.height / height, turned.width / width)
    fitted_height = min(turned.height, max(1, round(height * factor)))
    fitted_width = min(turned.width, max(1, round(width * factor)))
    return Placement(
        canvas=turned,
        image_height=height,
        image_width=width,
        fitted_height=fitted_height,
        fitted_width=fitted_width,
        top=(turned.height - fitted_height) // 2,
        left=(turned.width - fitted_width) // 2,
    )


def shrink(
    image: UInt8[np.ndarray, "h w 3"], placements: Sequence[Placement]
) -> UInt8[np.ndarray, "fitted_h fitted_w 3"]:
    """Reduce an image to its largest placement, so that full-size pixels go no further.

    Bilinear with antialiasing in fixed-point arithmetic: the same bits on any number of threads.

    Args:
        image: RGB pixels of the original image.
        placements: Where the image will lie.

    Returns:
        The image as its largest placement shows it, or the same array if it is not larger.
    """
    height, width = image.shape[:2]
    largest = max(placements, key=lambda p: (p.fitted_height, p.fitted_width))
    size = (largest.fitted_height, largest.fitted_width)
    if size[0] >= height and size[1] >= width:
        return image
    # Copied only if it is a view or read-only, as arrays from Ray's object store are.
    contiguous = np.require(image, requirements=["C", "W"])
    pixels = torch.from_numpy(contiguous).permute(2, 0, 1)[None]
    resized = F.interpolate(pixels, size=size, mode="bilinear", antialias=True)
    return np.ascontiguousarray(resized[0].permute(1, 2, 0).numpy())


def render(
    image: UInt8[Tensor, "3 h w"],
    placement: Placement,
    *,
    mean: Float[Tensor, "3 1 1"],
    std: Float[Tensor, "3 1 1"],
    in_bytes: bool = False,
) -> Float32[Tensor, "3 canvas_h canvas_w"]:
    """Draw an image on its canvas, normalised; the padding is the mean colour, that is zero.

    Args:
        image: RGB pixels, of the original image or shrunk to its largest scale.
        placement: Where the image lies on the canvas.
        mean: Mean colour, 0 to 255.
        std: Standard deviation of the colour, above 0.
        in_bytes: Resize in fixed-point arithmetic, as `shrink` does: off by at most a grey level,
            and 2 to 9 times faster (measured, one core). On the CPU alone.

    Returns:
        The normalised canvas, on the image's device.
    """
    canvas = placement.canvas
    rows, height, top = _cut_far_parts(
        image.shape[1], placement.fitted_height, placement.top, canvas.height
    )
    cols, width, left = _cut_far_parts(
        image.shape[2], placement.fitted_width, placement.left, canvas.width
    )
    pixels = image[None, :, rows, cols]
    if pixels.shape[-2:] != (height, width):
        size = (height, width)
        if in_bytes:
            pixels = F.interpolate(pixels, size=size, mode="bilinear", antialias=True)
        else:
            pixels = _resize_floats(pixels.to(torch.float32), size)
    shown = pixels[
        0,
        :,
        max(0, -top) : max(0, canvas.height - top),
        max(0, -left) : max(0, canvas.width - left),
    ]
    top, left = max(0, top), max(0, left)
    right, bottom = canvas.width - shown.shape[2] - left, canvas.height - shown.shape[1] - top
    return F.pad((shown.to(torch.float32) - mean) / std, (left, right, top, bottom))


def _resize_floats(pixels: Tensor, size: tuple[int, int]) -> Tensor:
    # torch 2.13 mixes up the rows of floats that become one column (measured); one row is right.
    if size[1] == 1:
        turned = F.interpolate(pixels.mT, size=(1, size[0]), mode="bilinear", antialias=True)
        return turned.mT
    return F.interpolate(pixels, size=size, mode="bilinear", antialias=True)


def _cut_far_parts(pixels: int, fitted: int, start: int, side: int) -> tuple[slice, int, int]:
    """Along one axis, leave out what lies far beyond a canvas that shows a small part of an image.

    Else a strip of 1 x 20,000 pixels would be enlarged to gigabytes for the crop of its middle. The
    rest moves by less than a canvas pixel.
    """
    if fitted <= FAR_SIDES * side:
        return slice(0, pixels), fitted, start
    factor = fitted / pixels
    first = max(0, int((-start - side) / factor))
    last = min(pixels, math.ceil((-start + 2 * side) / factor))
    return slice(first, last), round((last - first) * factor), start + round(first * factor)


def check_ladder(scales: Sequence[Canvas], *, window: int) -> None:
    """Refuse a ladder that is empty or holds a canvas with no room for one window.

    Args:
        scales: The ladder.
        window: Side of the network's window, in pixels.

    Raises:
        ValueError: Naming the first scale that does not fit, and the minimum.
    """
    if not scales:
        raise ValueError("scales: received none, expected at least one such as 281x317")
    for canvas in scales:
        if min(canvas.height, canvas.width) < window:
            msg = f"scales: received {canvas}, expected at least {window}x{window}, one window"
            raise ValueError(msg)


def is_rising(scales: Sequence[Canvas]) -> bool:
    """Say whether no scale of a ladder is smaller than the one before it.

    Args:
        scales: The ladder.

    Returns:
        True if each scale can be told by the one before it, as context needs.
    """
    return all(low.area <= high.area for low, high in pairwise(scales))
