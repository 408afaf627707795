"""Image -> predictions: the network over all scales and flips, and what becomes of its windows.

One class, `Predictor`, is the model that users hold; `annotate` calls the same `predict`, so that
a row of the tables and a result in Python are made by the same lines.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeVar, overload

import numpy as np
import torch
from jaxtyping import Float, Float32, UInt8
from torch import Tensor

from overfeat.checkpoint import CHANNELS, CheckpointConfig, load_checkpoint
from overfeat.detection import find_objects
from overfeat.geometry import Stride
from overfeat.merge import MergeConfig
from overfeat.network import OverFeat
from overfeat.predictions import Classification, Detections, Prediction
from overfeat.scales import Canvas, check_ladder, place, render, shrink
from overfeat.views import View, ViewResult, evaluate_views, plan_batches

Dtype = Literal["float32", "bfloat16", "float16"]
"""Number format of weights and activations; softmax, boxes and merging are always float32 or
better."""
Task = Literal["classify", "detect"]

Image = UInt8[np.ndarray, "_h _w 3"]
Features = Float32[np.ndarray, "c rows cols"]
_Result = TypeVar("_Result")

_TORCH_DTYPES = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class PredictConfig:
    """How images are looked at, and what is reported of them."""

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
    merge: MergeConfig = field(default_factory=MergeConfig)
    """How the windows' boxes are merged."""
    top_classes: int = 5
    """Classes reported per image, at least 1."""
    batch_pixels: int = 2_000_000
    """Canvas pixels evaluated at once (assumed: 1 GB of activations with the widest network)."""

    def __post_init__(self) -> None:
        if not 0 < self.score_threshold <= 1:
            msg = (
                f"score threshold: received {self.score_threshold}, expected above 0 and at most 1"
            )
            raise ValueError(msg)
        for name in ("max_boxes", "top_classes", "batch_pixels"):
            if getattr(self, name) < 1:
                msg = f"{name}: received {getattr(self, name)}, expected at least 1"
                raise ValueError(msg)


@dataclass(frozen=True, kw_only=True, slots=True)
class PreparedImage:
    """An image reduced to what its largest scale needs, with the size that it had."""

    pixels: UInt8[np.ndarray, "h w 3"]
    """RGB."""
    height: int
    """Rows of the original image, in pixels."""
    width: int
    """Columns of the original image, in pixels."""


class Predictor:
    """A model to use: `classify`, `detect` and `extract` on RGB uint8 images (height, width, 3)."""

    def __init__(
        self,
        config: CheckpointConfig,
        network: OverFeat,
        *,
        device: str | None = None,
        dtype: Dtype = "float32",
    ) -> None:
        """Put a network on its device.

        Args:
            config: What the checkpoint says of the network.
            network: The network; it is moved and cast, not copied.
            device: Such as `cpu` or `cuda:1`; None for a GPU where there is one.
            dtype: Number format of the weights and activations.
        """
        self.config = config
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self.dtype = _TORCH_DTYPES[dtype]
        network = network.eval().to(device=self.device, dtype=self.dtype)
        self.network: OverFeat = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stub lacks it
        statistics = (config.normalization.mean, config.normalization.std)
        self._mean, self._std = (
            torch.tensor(values, dtype=torch.float32, device=self.device).view(3, 1, 1)
            for values in statistics
        )

    @overload
    def classify(self, images: Image, config: PredictConfig | None = ...) -> Classification: ...
    @overload
    def classify(
        self, images: Sequence[Image], config: PredictConfig | None = ...
    ) -> list[Classification]: ...
    def classify(
        self, images: Image | Sequence[Image], config: PredictConfig | None = None
    ) -> Classification | list[Classification]:
        """Name what images show: spatial maximum per class, mean over scales and flips.

        Args:
            images: One RGB image or a list of them, of any size.
            config: Scales, stride, flips.

        Returns:
            The best classes of each image; a list for a list.

        Source:
            Sermanet et al. 2014, section 3.3.
        """

        def pick(prediction: Prediction) -> Classification:
            assert prediction.classification is not None
            return prediction.classification

        return self._predict_any(images, config, "classify", pick)

    @overload
    def detect(self, images: Image, config: PredictConfig | None = ...) -> Detections: ...
    @overload
    def detect(
        self, images: Sequence[Image], config: PredictConfig | None = ...
    ) -> list[Detections]: ...
    def detect(
        self, images: Image | Sequence[Image], config: PredictConfig | None = None
    ) -> Detections | list[Detections]:
        """Find the objects of images.

        Args:
            images: One RGB image or a list of them, of any size.
            config: Scales, stride, flips, thresholds.

        Returns:
            The boxes of each image in its own pixels; a list for a list.

        Source:
            Sermanet et al. 2014, sections 4.3 and 5.
        """

        def pick(prediction: Prediction) -> Detections:
            assert prediction.detections is not None
            return prediction.detections

        return self._predict_any(images, config, "detect", pick)

    @overload
    def extract(
        self, images: Image, *, layer: str | int | None = ..., stride: Stride = ...
    ) -> Features: ...
    @overload
    def extract(
        self, images: Sequence[Image], *, layer: str | int | None = ..., stride: Stride = ...
    ) -> list[Features]: ...
    def extract(
        self,
        images: Image | Sequence[Image],
        *,
        layer: str | int | None = None,
        stride: Stride = "coarse",
    ) -> Features | list[Features]:
        """Compute the features of images as they are: no resize, no crop.

        Args:
            images: One RGB image or a list of them, at least one window (221 or 231 pixels) high
                and wide.
            layer: A module's name (`fc7` before its ReLU, `fc7_relu` after it) or the 2014
                program's number; None for the last hidden layer before its ReLU.
            stride: Fine or coarse; the 2014 program knew coarse alone.

        Returns:
            The module's output for each image, a copy; a list for a list.

        Raises:
            ValueError: If an image is too small or there is no such layer.
        """
        if isinstance(images, np.ndarray):
            return self._extract_one(images, layer, stride)
        return [self._extract_one(image, layer, stride) for image in images]

    @torch.inference_mode()
    def _extract_one(self, image: Image, layer: str | int | None, stride: Stride) -> Features:
        pixels = _check_image(image)
        window = self.network.architecture.window
        height, width = pixels.shape[:2]
        if min(height, width) < window:
            msg = f"image: received {height}x{width} pixels, expected at least {window}x{window}"
            raise ValueError(msg)
        canvas = Canvas(min(height, width), max(height, width))
        whole = place(canvas, height=height, width=width)
        canvases = self._draw([self._upload(pixels)], [View(0, whole, flipped=False)])
        name = self._layer_name(layer)
        values = self.network.activations(canvases, layer=name, stride=stride)
        features: Features = values[0].float().cpu().numpy()
        return features

    def prepare(self, image: Image, config: PredictConfig) -> PreparedImage:
        """Reduce an image to what its largest scale needs.

        Args:
            image: RGB, of any size.
            config: The scales.

        Returns:
            What `predict` takes.
        """
        height, width = _check_image(image).shape[:2]
        pixels = shrink(image, self.ladder(config))
        return PreparedImage(pixels=pixels, height=height, width=width)

    @torch.inference_mode()
    def predict(
        self, images: Sequence[PreparedImage], config: PredictConfig, tasks: Sequence[Task]
    ) -> list[Prediction]:
        """Evaluate several images together; the batches depend on the images alone.

        Args:
            images: Prepared images, in a fixed order.
            config: Scales, stride, flips, thresholds.
            tasks: What is asked of them.

        Returns:
            One prediction per image, in the same order.
        """
        ladder = self.ladder(config)
        pixels = [self._upload(image.pixels) for image in images]
        sizes = [(image.height, image.width) for image in images]
        seen: list[list[ViewResult]] = [[] for _ in images]
        for views in plan_batches(
            sizes, ladder, flips=config.flips, batch_pixels=config.batch_pixels
        ):
            results = evaluate_views(
                self.network,
                self._draw(pixels, views),
                views,
                stride=config.stride,
                classes=len(self.config.classes),
                threshold=config.score_threshold if "detect" in tasks else None,
            )
            for view, result in zip(views, results, strict=True):
                seen[view.image].append(result)
        return [self._conclude(results, config, tasks) for results in seen]

    def ladder(self, config: PredictConfig) -> tuple[Canvas, ...]:
        """Resolve the scales in use: the configuration's, the checkpoint's, the architecture's.

        Args:
            config: May name scales.

        Returns:
            At least one canvas.

        Raises:
            ValueError: If a canvas has no room for a window.
        """
        scales = config.scales or self.config.ladder
        check_ladder(scales, window=self.network.architecture.window)
        return scales

    def _predict_any(
        self,
        images: Image | Sequence[Image],
        config: PredictConfig | None,
        task: Task,
        pick: Callable[[Prediction], _Result],
    ) -> _Result | list[_Result]:
        config = config or PredictConfig()
        alone = isinstance(images, np.ndarray)
        several = [images] if isinstance(images, np.ndarray) else images
        prepared = [self.prepare(image, config) for image in several]
        results = [pick(prediction) for prediction in self.predict(prepared, config, (task,))]
        return results[0] if alone else results

    def _conclude(
        self, views: Sequence[ViewResult], config: PredictConfig, tasks: Sequence[Task]
    ) -> Prediction:
        """Sum up all views of one image."""
        classes = self.config.classes
        classification = detections = None
        if "classify" in tasks:
            maxima = np.stack([view.class_maxima for view in views])
            classification = _best_classes(maxima.mean(axis=0), classes, config.top_classes)
        if "detect" in tasks:
            candidates = [view.candidates for view in views if view.candidates is not None]
            detections = find_objects(
                candidates, classes, merge=config.merge, max_boxes=config.max_boxes
            )
        return Prediction(classification=classification, detections=detections)

    def _upload(self, pixels: Image) -> UInt8[Tensor, "3 h w"]:
        # A copy: the caller's array may be read-only shared memory, or a mirrored view of one.
        return torch.tensor(np.ascontiguousarray(pixels), device=self.device).permute(2, 0, 1)

    def _draw(
        self, pixels: Sequence[UInt8[Tensor, "3 _h _w"]], views: Sequence[View]
    ) -> Float[Tensor, "b 3 canvas_h canvas_w"]:
        """Render the canvases of some views in the network's number format."""
        canvases = []
        for view in views:
            canvas = render(pixels[view.image], view.placement, mean=self._mean, std=self._std)
            canvases.append(canvas.flip(-1) if view.flipped else canvas)
        batch = torch.stack(canvases).to(self.dtype)
        return batch.contiguous(memory_format=torch.channels_last)

    def _layer_name(self, layer: str | int | None) -> str:
        architecture = self.network.architecture
        if layer is None:
            return architecture.default_feature_layer
        if isinstance(layer, str):
            return layer
        names = architecture.module_names()
        if not 0 <= layer < len(names):
            msg = f"layer: received {layer}, expected a number from 0 to {len(names) - 1}"
            raise ValueError(msg)
        return names[layer]


def load(
    name_or_folder: str | Path, *, device: str | None = None, dtype: Dtype = "float32"
) -> Predictor:
    """Load a model.

    Args:
        name_or_folder: `demo` for the small model shipped in the package, or a checkpoint's folder.
        device: Such as `cpu` or `cuda:1`; None for a GPU where there is one.
        dtype: Number format of the weights and activations.

    Returns:
        The model, ready to `classify`, `detect` and `extract`.

    Raises:
        CheckpointError: If there is no checkpoint of our layout.
    """
    config, network = load_checkpoint(find_checkpoint(name_or_folder))
    return Predictor(config, network, device=device, dtype=dtype)


def find_checkpoint(name_or_folder: str | Path) -> Path:
    """Turn the name of the shipped checkpoint into its folder; a folder stays as it is.

    Args:
        name_or_folder: `demo`, or a folder.

    Returns:
        The folder.
    """
    if str(name_or_folder) == "demo":
        return Path(__file__).parent / "weights" / "demo"
    return Path(name_or_folder)


def _best_classes(
    scores: Float32[np.ndarray, " k"], classes: Sequence[str], count: int
) -> Classification:
    order = np.argsort(-scores, kind="stable")[:count]
    return Classification(
        label_ids=order.astype(np.int32),
        labels=tuple(classes[label] for label in order),
        scores=scores[order],
    )


def _check_image(image: Image) -> Image:
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim != len("hwc"):
        received = f"{getattr(image, 'dtype', type(image).__name__)} {np.shape(image)}"
        msg = f"image: received {received}, expected an RGB uint8 array (height, width, 3)"
        raise ValueError(msg)
    if image.shape[2] != CHANNELS or 0 in image.shape:
        msg = f"image: received shape {image.shape}, expected (height, width, 3) with pixels"
        raise ValueError(msg)
    return image
