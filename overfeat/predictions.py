"""What a model says of an image: frozen records of NumPy arrays, named like the tables' columns."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Int32


@dataclass(frozen=True, kw_only=True, slots=True)
class Classification:
    """The best classes of an image, best first."""

    label_ids: Int32[np.ndarray, " n"]
    """Positions in the model's classes."""
    labels: tuple[str, ...]
    """Their names."""
    scores: Float32[np.ndarray, " n"]
    """Probabilities, 0 to 1: spatial maximum, averaged over scales and flips."""

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, kw_only=True, slots=True)
class Detections:
    """The objects found in an image; positions in the arrays are ranks, most evidence first."""

    label_ids: Int32[np.ndarray, " n"]
    """Positions in the model's classes."""
    labels: tuple[str, ...]
    """Their names."""
    scores: Float32[np.ndarray, " n"]
    """Highest class probability among the merged windows, 0 to 1."""
    evidence: Float32[np.ndarray, " n"]
    """Sum of the class probabilities of the merged windows: it ranks."""
    boxes_xyxy: Float32[np.ndarray, "n 4"]
    """x_min, y_min, x_max, y_max in pixels of the image, half-open, inside it."""
    n_windows: Int32[np.ndarray, " n"]
    """How many windows of the label's class were merged into each box."""
    truncated_boxes: bool
    """Whether boxes were left out because there were more than the limit."""

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, kw_only=True, slots=True)
class Guesses:
    """What an image shows and where, best guess first, each of another class."""

    label_ids: Int32[np.ndarray, " n"]
    """Positions in the model's classes."""
    labels: tuple[str, ...]
    """Their names."""
    scores: Float32[np.ndarray, " n"]
    """Highest class probability among the merged windows, 0 to 1; the guesses are ranked by its
    sum."""
    boxes_xyxy: Float32[np.ndarray, "n 4"]
    """x_min, y_min, x_max, y_max in pixels of the image, half-open, inside it."""

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, kw_only=True, slots=True)
class Features:
    """Feature vectors of an image, by scale, row and column."""

    layer: str
    """The module that they are the output of."""
    scale: Int32[np.ndarray, " n"]
    """Position of the scale in the ladder, or of the crop among the crops."""
    row: Int32[np.ndarray, " n"]
    """Cell of the layer's map; 0 when pooled."""
    col: Int32[np.ndarray, " n"]
    """Cell of the layer's map; 0 when pooled."""
    vectors: Float32[np.ndarray, "n channels"]
    """The values."""

    def __len__(self) -> int:
        return len(self.vectors)


@dataclass(frozen=True, kw_only=True, slots=True)
class ClassMap:
    """What every window of one scale says of every class."""

    canvas: str
    """The scale, such as `281x317`, turned for the image."""
    probabilities: Float32[np.ndarray, "classes rows cols"]
    """After the softmax, background left out; 0 where a window sees only padding."""
    windows_xyxy: Float32[np.ndarray, "rows cols 4"]
    """The windows, in pixels of the original image; some reach beyond it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Prediction:
    """All that was asked of one image; what was not asked is None."""

    classification: Classification | None = None
    """The best classes."""
    guesses: Guesses | None = None
    """The best classes with a box each."""
    detections: Detections | None = None
    """The objects found."""
    features: Features | None = None
    """Feature vectors."""
