"""What the windows of a view say: class maxima, candidates for boxes, features."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32
from torch import Tensor

from overfeat.box_coding import decode_boxes
from overfeat.boxes import box_areas, clip_boxes
from overfeat.detection import Candidates
from overfeat.features import Pool, collect_features
from overfeat.geometry import Stride, window_boxes
from overfeat.network import OverFeat, WindowValues
from overfeat.predictions import Features
from overfeat.targets import decode_edges
from overfeat.views import View


@dataclass(frozen=True, kw_only=True, slots=True)
class Question:
    """What is asked of every view."""

    classes: int
    """How many of the outputs are classes; the background comes after them."""
    stride: Stride
    """Fine or coarse."""
    threshold: float | None = None
    """Least probability of a candidate for detection, 0 to 1; None if that was not asked for."""
    top_classes: int | None = None
    """How many classes of a view are candidates for localization; None if that was not asked
    for."""
    module: str | None = None
    """Name of the module whose output are the features; None if they were not asked for."""
    pool: Pool = "mean"
    """What becomes of that module's cells."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ViewResult:
    """What the windows of one view say."""

    class_maxima: Float32[np.ndarray, " classes"]
    """Highest probability of each class over the windows that count, background left out."""
    candidates: Candidates | None = None
    """Windows that may show an object; None if detection was not asked for."""
    proposals: Candidates | None = None
    """All windows of the view's best classes; None if localization was not asked for."""
    features: Features | None = None
    """Feature vectors; None if they were not asked for, and of a mirrored view."""


def read_views(
    network: OverFeat, values: WindowValues, views: Sequence[View], question: Question
) -> list[ViewResult]:
    """Read off what the network said of a batch of canvases.

    Args:
        network: Trunk and heads.
        values: What it said.
        views: One per canvas, all with canvases of one size.
        question: What is wanted of them.

    Returns:
        One result per view.

    Raises:
        ArithmeticError: If the network gave no numbers.
    """
    if not values.logits.isfinite().all():
        msg = (
            f"network: its outputs are not finite in {values.logits.dtype}; expected numbers. "
            "float16 overflows where bfloat16 does not; else the weights are damaged"
        )
        raise ArithmeticError(msg)
    probabilities = values.logits.float().softmax(dim=1)[:, : question.classes]
    rows, cols = probabilities.shape[-2:]
    windows = window_boxes(network.architecture, rows, cols, question.stride)
    results = []
    for index, view in enumerate(views):
        sees_image = view.placement.sees_image(view.unflip(windows))
        counted = torch.from_numpy(sees_image).to(probabilities.device)
        seen = probabilities[index].masked_fill(~counted, 0.0)
        edges = None if values.codes is None else _read_edges(values.codes[index], network)
        maxima = seen.amax(dim=(1, 2))
        candidates = proposals = features = None
        if question.threshold is not None:
            found = seen >= question.threshold
            candidates = _take_candidates(found, seen, edges, windows, view)
        if question.top_classes is not None:
            found = _pick_best(maxima, question.top_classes)[:, None, None] & counted
            proposals = _take_candidates(found, seen, edges, windows, view)
        if values.tapped is not None and not view.flipped:
            features = _take_features(values.tapped[index], network, view, question)
        results.append(
            ViewResult(
                class_maxima=maxima.cpu().numpy(),
                candidates=candidates,
                proposals=proposals,
                features=features,
            )
        )
    return results


def _pick_best(maxima: Float32[Tensor, " classes"], count: int) -> Bool[Tensor, " classes"]:
    """The best classes of a view; of equals, the first ones."""
    best = maxima.argsort(descending=True, stable=True)[:count]
    return torch.zeros_like(maxima, dtype=torch.bool).index_fill(0, best, value=True)


def _read_edges(
    codes: Float[Tensor, "codes rows cols"], network: OverFeat
) -> Float32[Tensor, "regressors rows cols 4"]:
    """Edges of the boxes that a view's windows say, in the windows' frames."""
    per_window = codes.float().reshape(-1, 4, *codes.shape[1:]).movedim(1, -1)
    return decode_boxes(per_window, network.box_coding)


def _take_candidates(
    found: Bool[Tensor, "classes rows cols"],
    probabilities: Float32[Tensor, "classes rows cols"],
    edges: Float32[Tensor, "regressors rows cols 4"] | None,
    windows: Float32[np.ndarray, "rows cols 4"],
    view: View,
) -> Candidates:
    """Take the windows found, ordered by row, column, class, with their boxes in the image."""
    row, col, label = found.permute(1, 2, 0).nonzero().unbind(dim=1)
    values = probabilities[label, row, col].cpu().numpy()
    row_ids, col_ids, label_ids = (ids.cpu().numpy() for ids in (row, col, label))
    boxes = windows[row_ids, col_ids]
    if edges is not None:
        regressor = label if len(edges) > 1 else torch.zeros_like(label)
        boxes = decode_edges(edges[regressor, row, col].cpu().numpy(), boxes)
    placement = view.placement
    boxes = clip_boxes(
        view.to_image(boxes), height=placement.image_height, width=placement.image_width
    )
    inside = box_areas(boxes) > 0
    return Candidates(
        label_ids=label_ids[inside].astype(np.int32),
        probabilities=values[inside],
        boxes_xyxy=boxes[inside],
    )


def _take_features(
    tapped: Float[Tensor, "c rows cols"], network: OverFeat, view: View, question: Question
) -> Features:
    assert question.module is not None
    return collect_features(
        tapped,
        network.architecture,
        question.module,
        view,
        stride=question.stride,
        pool=question.pool,
    )
