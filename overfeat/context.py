"""Context: each scale's classifier is also told what the next lower scale saw at the same place.

"Each scale also uses lower resolution scales as input" is all that the paper says (section 5, and
the caption of figure 11). Here the lower scale's pooled map goes through a layer of its own, as
wide as the classifier's first one, and each window adds the values of the lower scale's window
whose centre is nearest to its own in the image. The lowest scale is told nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from overfeat.architectures import Architecture
from overfeat.geometry import Stride, window_boxes
from overfeat.views import View


@dataclass(frozen=True, kw_only=True, slots=True)
class Alignment:
    """Which window of the lower scale tells each window of a view."""

    rows: Int64[np.ndarray, " rows"]
    """Row of the lower scale's map for each row."""
    cols: Int64[np.ndarray, " cols"]
    """Column of the lower scale's map for each column."""


def find_nearest_windows(
    architecture: Architecture,
    *,
    lower_view: View,
    view: View,
    lower_shape: tuple[int, int],
    shape: tuple[int, int],
    stride: Stride,
    within: Float[np.ndarray, 4] | None = None,
) -> Alignment:
    """Find for every window of a view the lower scale's window whose centre is nearest to its own.

    Args:
        architecture: The network.
        lower_view: The same image at the lower scale, mirrored like `view`.
        view: The image at this scale.
        lower_shape: Rows and columns of the lower scale's output map.
        shape: Rows and columns of this scale's output map.
        stride: Fine or coarse.
        within: x_min, y_min, x_max, y_max in which centres of lower windows may lie, in pixels of
            the image, if they may not lie everywhere.

    Returns:
        Their places; of two windows equally near the first one counts.
    """
    ours = _find_centres(architecture, view, shape, stride)
    theirs = _find_centres(architecture, lower_view, lower_shape, stride)
    if within is not None:
        x_min, y_min, x_max, y_max = within
        ours = np.clip(ours[0], y_min, y_max), np.clip(ours[1], x_min, x_max)
    rows, cols = (_find_nearest(*pair) for pair in zip(ours, theirs, strict=True))
    return Alignment(rows=rows, cols=cols)


def align_context(
    lower: Float[Tensor, "hidden lower_rows lower_cols"],
    architecture: Architecture,
    *,
    lower_view: View,
    view: View,
    shape: tuple[int, int],
    stride: Stride,
) -> Float[Tensor, "hidden rows cols"]:
    """Give every window of a view the values of the nearest window of the lower scale.

    Args:
        lower: What the lower scale's windows tell.
        architecture: The network.
        lower_view: The same image at the lower scale, mirrored like `view`.
        view: The image at this scale.
        shape: Rows and columns of this scale's output map.
        stride: Fine or coarse.

    Returns:
        One column of values per window; of two windows equally near the first one counts.
    """
    nearest = find_nearest_windows(
        architecture,
        lower_view=lower_view,
        view=view,
        lower_shape=(lower.shape[1], lower.shape[2]),
        shape=shape,
        stride=stride,
    )
    rows, cols = (torch.from_numpy(one).to(lower.device) for one in (nearest.rows, nearest.cols))
    return lower[:, rows[:, None], cols[None, :]]


def _find_centres(
    architecture: Architecture, view: View, shape: tuple[int, int], stride: Stride
) -> tuple[np.ndarray, np.ndarray]:
    """The windows' centres in the image: y of each row, x of each column."""
    windows = view.to_image(window_boxes(architecture, *shape, stride))
    centres = (windows[..., :2] + windows[..., 2:]) / 2
    return centres[:, 0, 1], centres[0, :, 0]


def _find_nearest(ours: np.ndarray, theirs: np.ndarray) -> Int64[np.ndarray, " n"]:
    return np.asarray(np.abs(ours[:, None] - theirs[None, :]).argmin(axis=1))
