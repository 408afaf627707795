"""What each window should say of a known image: a class, background, or no opinion.

Source: Sermanet et al. 2014, sections 4.2 and 5. The paper leaves out windows that see less than
half of the object and regresses the box in the window's own frame; which object a window with
several belongs to, and what counts as background, it does not say: here the nearest centre decides.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from jaxtyping import Float32, Int64

from overfeat.boxes import box_areas, intersection_areas

IGNORED = -1
"""Label of a window that takes no part in the classifier's loss."""


_MOST_DOUBTFUL: Final = 0.5
"""Part of a window that objects of no known class may cover in the background: COCO's evaluation
forgives a detection of which so much lies in a crowd."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TargetConfig:
    """Which windows are examples of an object, and which of the background."""

    min_visible: float = 0.5
    """Least part of the object's area inside the window (the paper's 50 % rule), 0 to 1."""
    min_size: float = 0.25
    """Least longer side of an object, as a part of the window's side."""
    max_size: float = 1.1
    """Largest longer side of an object, as a part of the window's side."""
    max_shift: float = 0.3
    """Largest distance of an object's centre from the window's, as a part of the window's side. The
    lower, the more small objects at the image's border are lost: no window is centred on those."""
    background_margin: float = 1.7
    """A window is background if no object would fit even with these limits widened by this
    factor."""

    def __post_init__(self) -> None:
        # Each is false of a NaN too.
        ranges = {
            "min_visible": (0 <= self.min_visible <= 1, "0 to 1"),
            "min_size": (0 < self.min_size < math.inf, "above 0 and finite"),
            "max_size": (self.min_size < self.max_size < math.inf, "above min_size and finite"),
            "max_shift": (0 < self.max_shift < math.inf, "above 0 and finite"),
            "background_margin": (1 <= self.background_margin < math.inf, "at least 1 and finite"),
        }
        for name, (is_inside, expected) in ranges.items():
            if not is_inside:
                msg = f"targets {name}: received {getattr(self, name)}, expected {expected}"
                raise ValueError(msg)


HALF_VISIBLE: Final = TargetConfig(
    min_visible=0.5, min_size=1e-3, max_size=1e3, max_shift=1e3, background_margin=1.0
)
"""The paper's rule for the boxes of localization and no other: a window is an example of every
object of which it sees half, be it small or large, and of the nearest if there are several."""


@dataclass(frozen=True, kw_only=True, slots=True)
class WindowTargets:
    """Labels and box edges of a set of windows."""

    labels: Int64[np.ndarray, " windows"]
    """Class of the window's object, the background's index, or `IGNORED`."""
    edges: Float32[np.ndarray, "windows 4"]
    """Top, left, bottom, right of the object in the window's frame (0 to 1); zeros without an
    object."""


def assign_targets(
    windows: Float32[np.ndarray, "windows 4"],
    boxes_xyxy: Float32[np.ndarray, "objects 4"],
    labels: Int64[np.ndarray, " objects"],
    *,
    background: int | None,
    config: TargetConfig,
) -> WindowTargets:
    """Decide what each window should say.

    Args:
        windows: Windows, all of one side, in canvas pixels.
        boxes_xyxy: The image's objects, in canvas pixels.
        labels: Class of each object, 0 or more; or `IGNORED` of what is no example of anything,
            such as a crowd, on which no window is background either, however large it is.
        background: Label of the background class; None if nothing is background, as where boxes
            alone are trained: what is no example of an object is then ignored.
        config: The limits.

    Returns:
        A label and the edges of its object for every window.
    """
    elsewhere = IGNORED if background is None else background
    if not len(boxes_xyxy):
        empty = np.zeros((len(windows), 4), dtype=np.float32)
        return WindowTargets(labels=np.full(len(windows), elsewhere, dtype=np.int64), edges=empty)
    shift, size, visible = _relate(windows, boxes_xyxy)
    fits = (shift <= config.max_shift) & (visible >= config.min_visible)
    fits &= (size >= config.min_size) & (size <= config.max_size)
    margin = config.background_margin
    near = (shift <= config.max_shift * margin) & (visible >= config.min_visible / margin)
    near &= (size >= config.min_size / margin) & (size <= config.max_size * margin)
    # The nearest object that could be meant; an object of the wrong size does not stand in its way.
    nearest = np.where(near, shift, np.inf).argmin(axis=1)
    rows = np.arange(len(windows))
    is_object = fits[rows, nearest]
    in_doubt = near.any(axis=1) | _is_covered(windows, boxes_xyxy[labels == IGNORED])
    found = np.where(in_doubt, IGNORED, elsewhere)
    assigned = np.where(is_object, labels[nearest], found).astype(np.int64)
    edges = encode_edges(boxes_xyxy[nearest], windows) * is_object[:, None]
    return WindowTargets(labels=assigned, edges=edges.astype(np.float32))


def encode_edges(
    boxes_xyxy: Float32[np.ndarray, "*n 4"], windows: Float32[np.ndarray, "*n 4"]
) -> Float32[np.ndarray, "*n 4"]:
    """Express boxes in their windows' frames: the inverse of `decode_edges`.

    Args:
        boxes_xyxy: One box per window, in canvas pixels.
        windows: Windows in canvas pixels.

    Returns:
        Top, left, bottom, right; 0 is the window's first pixel, 1 the end of its last.
    """
    origin, side = windows[..., :2], windows[..., 2:] - windows[..., :2]
    low, high = (boxes_xyxy[..., :2] - origin) / side, (boxes_xyxy[..., 2:] - origin) / side
    return np.concatenate([low[..., ::-1], high[..., ::-1]], axis=-1).astype(np.float32)


def decode_edges(
    edges: Float32[np.ndarray, "*n 4"], windows: Float32[np.ndarray, "*n 4"]
) -> Float32[np.ndarray, "*n 4"]:
    """Turn the regressor's edges into boxes; corners in the wrong order are swapped.

    Args:
        edges: Top, left, bottom, right in the windows' frames.
        windows: Windows in canvas pixels.

    Returns:
        x_min, y_min, x_max, y_max in canvas pixels.
    """
    origin, side = windows[..., :2], windows[..., 2:] - windows[..., :2]
    first, second = edges[..., 1::-1] * side + origin, edges[..., :1:-1] * side + origin
    low, high = np.minimum(first, second), np.maximum(first, second)
    return np.concatenate([low, high], axis=-1).astype(np.float32)


def _is_covered(windows: np.ndarray, boxes_xyxy: np.ndarray) -> np.ndarray:
    shared = intersection_areas(windows[:, None], boxes_xyxy[None]) / box_areas(windows)[:, None]
    return np.asarray((shared >= _MOST_DOUBTFUL).any(axis=1))


def _relate(
    windows: np.ndarray, boxes_xyxy: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Centre distance and longer side over the window's, and visible part: windows x objects."""
    side = windows[:, None, 2] - windows[:, None, 0]
    centres = (windows[:, None, :2] + windows[:, None, 2:]) / 2
    shift = np.abs((boxes_xyxy[None, :, :2] + boxes_xyxy[None, :, 2:]) / 2 - centres).max(axis=2)
    longer = (boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]).max(axis=1)[None]
    visible = intersection_areas(windows[:, None], boxes_xyxy[None])
    area = np.maximum(box_areas(boxes_xyxy), np.finfo(np.float32).tiny)
    return shift / side, longer / side, visible / area
