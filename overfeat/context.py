"""Context: each scale's classifier is also told what the next lower scale saw at the same place.

"Each scale also uses lower resolution scales as input" is all that the paper says (section 5, and
the caption of figure 11). Here the lower scale's pooled map goes through a layer of its own, as
wide as the classifier's first one, and each window adds the values of the lower scale's window
whose centre is nearest to its own in the image. The lowest scale is told nothing.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from overfeat.architectures import Architecture
from overfeat.geometry import Stride, window_boxes
from overfeat.views import View


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
    rows, cols = (
        _find_nearest(ours, theirs)
        for ours, theirs in zip(
            _find_centres(architecture, view, shape, stride),
            _find_centres(architecture, lower_view, (lower.shape[1], lower.shape[2]), stride),
            strict=True,
        )
    )
    return lower[:, rows[:, None].to(lower.device), cols[None, :].to(lower.device)]


def _find_centres(
    architecture: Architecture, view: View, shape: tuple[int, int], stride: Stride
) -> tuple[np.ndarray, np.ndarray]:
    """The windows' centres in the image: y of each row, x of each column."""
    windows = view.to_image(window_boxes(architecture, *shape, stride))
    centres = (windows[..., :2] + windows[..., 2:]) / 2
    return centres[:, 0, 1], centres[0, :, 0]


def _find_nearest(ours: np.ndarray, theirs: np.ndarray) -> Int64[Tensor, " n"]:
    return torch.from_numpy(np.abs(ours[:, None] - theirs[None, :]).argmin(axis=1))
