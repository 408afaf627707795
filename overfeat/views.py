"""One image at one scale, mirrored or not: which views there are, and what their windows say."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32
from torch import Tensor

from overfeat.boxes import box_areas, clip_boxes, flip_boxes
from overfeat.detection import Candidates
from overfeat.geometry import Stride, window_boxes
from overfeat.network import OverFeat
from overfeat.scales import Canvas, Placement, place
from overfeat.targets import decode_edges


@dataclass(frozen=True, slots=True)
class View:
    """One image on one canvas."""

    image: int
    """Position of the image among those predicted together."""
    placement: Placement
    """Where it lies on the canvas."""
    flipped: bool
    """Whether the canvas is mirrored left to right."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ViewResult:
    """What the windows of one view say."""

    class_maxima: Float32[np.ndarray, " classes"]
    """Highest probability of each class over the windows that count, background left out."""
    candidates: Candidates | None
    """Windows that may show an object; None if detection was not asked for."""


def plan_batches(
    sizes: Sequence[tuple[int, int]], ladder: Sequence[Canvas], *, flips: bool, batch_pixels: int
) -> Iterator[list[View]]:
    """Group the views of several images into batches of equal canvases, in a fixed order.

    Args:
        sizes: Height and width of each original image, in pixels.
        ladder: The scales.
        flips: Whether to look at mirrored images too.
        batch_pixels: Canvas pixels in a batch; a larger canvas is a batch of its own.

    Yields:
        Views with the same canvas; each image has its views in the order scale, then flip.
    """
    for canvas in ladder:
        placements = [place(canvas, height=height, width=width) for height, width in sizes]
        for flipped in (False, True) if flips else (False,):
            for turned in sorted({placement.canvas for placement in placements}):
                views = [
                    View(image, placement, flipped)
                    for image, placement in enumerate(placements)
                    if placement.canvas == turned
                ]
                size = max(1, batch_pixels // (turned.height * turned.width))
                yield from (views[i : i + size] for i in range(0, len(views), size))


def evaluate_views(
    network: OverFeat,
    canvases: Float[Tensor, "b 3 h w"],
    views: Sequence[View],
    *,
    stride: Stride,
    classes: int,
    threshold: float | None,
) -> list[ViewResult]:
    """Run the network over a batch of canvases and read off what its windows say.

    Args:
        network: Trunk and heads.
        canvases: The views' canvases, normalised and mirrored where the view is, in the network's
            dtype.
        views: One per canvas, all with canvases of one size.
        stride: Fine or coarse.
        classes: How many of the outputs are classes; the background comes after them.
        threshold: Least probability of a candidate, 0 to 1; None if detection was not asked for.

    Returns:
        One result per view.
    """
    logits, edges = network(canvases, stride)
    probabilities = logits.float().softmax(dim=1)[:, :classes]
    rows, cols = probabilities.shape[-2:]
    windows = window_boxes(network.architecture, rows, cols, stride)
    results = []
    for index, view in enumerate(views):
        counted = torch.from_numpy(_counted_windows(windows, view)).to(probabilities.device)
        seen = probabilities[index].masked_fill(~counted, 0.0)
        candidates = None
        if threshold is not None:
            view_edges = None if edges is None else edges[index].float()
            candidates = _pick_candidates(seen, view_edges, windows, view, threshold)
        maxima = seen.amax(dim=(1, 2)).cpu().numpy()
        results.append(ViewResult(class_maxima=maxima, candidates=candidates))
    return results


def _counted_windows(
    windows: Float32[np.ndarray, "rows cols 4"], view: View
) -> Bool[np.ndarray, "rows cols"]:
    return view.placement.sees_image(_unflip(windows, view))


def _unflip(boxes: Float32[np.ndarray, "*n 4"], view: View) -> Float32[np.ndarray, "*n 4"]:
    return flip_boxes(boxes, width=view.placement.canvas.width) if view.flipped else boxes


def _pick_candidates(
    probabilities: Float32[Tensor, "classes rows cols"],
    edges: Float32[Tensor, "edges rows cols"] | None,
    windows: Float32[np.ndarray, "rows cols 4"],
    view: View,
    threshold: float,
) -> Candidates:
    """Take the windows above the threshold, ordered by row, column, class, with their boxes."""
    found = (probabilities.permute(1, 2, 0) >= threshold).nonzero()
    row, col, label = found.unbind(dim=1)
    values = probabilities[label, row, col].cpu().numpy()
    row_ids, col_ids, label_ids = found.cpu().numpy().T
    boxes = windows[row_ids, col_ids]
    if edges is not None:
        per_window = edges.reshape(-1, 4, *edges.shape[1:])
        regressor = label if len(per_window) > 1 else torch.zeros_like(label)
        boxes = decode_edges(per_window[regressor, :, row, col].cpu().numpy(), boxes)
    placement = view.placement
    boxes = placement.to_image(_unflip(boxes, view))
    boxes = clip_boxes(boxes, height=placement.image_height, width=placement.image_width)
    inside = box_areas(boxes) > 0
    return Candidates(
        label_ids=label_ids[inside].astype(np.int32),
        probabilities=values[inside],
        boxes_xyxy=boxes[inside],
    )
