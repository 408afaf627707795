"""How far is a predicted box from the true one?

The paper minimises the squared difference of what the regressor says, and names the overlap of the
boxes as what should be minimised instead.

Source: Sermanet et al. 2014, sections 4.2 and 6; Girshick 2015 (smooth l1); Yu et al. 2016 (IoU);
Rezatofighi et al. 2019 (generalised IoU).
"""

from __future__ import annotations

from typing import Final, Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from overfeat.box_coding import BoxCoding, decode_boxes, encode_boxes

BoxLoss = Literal["l2", "l1", "smooth-l1", "iou", "giou"]
"""`l2`, `l1` and `smooth-l1` compare the four numbers as they are coded; `iou` and `giou` compare
the boxes."""

SMOOTH_L1_BETA: Final = 1 / 9
"""Difference from which smooth l1 is linear, in parts of the window's side: as in Faster R-CNN."""
LEAST_PART: Final = 0.1
"""Least side of a box whose overlap is trained on, as a part of the true box's, and the reverse
(assumed)."""


def compare_boxes(
    codes: Float[Tensor, "n 4"], edges: Float[Tensor, "n 4"], *, coding: BoxCoding, loss: BoxLoss
) -> Float[Tensor, " n"]:
    """Measure how far predicted boxes are from the true ones.

    Overlap teaches too little about some boxes: those turned inside out, those narrower or lower
    than `LEAST_PART` of the true one or so much wider or higher, and for `iou` those apart from it.
    Their loss is the worst that others can have (1 for `iou`, 2 for `giou`) plus the `l1` of their
    numbers: it pulls them to the true box, and falls once the overlap takes over.

    Args:
        codes: What the regressor said of each box.
        edges: True top, left, bottom, right in the windows' frames; no box turned inside out.
        coding: What the regressor's four numbers mean.
        loss: Which difference.

    Returns:
        One number from 0 on for each box; for `l2`, `l1` and `smooth-l1` the mean of its four.
    """
    true = encode_boxes(edges, coding)
    if loss == "l2":
        return F.mse_loss(codes, true, reduction="none").mean(dim=1)
    if loss == "smooth-l1":
        return F.smooth_l1_loss(codes, true, reduction="none", beta=SMOOTH_L1_BETA).mean(dim=1)
    distance = F.l1_loss(codes, true, reduction="none").mean(dim=1)
    if loss == "l1":
        return distance
    return _miss_overlap(decode_boxes(codes, coding), edges, distance, loss)


def _miss_overlap(
    said: Tensor, true: Tensor, distance: Tensor, loss: Literal["iou", "giou"]
) -> Float[Tensor, " n"]:
    """1 - IoU, or 1 - generalised IoU; of a box without an overlap to train on, its distance."""
    inner = torch.maximum(said[:, :2], true[:, :2]), torch.minimum(said[:, 2:], true[:, 2:])
    outer = torch.minimum(said[:, :2], true[:, :2]), torch.maximum(said[:, 2:], true[:, 2:])
    shared = _areas(*inner)
    # Not 0 for two empty boxes: torch.where would let the gradient of 0 / 0 through.
    tiny = torch.finfo(said.dtype).tiny
    both = _areas(said[:, :2], said[:, 2:]) + _areas(true[:, :2], true[:, 2:])
    union, around = (both - shared).clamp(tiny), _areas(*outer).clamp(tiny)
    sides, true_sides = (box[:, 2:] - box[:, :2] for box in (said, true))
    # Neither does a box many times too large: its overlap hardly changes with its size.
    is_useless = (sides < LEAST_PART * true_sides) | (true_sides < LEAST_PART * sides)
    is_useless = is_useless.any(dim=1)
    if loss == "iou":
        return torch.where(is_useless | (shared <= 0), 1 + distance, 1 - shared / union)
    return torch.where(is_useless, 2 + distance, 2 - shared / union - union / around)


def _areas(low: Tensor, high: Tensor) -> Float[Tensor, " n"]:
    return (high - low).clamp(min=0).prod(dim=1)
