"""What the four numbers that a regressor says of a box mean, in the frame of its window.

In that frame 0 is the window's first pixel and 1 the end of its last. Whatever the coding, training
and prediction know a box by its edges there: top, left, bottom, right.

Source: Sermanet et al. 2014, section 4.2 and figure 8 (edges), 6 (other parameterizations).
"""

from __future__ import annotations

from typing import Final, Literal

import torch
from jaxtyping import Float
from torch import Tensor

BoxCoding = Literal["edges", "centre-size"]
"""`edges`: top, left, bottom, right, as in the paper. `centre-size`: the row and column of the
box's centre from the window's centre, in parts of the window's side, then the logarithms of height
and width over that side; four zeros are the window itself."""

LOG_SIZE_LIMIT: Final = 10.0
"""Largest absolute logarithm of a size: e**10 windows, which no box reaches, and a hundredth of a
pixel. Without it a wild regressor's box would be infinite, and an empty box's code too."""


def encode_boxes(edges: Float[Tensor, "*n 4"], coding: BoxCoding) -> Float[Tensor, "*n 4"]:
    """Express boxes as a regressor should say them: the inverse of `decode_boxes`.

    Args:
        edges: Top, left, bottom, right in the windows' frames.
        coding: What the four numbers mean.

    Returns:
        Four numbers per box.
    """
    if coding == "edges":
        return edges
    low, high = edges[..., :2], edges[..., 2:]
    centre = (low + high) / 2 - 0.5
    log_size = (high - low).clamp(min=0).log().clamp(-LOG_SIZE_LIMIT, LOG_SIZE_LIMIT)
    return torch.cat([centre, log_size], dim=-1)


def decode_boxes(codes: Float[Tensor, "*n 4"], coding: BoxCoding) -> Float[Tensor, "*n 4"]:
    """Read what a regressor said.

    Args:
        codes: Four numbers per box.
        coding: What they mean.

    Returns:
        Top, left, bottom, right in the windows' frames. With the coding `edges` a box may be turned
        inside out.
    """
    if coding == "edges":
        return codes
    centre = codes[..., :2] + 0.5
    half = codes[..., 2:].clamp(-LOG_SIZE_LIMIT, LOG_SIZE_LIMIT).exp() / 2
    return torch.cat([centre - half, centre + half], dim=-1)
