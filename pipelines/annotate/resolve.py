"""What becomes of a run's settings once its checkpoints are known, before anything starts?"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import torch

from overfeat.checkpoint import CHANNELS, CheckpointConfig
from overfeat.member import plan_views
from overfeat.predict_config import PredictConfig
from overfeat.views import ViewPlan
from overfeat.zoo import get_architecture
from pipelines.annotate.config import AnnotateConfig
from pipelines.annotate.stages import SLICE_PIXEL_BYTES
from pipelines.errors import InputError
from pipelines.weights import ModelFiles

logger = logging.getLogger(__name__)

MAX_FEATURE_BYTES: Final = 2**30
"""Vectors of a slice (assumed): a worker holds them three times while it collects or encodes them,
and a node has more than one worker."""

_LONG_SIDES: Final = 4
"""How many times as long as its short side an image is that a slice full of must fit (assumed): all
of it is kept where crops are cut from it. A longer one may be refused by itself."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FeatureShape:
    """How large the features of one image are, known without an image."""

    layer: str
    """The module that they are the output of."""
    channels: int
    """Numbers in a vector."""
    vectors: int
    """Most vectors of an image: cells that see only padding are left out."""

    @property
    def image_bytes(self) -> int:
        """Most bytes of an image's vectors."""
        return self.vectors * self.channels * torch.float32.itemsize


@dataclass(frozen=True, kw_only=True, slots=True)
class ResolvedModel:
    """What a run does with its model."""

    digest: str
    """Of the checkpoint, or of the committee."""
    plans: tuple[ViewPlan, ...]
    """How each checkpoint's network looks at images."""
    features: FeatureShape | None
    """None if they are not asked for."""


def resolve_model(config: AnnotateConfig, files: ModelFiles) -> ResolvedModel:
    """Fit a command to its checkpoints.

    Args:
        config: What the user said.
        files: The model.

    Returns:
        Views and features.

    Raises:
        InputError: If a canvas has no room for one of a network's windows, there is no such
            feature layer, or a slice would have too many bytes of pixels or features.
    """
    predict = config.predict_config()
    try:
        plans = tuple(plan_views(member.config, predict) for member in files.members)
    except ValueError as error:
        raise InputError(f"--{error}") from error
    _check_pixel_bytes(config, plans)
    if "detect" in config.tasks:
        _warn_of_windows(config, files)
    features = None
    if "features" in config.tasks:
        try:
            features = _measure_features(predict, files.members[0].config, plans[0])
        except ValueError as error:
            raise InputError(f"--feature-{error}") from error
        _check_feature_bytes(config, features)
    return ResolvedModel(digest=files.digest, plans=plans, features=features)


def _check_pixel_bytes(config: AnnotateConfig, plans: Sequence[ViewPlan]) -> None:
    """Refuse slices that the engine would split.

    Raises:
        InputError: If a slice's images may be so large.
    """
    views = [view for plan in plans for view in plan.place(height=1, width=_LONG_SIDES)]
    size = CHANNELS * max(max(v.canvas.area, v.fitted_height * v.fitted_width) for v in views)
    images = _count_slice_images(config)
    if images * size > SLICE_PIXEL_BYTES:
        fitting = SLICE_PIXEL_BYTES // size
        advice = f"lower --slice-size to {fitting}" if fitting else "choose smaller --scales"
        raise InputError(
            f"--slice-size: {images:,} images of up to {size:,} bytes of pixels are "
            f"{images * size:,} bytes, expected at most {SLICE_PIXEL_BYTES:,}; {advice}"
        )


def _count_slice_images(config: AnnotateConfig) -> int:
    """Most images in a slice."""
    return min(config.slice_size, config.limit or config.slice_size)


def _warn_of_windows(config: AnnotateConfig, files: ModelFiles) -> None:
    """Say that boxes will be no objects' outlines: nobody sees it in the table."""
    blind = [
        name
        for name, member in zip(config.weights, files.members, strict=True)
        if member.config.regressor == "none"
    ]
    if blind:
        logger.warning(
            "--weights %s: has no box regressor, so that its boxes are whole windows around what "
            "it found; put one on it with overfeat train --task localize, or leave boxes out with "
            "--tasks classify",
            " ".join(blind),
        )


def _measure_features(
    predict: PredictConfig, checkpoint: CheckpointConfig, plan: ViewPlan
) -> FeatureShape:
    """Run the network over one canvas of each view on torch's device that computes shapes alone."""
    layer = get_architecture(checkpoint.architecture).find_module(predict.features.layer)
    network = checkpoint.build_network().to("meta")
    vectors = channels = 0
    # A portrait image has the same maps, turned.
    for canvas in (placement.canvas for placement in plan.place(height=1, width=1)):
        pixels = torch.empty(1, CHANNELS, canvas.height, canvas.width, device="meta")
        found = network.activations(pixels, layer=layer, stride=predict.stride)
        _, channels, rows, cols = found.shape
        vectors += rows * cols if predict.features.pool == "none" else 1
    return FeatureShape(layer=layer, channels=channels, vectors=vectors)


def _check_feature_bytes(config: AnnotateConfig, features: FeatureShape) -> None:
    size = features.image_bytes
    images = _count_slice_images(config)
    if images * size <= MAX_FEATURE_BYTES:
        return
    fitting = MAX_FEATURE_BYTES // size
    advice = f"lower --slice-size to {fitting}" if fitting else "choose other --scales"
    pooled = " or pool them: --feature-pool mean" if config.feature_pool == "none" else ""
    raise InputError(
        f"--tasks features: {features.layer} has up to {size:,} bytes an image, {images * size:,} "
        f"in a slice of {images}, expected at most {MAX_FEATURE_BYTES:,}; {advice}{pooled}"
    )
