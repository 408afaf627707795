"""What does a crop's place look like at the next lower scale, and who tells the crop of it?

In evaluation a scale is told by the one below it on the ladder, over the whole image. Training sees
crops, at scales between those of the ladder: a second crop shows the same place as many times
smaller as the nearest scale is larger than the one below it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from overfeat.architectures import Architecture
from overfeat.context import find_nearest_windows
from overfeat.geometry import map_size
from overfeat.network import OverFeat, WindowValues
from overfeat.scales import Canvas, Placement, place
from overfeat.views import View


@dataclass(frozen=True, kw_only=True, slots=True)
class LowerScale:
    """What a crop is told from."""

    canvas: NDArray[np.float32]
    """Normalised pixels (3, side, side) of the same place at the lower scale."""
    rows: NDArray[np.float32]
    """Row of the lower map that tells each row of the crop's: a 1 among zeros (rows, lower_rows);
    zeros alone where nothing is told."""
    cols: NDArray[np.float32]
    """The same of the columns (cols, lower_cols)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LowerBatch:
    """Lower scales of a batch."""

    canvases: Tensor
    """Normalised pixels (b, 3, side, side), float32."""
    rows: Tensor
    """As in `LowerScale` (b, rows, lower_rows), float32."""
    cols: Tensor
    """As in `LowerScale` (b, cols, lower_cols), float32."""


def join_lower_scales(scales: Sequence[LowerScale]) -> LowerBatch:
    """Put lower scales side by side.

    Args:
        scales: At least one, of equal size.

    Returns:
        The batch.
    """
    return LowerBatch(
        canvases=torch.from_numpy(np.stack([one.canvas for one in scales])),
        rows=torch.from_numpy(np.stack([one.rows for one in scales])),
        cols=torch.from_numpy(np.stack([one.cols for one in scales])),
    )


def make_blank_lower_scale(side: int, cells: int) -> LowerScale:
    """Make one that tells nothing.

    Args:
        side: Of the square canvas, in pixels.
        cells: Rows, and columns, of its output map.

    Returns:
        Mean colour, and zeros.
    """
    nothing = np.zeros((cells, cells), np.float32)
    return LowerScale(canvas=np.zeros((3, side, side), np.float32), rows=nothing, cols=nothing)


def draw_lower_scale(
    placement: Placement,
    *,
    ladder: Sequence[Canvas],
    architecture: Architecture,
    draw: Callable[[Placement], NDArray[np.float32]],
) -> LowerScale:
    """Draw what a crop is told from.

    Args:
        placement: Where the image lies on the crop's square canvas.
        ladder: The scales of evaluation, the smallest first.
        architecture: The network.
        draw: Draws the image as it is placed, in the crop's colours.

    Returns:
        The place at the scale below the one of the ladder that is nearest to the crop's; if that
        is the lowest, nothing is told.
    """
    side = placement.canvas.height
    cells = map_size(architecture, side, "fine")
    sizes = [
        place(canvas, height=placement.image_height, width=placement.image_width)
        for canvas in ladder
    ]
    scale = _find_nearest_scale(placement, sizes)
    if scale == 0:
        # Its own pixels: a blank canvas would spoil what batch normalisation learns of images.
        return replace(make_blank_lower_scale(side, cells), canvas=draw(placement))
    # The crop lies between the scales: so does the one that tells it.
    ratio = placement.fitted_height / sizes[scale].fitted_height
    within = _find_reach(sizes[scale - 1], ratio, architecture.window)
    lower = _place_lower(placement, sizes[scale - 1], ratio, within)
    nearest = find_nearest_windows(
        architecture,
        lower_view=View(0, lower, flipped=False),
        view=View(0, placement, flipped=False),
        lower_shape=(cells, cells),
        shape=(cells, cells),
        stride="fine",
        within=within,
    )
    chosen = np.eye(cells, dtype=np.float32)
    return LowerScale(canvas=draw(lower), rows=chosen[nearest.rows], cols=chosen[nearest.cols])


def _find_nearest_scale(placement: Placement, sizes: Sequence[Placement]) -> int:
    ratios = [one.fitted_height / placement.fitted_height for one in sizes]
    # Of equal ones the last: in evaluation it is told by the other.
    return len(ratios) - 1 - int(np.abs(np.log(ratios[::-1])).argmin())


def _find_reach(below: Placement, ratio: float, window: int) -> NDArray[np.float32]:
    """Where windows of the lower scale are centred: on its canvas, as in evaluation.

    x_min, y_min, x_max, y_max in pixels of the image.
    """
    canvas = below.canvas
    frame = below.to_image(np.array([0, 0, canvas.width, canvas.height], np.float32))
    half = window / 2 / ratio * below.image_height / below.fitted_height
    middle = (frame[:2] + frame[2:]) / 2
    low, high = np.minimum(frame[:2] + half, middle), np.maximum(frame[2:] - half, middle)
    return np.concatenate([low, high]).astype(np.float32)


def _place_lower(
    placement: Placement, below: Placement, ratio: float, within: NDArray[np.float32]
) -> Placement:
    """Centre the lower crop on what the crop shows, or on the nearest place that it may tell of."""
    side = placement.canvas.height
    middle = placement.to_image(np.full(4, side / 2, np.float32))[:2]
    x, y = np.clip(middle, within[:2], within[2:])
    height = max(1, round(below.fitted_height * ratio))
    width = max(1, round(below.fitted_width * ratio))
    return Placement(
        canvas=placement.canvas,
        image_height=placement.image_height,
        image_width=placement.image_width,
        fitted_height=height,
        fitted_width=width,
        top=round(side / 2 - float(y) * height / placement.image_height),
        left=round(side / 2 - float(x) * width / placement.image_width),
    )


class TwoScales(nn.Module):
    """A network that is told by the lower scale, as one module: one call to hang gradients on.

    Batch normalisation sees both scales, each by itself, and remembers what they have in common.
    """

    def __init__(self, network: OverFeat) -> None:
        """Wrap a network.

        Args:
            network: One with context.
        """
        super().__init__()
        self.network = network

    def forward(self, canvases: Tensor, lower: Tensor, rows: Tensor, cols: Tensor) -> WindowValues:
        """Evaluate a batch of crops.

        Args:
            canvases: Normalised pixels (b, 3, side, side).
            lower: Of `LowerBatch`: its canvases,
            rows: its rows,
            cols: and its columns.

        Returns:
            Logits and boxes, one cell per window of the crops.
        """
        told = self.network.tell(lower, "fine")
        # A product, not an index: the gradients of an index are added up in any order.
        chosen = rows.to(told.dtype)[:, None] @ told @ cols.to(told.dtype)[:, None].mT
        values: WindowValues = self.network(canvases, "fine", context=chosen, tell=False)
        return values
