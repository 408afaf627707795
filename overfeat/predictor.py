"""Image -> predictions: the model that users hold.

`annotate` calls the same `predict`, so that a row of the tables and a result in Python are made by
the same lines.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeVar, get_args, overload

import numpy as np
import torch
from jaxtyping import Float32, UInt8
from torch import Tensor

from overfeat.checkpoint import CHANNELS
from overfeat.detection import find_objects
from overfeat.evaluation import ViewResult
from overfeat.features import (
    FeatureConfig,
    Pool,
    Region,
    cell_boxes,
    cells_in_region,
    join_features,
    pool_cells,
)
from overfeat.geometry import Stride
from overfeat.localization import find_guesses
from overfeat.member import Member, plan_views
from overfeat.predict_config import PredictConfig, Task
from overfeat.predictions import Classification, ClassMap, Detections, Guesses, Prediction
from overfeat.views import PreparedImage, prepare_image

Image = UInt8[np.ndarray, "_h _w 3"]
Images = Sequence[Image]
Batch = UInt8[np.ndarray, "_n _h _w 3"]
"""Images of one size in one array, treated like a list of them. A static type checker cannot tell
it from one image; pass `list(batch)` to have it know that a list comes back."""
FeatureArray = Float32[np.ndarray, "c *cells"]
_Result = TypeVar("_Result")
_IMAGE_AXES = len("hwc")


class Predictor:
    """A model to use on RGB uint8 images (height, width, 3): one network or a committee."""

    def __init__(self, members: Sequence[Member]) -> None:
        """Make a model of networks that are on their device.

        Args:
            members: At least one; all with the same classes in the same order.

        Raises:
            ValueError: If there is none, or their classes differ.
        """
        if not members:
            raise ValueError("model: received no checkpoint, expected at least one")
        self.members = tuple(members)
        self.classes = self.members[0].config.classes
        for number, member in enumerate(self.members[1:], start=2):
            if member.config.classes != self.classes:
                raise ValueError(
                    f"committee: checkpoint {number} has other classes, or in another order, than "
                    "the first; expected the same list in each config.json"
                )

    def __repr__(self) -> str:
        members = ", ".join(
            f"{member.config.architecture} on {member.device} in {member.dtype}"
            for member in self.members
        )
        return f"{type(self).__name__}({members}; {len(self.classes)} classes)"

    @overload
    def classify(self, images: Image, config: PredictConfig | None = ...) -> Classification: ...
    @overload
    def classify(
        self, images: Images, config: PredictConfig | None = ...
    ) -> list[Classification]: ...
    def classify(
        self, images: Image | Images | Batch, config: PredictConfig | None = None
    ) -> Classification | list[Classification]:
        """Name what images show: spatial maximum per class, mean over scales, flips and networks.

        Args:
            images: One RGB image, a list of them of any size, or a batch (n, height, width, 3).
            config: Views, scales, stride, flips.

        Returns:
            The best classes of each image; a list for a list or a batch.

        Source:
            Sermanet et al. 2014, section 3.3.
        """
        return self._predict_any(images, config, "classify", lambda found: found.classification)

    @overload
    def localize(self, images: Image, config: PredictConfig | None = ...) -> Guesses: ...
    @overload
    def localize(self, images: Images, config: PredictConfig | None = ...) -> list[Guesses]: ...
    def localize(
        self, images: Image | Images | Batch, config: PredictConfig | None = None
    ) -> Guesses | list[Guesses]:
        """Name what images show, and say where: a few guesses with a box each.

        Args:
            images: One RGB image, a list of them of any size, or a batch (n, height, width, 3).
            config: Views, scales, stride, flips, and how guesses are made.

        Returns:
            The guesses for each image, in its own pixels; a list for a list or a batch.

        Source:
            Sermanet et al. 2014, section 4.
        """
        return self._predict_any(images, config, "localize", lambda found: found.guesses)

    @overload
    def detect(self, images: Image, config: PredictConfig | None = ...) -> Detections: ...
    @overload
    def detect(self, images: Images, config: PredictConfig | None = ...) -> list[Detections]: ...
    def detect(
        self, images: Image | Images | Batch, config: PredictConfig | None = None
    ) -> Detections | list[Detections]:
        """Find the objects of images.

        Args:
            images: One RGB image, a list of them of any size, or a batch (n, height, width, 3).
            config: Views, scales, stride, flips, thresholds, merging.

        Returns:
            The boxes of each image in its own pixels; a list for a list or a batch.

        Source:
            Sermanet et al. 2014, sections 4.3 and 5.
        """
        return self._predict_any(images, config, "detect", lambda found: found.detections)

    @overload
    def extract(
        self,
        images: Image,
        *,
        layer: str | int | None = ...,
        stride: Stride = ...,
        pool: Pool = ...,
        region: Region | None = ...,
    ) -> FeatureArray: ...
    @overload
    def extract(
        self,
        images: Images,
        *,
        layer: str | int | None = ...,
        stride: Stride = ...,
        pool: Pool = ...,
        region: Region | None = ...,
    ) -> list[FeatureArray]: ...
    def extract(
        self,
        images: Image | Images | Batch,
        *,
        layer: str | int | None = None,
        stride: Stride = "coarse",
        pool: Pool = "none",
        region: Region | None = None,
    ) -> FeatureArray | list[FeatureArray]:
        """Compute the features of images as they are: no resize, no crop.

        Args:
            images: One RGB image, a list of them, or a batch (n, height, width, 3); each at least
                one window (221 to 231 pixels) high and wide.
            layer: A module's name (`fc7` before its ReLU, `fc7_relu` after it) or the 2014
                program's number; None for the last hidden layer before its ReLU.
            stride: Fine or coarse; the 2014 program knew coarse alone.
            pool: `mean` or `max` over the cells, or `none` for the whole map.
            region: x_min, y_min, x_max, y_max in pixels of each image: only cells centred there
                are pooled, or the nearest one. Needs a pooling.

        Returns:
            The module's output for each image, (channels, rows, cols), or (channels,) when
            pooled; a copy. A list for a list or a batch.

        Raises:
            ValueError: If an image is too small, there is no such layer, a region has no pooling or
                is no box, or the model is a committee.
        """
        if len(self.members) > 1:
            raise ValueError("extract: a committee has no common layers; load one checkpoint")
        if region is not None and pool == "none":
            raise ValueError("extract: received a region without pool='mean' or 'max'")
        if region is not None:
            _check_region(region)
        features = FeatureConfig(layer=layer, pool=pool)
        several, alone = _list_images(images)
        arrays = [self._extract_one(image, features, stride, region) for image in several]
        return arrays[0] if alone else arrays

    @torch.inference_mode()
    def _extract_one(
        self,
        image: Image,
        features: FeatureConfig,
        stride: Stride,
        region: Region | None,
    ) -> FeatureArray:
        (member,) = self.members
        architecture = member.network.architecture
        module = architecture.find_module(features.layer)
        pixels = _upload(_check_image(image), member.device)
        values = member.extract(pixels, module, PredictConfig(stride=stride))
        if features.pool == "none":
            whole: FeatureArray = values.float().cpu().numpy()
            return whole
        shape = (values.shape[1], values.shape[2])
        counted = np.ones(shape, dtype=np.bool_)
        if region is not None:
            counted = cells_in_region(cell_boxes(architecture, module, *shape, stride), region)
        pooled: FeatureArray = pool_cells(values, counted, features.pool)[0]
        return pooled

    @torch.inference_mode()
    def map_classes(self, image: Image, config: PredictConfig | None = None) -> list[ClassMap]:
        """Read the probability of every class in every window of an image.

        Args:
            image: RGB, of any size.
            config: Views, scales, stride.

        Returns:
            One map per scale, smallest first; of a committee, the first network's.
        """
        config = config or PredictConfig()
        prepared = self.prepare(image, config)
        member = self.members[0]
        pixels = _upload(prepared.pixels, member.device)
        return member.map_classes(pixels, (prepared.height, prepared.width), config)

    def prepare(self, image: Image, config: PredictConfig) -> PreparedImage:
        """Reduce an image to what its largest view needs.

        Args:
            image: RGB, of any size.
            config: The views.

        Returns:
            What `predict` takes.
        """
        plans = [plan_views(member.config, config) for member in self.members]
        return prepare_image(_check_image(image), plans)

    @torch.inference_mode()
    def predict(
        self, images: Sequence[PreparedImage], config: PredictConfig, tasks: Sequence[Task]
    ) -> list[Prediction]:
        """Evaluate several images together; the batches depend on the images alone.

        Args:
            images: Prepared images, in a fixed order.
            config: Views, scales, stride, flips, thresholds.
            tasks: What is asked of them.

        Returns:
            One prediction per image, in the same order.

        Raises:
            ValueError: If there is no such task, or features are asked of a committee.
        """
        for task in tasks:
            if task not in get_args(Task):
                raise ValueError(
                    f"task: received {task!r}, expected one of {', '.join(get_args(Task))}"
                )
        if "features" in tasks and len(self.members) > 1:
            raise ValueError("features: a committee has no common layers; load one checkpoint")
        sizes = [(image.height, image.width) for image in images]
        seen: list[list[list[ViewResult]]] = [[[] for _ in self.members] for _ in images]
        for number, member in enumerate(self.members):
            pixels = [_upload(image.pixels, member.device) for image in images]
            for view, result in member.evaluate(pixels, sizes, config, tasks):
                seen[view.image][number].append(result)
        return [self._conclude(results, config, tasks) for results in seen]

    def _predict_any(
        self,
        images: Image | Images | Batch,
        config: PredictConfig | None,
        task: Task,
        pick: Callable[[Prediction], _Result | None],
    ) -> _Result | list[_Result]:
        config = config or PredictConfig()
        several, alone = _list_images(images)
        prepared = [self.prepare(image, config) for image in several]
        results = []
        for prediction in self.predict(prepared, config, (task,)):
            result = pick(prediction)
            assert result is not None
            results.append(result)
        return results[0] if alone else results

    def _conclude(
        self, members: Sequence[Sequence[ViewResult]], config: PredictConfig, tasks: Sequence[Task]
    ) -> Prediction:
        """Sum up what all networks saw in all views of one image."""
        views = [view for member in members for view in member]
        prediction = Prediction()
        if "classify" in tasks:
            means = [np.stack([view.class_maxima for view in of]).mean(axis=0) for of in members]
            best = _best_classes(np.stack(means).mean(axis=0), self.classes, config.top_classes)
            prediction = replace(prediction, classification=best)
        if "localize" in tasks:
            proposals = [view.proposals for view in views if view.proposals is not None]
            guesses = find_guesses(proposals, self.classes, config.localize)
            prediction = replace(prediction, guesses=guesses)
        if "detect" in tasks:
            detections = find_objects(
                [view.candidates for view in views if view.candidates is not None],
                self.classes,
                merge=config.merge,
                merged_classes=config.merged_classes,
                max_boxes=config.max_boxes,
            )
            prediction = replace(prediction, detections=detections)
        if "features" in tasks:
            parts = [view.features for view in views if view.features is not None]
            prediction = replace(prediction, features=join_features(parts))
        return prediction


def _list_images(images: Image | Images | Batch) -> tuple[Sequence[Image], bool]:
    """The images as a list, and whether it is one image alone.

    Raises:
        ValueError: If it is neither an array nor a list.
    """
    if isinstance(images, np.ndarray) and images.ndim == 1 + _IMAGE_AXES:
        return list(images), False
    if isinstance(images, np.ndarray):
        return [images], True
    if isinstance(images, list | tuple):
        return images, False
    raise ValueError(
        f"images: received {type(images).__name__}, expected an RGB uint8 NumPy array (height, "
        "width, 3), such as np.asarray(Image.open(path).convert('RGB')), or a list of them"
    )


def _check_region(region_xyxy: Region) -> None:
    corners = np.asarray(region_xyxy, dtype=np.float64)
    if corners.shape != (4,) or not (corners[:2] < corners[2:]).all():
        msg = (
            f"region: received {region_xyxy}, expected x_min, y_min, x_max, y_max in pixels with "
            "x_min < x_max and y_min < y_max"
        )
        raise ValueError(msg)


def _upload(pixels: Image, device: torch.device) -> UInt8[Tensor, "3 h w"]:
    # A copy: the caller's array may be read-only shared memory, or a mirrored view of one.
    return torch.tensor(np.ascontiguousarray(pixels), device=device).permute(2, 0, 1)


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
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim != _IMAGE_AXES:
        received = f"{getattr(image, 'dtype', type(image).__name__)} {np.shape(image)}"
        msg = f"image: received {received}, expected an RGB uint8 array (height, width, 3)"
        raise ValueError(msg)
    if image.shape[2] != CHANNELS or 0 in image.shape:
        msg = f"image: received shape {image.shape}, expected (height, width, 3) with pixels"
        raise ValueError(msg)
    return image
