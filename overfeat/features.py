"""From a layer's map to the feature vectors that are kept: every cell, or one for all of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32
from torch import Tensor

from overfeat.architectures import Architecture
from overfeat.geometry import Stride, receptive_field, window_boxes
from overfeat.predictions import Features
from overfeat.views import View

Pool = Literal["none", "mean", "max"]
"""`none` keeps every cell; `mean` and `max` make one vector of all cells that see the image."""

Region = Sequence[float] | Float[np.ndarray, " 4"]
"""x_min, y_min, x_max, y_max, such as the box of a detection; half-open."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FeatureConfig:
    """Which features are taken of an image."""

    layer: str | int | None = None
    """A module's name (`fc7` before its ReLU, `fc7_relu` after it) or its number in the 2014
    program; None for the last hidden layer before its ReLU."""
    pool: Pool = "mean"
    """What becomes of the cells of one scale."""

    def __post_init__(self) -> None:
        if self.pool not in {"none", "mean", "max"}:
            msg = f"feature pool: received {self.pool!r}, expected none, mean or max"
            raise ValueError(msg)


def cell_boxes(
    architecture: Architecture, module: str, rows: int, cols: int, stride: Stride
) -> Float32[np.ndarray, "rows cols 4"]:
    """Lay out what each cell of a module's map stands for.

    Args:
        architecture: The network.
        module: One of its modules.
        rows: Cells from top to bottom.
        cols: Cells from left to right.
        stride: Fine or coarse.

    Returns:
        x_min, y_min, x_max, y_max in canvas pixels, half-open: the nominal window in the
        classifier, the receptive field in the trunk.
    """
    names = architecture.module_names()
    if names.index(module) >= names.index(architecture.hidden[0].name):
        return window_boxes(architecture, rows, cols, stride)
    return receptive_field(architecture, module, stride).boxes(rows, cols)


def pool_cells(
    values: Float[Tensor, "c rows cols"], counted: Bool[np.ndarray, "rows cols"], pool: Pool
) -> Float32[np.ndarray, "n c"]:
    """Keep the counted cells of a map, or make one vector of them.

    Args:
        values: The map.
        counted: Which cells take part; at least one.
        pool: What becomes of them.

    Returns:
        One vector per counted cell, by row and column; or one in all.
    """
    cells = values[:, torch.from_numpy(counted).to(values.device)].float()
    if pool == "mean":
        cells = cells.mean(dim=1, keepdim=True)
    elif pool == "max":
        cells = cells.amax(dim=1, keepdim=True)
    vectors: Float32[np.ndarray, "n c"] = cells.T.contiguous().cpu().numpy()
    return vectors


def cells_in_region(
    boxes: Float32[np.ndarray, "rows cols 4"], region_xyxy: Region
) -> Bool[np.ndarray, "rows cols"]:
    """Choose the cells whose centres lie in a region; the nearest one if there is none.

    Args:
        boxes: What each cell stands for.
        region_xyxy: In the same frame.

    Returns:
        True for each chosen cell, at least one.
    """
    low, high = np.asarray(region_xyxy[:2]), np.asarray(region_xyxy[2:])
    centres = (boxes[..., :2] + boxes[..., 2:]) / 2
    inside = ((centres >= low) & (centres < high)).all(axis=-1)
    if not inside.any():
        distance = np.square(centres - (low + high) / 2).sum(axis=-1)
        inside[np.unravel_index(distance.argmin(), distance.shape)] = True
    return np.asarray(inside)


def collect_features(
    values: Float[Tensor, "c rows cols"],
    architecture: Architecture,
    module: str,
    view: View,
    *,
    stride: Stride,
    pool: Pool,
) -> Features:
    """Take the features of one view; cells that see only padding do not count.

    Args:
        values: The module's map.
        architecture: The network.
        module: One of its modules.
        view: Whose canvas it is, not mirrored.
        stride: Fine or coarse.
        pool: What becomes of the cells.

    Returns:
        The vectors, with the scale and the cell of each.
    """
    boxes = cell_boxes(architecture, module, values.shape[1], values.shape[2], stride)
    counted = view.placement.sees_image(boxes)
    vectors = pool_cells(values, counted, pool)
    row, col = np.nonzero(counted) if pool == "none" else (np.zeros(1), np.zeros(1))
    return Features(
        layer=module,
        scale=np.full(len(vectors), view.scale, dtype=np.int32),
        row=row.astype(np.int32),
        col=col.astype(np.int32),
        vectors=vectors,
    )


def join_features(parts: Sequence[Features]) -> Features:
    """Join the features of an image's scales.

    Args:
        parts: At least one, all of one layer.

    Returns:
        All vectors, in the order of the parts.
    """
    return Features(
        layer=parts[0].layer,
        scale=np.concatenate([part.scale for part in parts]),
        row=np.concatenate([part.row for part in parts]),
        col=np.concatenate([part.col for part in parts]),
        vectors=np.concatenate([part.vectors for part in parts]),
    )
