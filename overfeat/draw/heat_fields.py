"""How hot is each pixel, when one number stands for each window?

A cell's number stands at the centre of its window: that is the pixel the window is about. Between
centres it is interpolated; beyond the outermost ones it is that of the nearest, as far as windows
reach. What no window covers has no number.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from jaxtyping import Bool, Float32

Blend = Literal["smooth", "blocks"]
"""`smooth` is bilinear between centres; in `blocks` each pixel has the number of the nearest."""

# In pixels: float32 corners of images up to 100,000 pixels wide are more exact than that.
GRID_TOLERANCE = 0.05
# Probabilities are means and sums of float32.
PROBABILITY_TOLERANCE = 1e-5


@dataclass(frozen=True, kw_only=True, slots=True)
class HeatField:
    """One map of heat, as large as its image."""

    heat: Float32[np.ndarray, "h w"]
    """0 to 1; 0 where no window covers the pixel."""
    is_covered: Bool[np.ndarray, "h w"]
    """Whether a window covers the pixel's centre."""
    centers: tuple[np.ndarray, np.ndarray]
    """Of the windows: y of each row and x of each column, in pixels of the image."""
    peak: float
    """The largest number of any cell."""
    peak_window: np.ndarray
    """The window of that cell, the first of equal ones: x_min, y_min, x_max, y_max in pixels of the
    image, and perhaps beyond it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Axis:
    """The windows along one side of the image, in its pixels."""

    starts: np.ndarray
    ends: np.ndarray
    centers: np.ndarray

    def cover(self, length: int) -> np.ndarray:
        """Which pixels have their centre inside a window."""
        pixels = np.arange(length)[:, None] + 0.5
        is_inside = (self.starts <= pixels) & (pixels < self.ends)
        return np.asarray(is_inside.any(axis=1))

    def locate(self, length: int, blend: Blend) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """For each pixel the window before it, the one after it, and the share of the latter."""
        last = len(self.centers) - 1
        position = np.interp(np.arange(length) + 0.5, self.centers, np.arange(last + 1))
        if blend == "blocks":
            position = np.floor(position + 0.5)
        before = np.floor(position).astype(np.intp)
        return before, np.minimum(before + 1, last), (position - before).astype(np.float32)


def spread_heat(
    place: str, heat: np.ndarray, cells_xyxy: np.ndarray, size: tuple[int, int], blend: Blend
) -> HeatField:
    """Give every pixel of an image its heat.

    Args:
        place: the function that received the map, for messages.
        heat: probabilities, (rows, cols).
        cells_xyxy: the window of each cell, (rows, cols, 4), in pixels of the image.
        size: height and width of the image, in pixels.
        blend: smooth or in blocks.

    Returns:
        The field, in the frame of the image.

    Raises:
        ValueError: a shape does not fit, a number is no probability, the windows are no grid, or
            the blend has another name.
    """
    if blend not in get_args(Blend):
        raise ValueError(f"{place}: blend is {blend!r}, expected one of {get_args(Blend)}")
    _check_heat(place, heat, cells_xyxy)
    _check_windows(place, cells_xyxy)
    y, x = (_read_axis(place, cells_xyxy, name) for name in ("y", "x"))
    above, below, y_share = y.locate(size[0], blend)
    left, right, x_share = x.locate(size[1], blend)
    cells = np.clip(heat, 0, 1).astype(np.float32)
    lines = _mix(cells[above], cells[below], y_share[:, None])
    pixels = _mix(lines[:, left], lines[:, right], x_share)
    is_covered = y.cover(size[0])[:, None] & x.cover(size[1])
    row, col = np.unravel_index(np.argmax(cells), cells.shape)
    return HeatField(
        heat=np.where(is_covered, pixels, np.float32(0)),
        is_covered=is_covered,
        centers=(y.centers, x.centers),
        peak=float(cells[row, col]),
        peak_window=np.asarray(cells_xyxy[row, col], dtype=np.float64),
    )


def _mix(first: np.ndarray, second: np.ndarray, share: np.ndarray) -> np.ndarray:
    """Exact where both are equal, which weights that sum to nearly 1 are not."""
    mixed: np.ndarray = first + share * (second - first)
    return mixed


def _check_heat(place: str, heat: np.ndarray, cells_xyxy: np.ndarray) -> None:
    shapes = heat.shape, cells_xyxy.shape
    if shapes[0] != shapes[1][:2] or shapes[1][2:] != (4,) or not heat.size:
        raise ValueError(
            f"{place}: heat has the shape {shapes[0]} and cells_xyxy {shapes[1]}, "
            "expected (rows, cols) and (rows, cols, 4) with at least one cell"
        )
    # A comparison with NaN is false, so this finds it, too.
    is_sound = (heat >= -PROBABILITY_TOLERANCE) & (heat <= 1 + PROBABILITY_TOLERANCE)
    if not is_sound.all():
        row, col = _find_first(~is_sound)
        raise ValueError(
            f"{place}: heat of cell ({row}, {col}) is {heat[row, col]}, expected a probability "
            "from 0 to 1; logits go through softmax first"
        )


def _check_windows(place: str, cells_xyxy: np.ndarray) -> None:
    is_sound = np.isfinite(cells_xyxy) & np.tile(cells_xyxy[..., :2] < cells_xyxy[..., 2:], 2)
    if not is_sound.all():
        row, col = _find_first(~is_sound)
        raise ValueError(
            f"{place}: window of cell ({row}, {col}) is {cells_xyxy[row, col].tolist()}, "
            "expected finite x_min < x_max and y_min < y_max"
        )
    # The first row has every column's x, the first column every row's y.
    grid = cells_xyxy.astype(np.float64)
    grid[..., 0::2], grid[..., 1::2] = grid[:1, :, 0::2], grid[:, :1, 1::2]
    is_off = np.abs(cells_xyxy - grid) > GRID_TOLERANCE
    if is_off.any():
        row, col = _find_first(is_off)
        raise ValueError(
            f"{place}: window of cell ({row}, {col}) is {cells_xyxy[row, col].tolist()}, expected "
            f"{grid[row, col].tolist()}: windows of a row share y, windows of a column share x"
        )


def _read_axis(place: str, cells_xyxy: np.ndarray, name: str) -> _Axis:
    cells = cells_xyxy.astype(np.float64)
    starts, ends = (cells[0, :, 0::2] if name == "x" else cells[:, 0, 1::2]).T
    axis = _Axis(starts=starts, ends=ends, centers=(starts + ends) / 2)
    if not (np.diff(axis.centers) > 0).all():
        raise ValueError(
            f"{place}: window centres have {name} {axis.centers.tolist()}, expected them to grow "
            "with the cell; turn a flipped image's map and windows back first"
        )
    return axis


def _find_first(is_wrong: np.ndarray) -> tuple[int, int]:
    row, col = np.argwhere(is_wrong)[0, :2].tolist()
    return row, col
