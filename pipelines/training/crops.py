"""One training example: a random crop at a random scale, and what its windows should say.

Every draw comes from (seed, epoch, sample) alone, so an example does not depend on who makes it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from overfeat.architectures import Architecture
from overfeat.checkpoint import CHANNELS, Normalization
from overfeat.geometry import map_size, window_boxes
from overfeat.scales import Canvas, Placement, place, render
from overfeat.targets import TargetConfig, assign_targets
from pipelines.errors import InputError
from pipelines.training.context import LowerScale, draw_lower_scale


@dataclass(frozen=True, kw_only=True, slots=True)
class CropConfig:
    """Which crops of an image training sees."""

    side: int = 245
    """Side of the square crop, in pixels of the scaled image; at least the network's window."""
    scale_jitter: float = 0.1
    """How far the scales go beyond the ladder's smallest and largest, as a factor above 0."""
    object_share: float = 0.8
    """Part of the crops that are centred near an object, if the image has one; 0 to 1."""
    spread: float = 0.4
    """How far from the object's centre these crops are centred, as a part of the side."""
    colour_jitter: float = 0.1
    """Standard deviation of the brightness and contrast changes; 0 for none."""
    portrait_fill: tuple[float, float] = (0.5, 0.95)
    """Least and largest longer side of the object of a portrait, as a part of the window's side."""
    portrait_spread: float = 0.05
    """How far from the object's centre portraits are centred, as a part of the side."""
    short_side: int = 256
    """To which the shorter side of an image is scaled before a window is cut out to be classified,
    in pixels; at least the network's window."""
    flip: float = 0.5
    """Part of the images that are mirrored, 0 to 1."""

    def __post_init__(self) -> None:
        for name in ("scale_jitter", "spread", "colour_jitter", "portrait_spread"):
            if not 0 <= getattr(self, name) < math.inf:
                flag = name.replace("_", "-")
                raise InputError(
                    f"--{flag}: received {getattr(self, name)}, expected a finite number from 0 on"
                )
        for name in ("object_share", "flip"):
            if not 0 <= getattr(self, name) <= 1:
                flag = name.replace("_", "-")
                raise InputError(f"--{flag}: received {getattr(self, name)}, expected from 0 to 1")
        if self.short_side < 1:
            raise InputError(f"--short-side: received {self.short_side}, expected at least 1")
        least, largest = self.portrait_fill
        if not 0 < least <= largest < math.inf:
            raise InputError(
                f"--portrait-fill: received {least} {largest}, expected finite numbers above 0, "
                "the least first"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingImage:
    """A decoded image and its objects."""

    pixels: NDArray[np.uint8]
    """RGB (height, width, 3)."""
    boxes_xyxy: NDArray[np.float32]
    """Objects (n, 4), in pixels of the image."""
    labels: NDArray[np.int64]
    """Class of each object (n,)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Crop:
    """What one image gives to a batch."""

    canvas: NDArray[np.float32]
    """Normalised pixels (3, side, side)."""
    labels: NDArray[np.int64]
    """Label of every window (rows * cols,)."""
    edges: NDArray[np.float32]
    """Box edges of every window (rows * cols, 4)."""
    lower: LowerScale | None
    """What the windows are told; None for a network without context."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CropMaker:
    """Draws the crops of one training: what they show, and what their windows should say."""

    architecture: Architecture
    """Whose windows are labelled."""
    normalization: Normalization
    """How pixels become inputs."""
    ladder: tuple[Canvas, ...]
    """Scales that the crops cover."""
    background: int | None
    """Label of the background; None if there is none."""
    targets: TargetConfig
    """Which windows are examples."""
    config: CropConfig
    """Size and spread of the crops."""
    context: bool
    """Whether the lower scale is drawn too."""

    def draw(self, image: TrainingImage, rng: np.random.Generator, *, portrait: bool) -> Crop:
        """Draw one crop of an image.

        Args:
            image: The image.
            rng: Source of every choice.
            portrait: Show one object, centred and filling the window: the easy examples that
                features are first learnt on. An image without objects gives an ordinary crop.

        Returns:
            Pixels and labels.

        Source:
            Sermanet et al. 2014, section 5: features learn classification first, then detection.
        """
        if portrait and len(image.boxes_xyxy):
            placement = _draw_portrait(image, rng, self.architecture.window, self.config)
        else:
            placement = _draw_placement(image, rng, self.ladder, self.config)
        draw = _choose_colours(image.pixels, rng, self.normalization, self.config)
        canvas = draw(placement)
        lower = None
        if self.context:
            lower = draw_lower_scale(
                placement, ladder=self.ladder, architecture=self.architecture, draw=draw
            )
        cells = map_size(self.architecture, self.config.side, "fine")
        windows = window_boxes(self.architecture, cells, cells, "fine").reshape(-1, 4)
        assigned = assign_targets(
            windows,
            placement.to_canvas(image.boxes_xyxy),
            image.labels,
            background=self.background,
            config=self.targets,
        )
        return Crop(canvas=canvas, labels=assigned.labels, edges=assigned.edges, lower=lower)


def _draw_placement(
    image: TrainingImage,
    rng: np.random.Generator,
    ladder: tuple[Canvas, ...],
    config: CropConfig,
) -> Placement:
    """Choose a scale between the ladder's ends, and where the crop lies."""
    height, width = image.pixels.shape[:2]
    factors = [
        place(canvas, height=height, width=width).fitted_height / height for canvas in ladder
    ]
    jitter = 1 + config.scale_jitter
    factor = np.exp(rng.uniform(np.log(min(factors) / jitter), np.log(max(factors) * jitter)))
    fitted = np.maximum(1, np.round(np.array([height, width]) * factor)).astype(int)
    centre = rng.uniform(0, 1, size=2) * fitted
    if len(image.boxes_xyxy) and rng.uniform() < config.object_share:
        box = image.boxes_xyxy[rng.integers(len(image.boxes_xyxy))]
        spread = rng.uniform(-config.spread, config.spread, size=2) * config.side
        centre = (box[[1, 0]] + box[[3, 2]]) / 2 * factor + spread
    top, left = _keep_on_image(config.side / 2 - centre, fitted, config.side)
    return _placement(image.pixels, fitted, top, left, config.side)


def _draw_portrait(
    image: TrainingImage, rng: np.random.Generator, window: int, config: CropConfig
) -> Placement:
    """Choose an object, a scale at which it fills a window, and a crop around it."""
    height, width = image.pixels.shape[:2]
    box = image.boxes_xyxy[rng.integers(len(image.boxes_xyxy))]
    longer = max(box[2] - box[0], box[3] - box[1])
    factor = rng.uniform(*config.portrait_fill) * window / longer
    fitted = np.maximum(1, np.round(np.array([height, width]) * factor)).astype(int)
    spread = rng.uniform(-config.portrait_spread, config.portrait_spread, size=2) * config.side
    centre = (box[[1, 0]] + box[[3, 2]]) / 2 * factor + spread
    top, left = np.round(config.side / 2 - centre).astype(int)
    return _placement(image.pixels, fitted, int(top), int(left), config.side)


def _placement(
    pixels: NDArray[np.uint8], fitted: NDArray[np.int_], top: int, left: int, side: int
) -> Placement:
    height, width = pixels.shape[:2]
    return Placement(
        canvas=Canvas(side, side),
        image_height=height,
        image_width=width,
        fitted_height=int(fitted[0]),
        fitted_width=int(fitted[1]),
        top=top,
        left=left,
    )


def _keep_on_image(
    corner: NDArray[np.float64], fitted: NDArray[np.int_], side: int
) -> tuple[int, int]:
    """Move a crop so that most of it is image: padding is seen as at the rim of a canvas."""
    rim = side // 5
    low, high = np.minimum(0, side - fitted) - rim, np.maximum(0, side - fitted) + rim
    top, left = np.clip(np.round(corner).astype(int), low, high)
    return int(top), int(left)


def draw_whole(
    pixels: NDArray[np.uint8],
    rng: np.random.Generator,
    *,
    window: int,
    normalization: Normalization,
    config: CropConfig,
) -> NDArray[np.float32]:
    """Draw one window anywhere on an image whose shorter side is given.

    Args:
        pixels: RGB (height, width, 3).
        rng: Source of every choice.
        window: Side of the window, in pixels.
        normalization: How pixels become inputs.
        config: The shorter side, at least the window.

    Returns:
        Normalised pixels (3, window, window).

    Source:
        Sermanet et al. 2014, section 3.1.
    """
    size = np.array(pixels.shape[:2])
    fitted = np.round(size * config.short_side / size.min()).astype(int)
    top, left = (int(-rng.integers(room + 1)) for room in fitted - window)
    placement = _placement(pixels, fitted, top, left, window)
    return _choose_colours(pixels, rng, normalization, config)(placement)


def _choose_colours(
    pixels: NDArray[np.uint8],
    rng: np.random.Generator,
    normalization: Normalization,
    config: CropConfig,
) -> Callable[[Placement], NDArray[np.float32]]:
    """Draw a change of brightness and contrast; gives what renders a crop with it."""
    gain = float(np.exp(rng.normal(0, config.colour_jitter)))
    shift = float(rng.normal(0, config.colour_jitter))
    mean = torch.tensor(normalization.mean).view(CHANNELS, 1, 1)
    std = torch.tensor(normalization.std).view(CHANNELS, 1, 1)
    channels = torch.from_numpy(pixels).permute(2, 0, 1)

    def draw(placement: Placement) -> NDArray[np.float32]:
        # (pixel - mean) / std * gain + shift, as another mean and std; padding stays 0.
        canvas = render(
            channels, placement, mean=mean - shift * std / gain, std=std / gain, in_bytes=True
        )
        return np.asarray(canvas.numpy())

    return draw
