"""What a user asks of a model: how images are looked at, and what is reported of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

from overfeat.detection import MergedClasses
from overfeat.features import FeatureConfig
from overfeat.geometry import Stride
from overfeat.localization import LocalizeConfig
from overfeat.merge import MERGES, GreedyMerge, MergeConfig
from overfeat.scales import Canvas
from overfeat.views import Views

Task = Literal["classify", "localize", "detect", "features"]
"""Best classes; best classes with a box each; all objects; feature vectors."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PredictConfig:
    """How images are looked at, and what is reported of them."""

    views: Views = "dense"
    """All windows at every scale, or the crops of an older protocol."""
    scales: tuple[Canvas, ...] = ()
    """Ladder of scales; empty for the checkpoint's own."""
    stride: Stride = "fine"
    """`fine` takes the last pooling at every offset, `coarse` at offset 0 alone."""
    flips: bool = False
    """Look at the mirrored image too: twice the work."""
    score_threshold: float = 0.5
    """Least class probability of a window that takes part in detection, and so of a box; 0 to 1."""
    max_boxes: int = 100
    """Boxes kept per image, at least 1."""
    merge: MergeConfig = field(default_factory=GreedyMerge)
    """How the windows' boxes are merged in detection."""
    merged_classes: MergedClasses = "each"
    """Whether only boxes of one class are merged, or boxes of any."""
    localize: LocalizeConfig = field(default_factory=LocalizeConfig)
    """How the guesses of localization are made."""
    features: FeatureConfig = field(default_factory=FeatureConfig)
    """Which features are taken; they come from the image as it is, never from its mirror image."""
    top_classes: int = 5
    """Classes reported per image, at least 1."""
    batch_pixels: int = 2_000_000
    """Canvas pixels evaluated at once (assumed: 1 GB of activations with the widest network)."""

    def __post_init__(self) -> None:
        _check_choices(self)
        if not 0 < self.score_threshold <= 1:
            msg = (
                f"score threshold: received {self.score_threshold}, expected above 0 and at most 1"
            )
            raise ValueError(msg)
        for name in ("max_boxes", "top_classes", "batch_pixels"):
            if getattr(self, name) < 1:
                msg = f"{name}: received {getattr(self, name)}, expected at least 1"
                raise ValueError(msg)
        if self.scales and self.views != "dense":
            msg = f"scales: received them with views {self.views!r}, which has no ladder; drop one"
            raise ValueError(msg)


def _check_choices(config: PredictConfig) -> None:
    scales: Sequence[object] = config.scales
    for canvas in scales:
        if not isinstance(canvas, Canvas):
            expected = "expected Canvas objects, such as Canvas.parse('281x317')"
            raise TypeError(f"scales: received {canvas!r}, {expected}")
    for name, choices in (
        ("views", get_args(Views)),
        ("stride", get_args(Stride)),
        ("merged_classes", get_args(MergedClasses)),
    ):
        if getattr(config, name) not in choices:
            expected = f"expected one of {', '.join(choices)}"
            raise ValueError(f"{name}: received {getattr(config, name)!r}, {expected}")
    kinds = tuple(MERGES.values())
    if not isinstance(config.merge, kinds):
        expected = f"expected one of {', '.join(kind.__name__ for kind in kinds)}"
        raise TypeError(f"merge: received {config.merge!r}, {expected}")
