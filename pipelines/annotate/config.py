"""What a user says of an annotation run."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Final, Literal

from overfeat.detection import MergedClasses
from overfeat.features import FeatureConfig, Pool
from overfeat.geometry import Stride
from overfeat.merge import MERGES, Method
from overfeat.predict_config import PredictConfig, Task
from overfeat.scales import Canvas
from overfeat.views import Views
from pipelines.errors import InputError
from pipelines.images import IMAGE_SUFFIXES, ImageLimits

DtypeChoice = Literal["auto", "float32", "bfloat16", "float16"]
"""`auto` is bfloat16 on a GPU and float32 on a CPU."""


_FLAGS_OF_A_TASK: Final = {
    "detect": ("merge", "merged_classes"),
    "features": ("feature_layer", "feature_pool"),
}
"""What says nothing without its task, so that it is not quietly ignored."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AnnotateConfig:
    """One annotation run: where from, where to, with which model, and how."""

    images: str
    """A folder or prefix, a glob, a list of URIs (.txt, or .parquet with a column `image`), or
    WebDataset tars: one, a glob that ends in .tar, or a list of them."""
    output: str
    """Folder for the tables: a local path or a URI. The same command goes on where it stood."""
    weights: tuple[str, ...] = ("demo",)
    """A checkpoint's folder or URI, or several for a committee; `demo` is the one shipped in the
    package."""
    tasks: tuple[Task, ...] = ("classify", "detect")
    """What is asked of each image: best classes; best classes with a box each; all objects;
    feature vectors."""
    views: Views = "dense"
    """Look at all windows of every scale, or at the crops of an older protocol."""
    scales: tuple[str, ...] = ()
    """Canvases such as 245x245 281x317, height x width in pixels; the checkpoint's own if none."""
    stride: Stride = "fine"
    """`fine` takes the last pooling at every offset; `coarse` is several times faster."""
    flips: bool = False
    """Look at mirrored images too: twice the work."""
    score_threshold: float = 0.5
    """Least class probability of a box, above 0 and at most 1."""
    max_boxes: int = 100
    """Boxes kept per image."""
    merge: Method = "greedy"
    """How detection makes few boxes of many; localization always merges greedily."""
    merged_classes: MergedClasses = "each"
    """Whether only boxes of one class are merged, or boxes of any."""
    feature_layer: str | None = None
    """Layer of the features: a name (fc7 before its ReLU, fc7_relu after it) or its number in the
    2014 program; by default the last hidden layer before its ReLU."""
    feature_pool: Pool = "mean"
    """What becomes of a layer's cells at each scale: their mean or maximum, or `none` for each."""
    slice_size: int = 128
    """Most images in a slice, the unit of work, retry and commit."""
    slice_bytes: int = 256 * 2**20
    """Most encoded bytes in a slice, as listed."""
    workers: int | None = None
    """Detect actors; by default one per GPU, or what the CPUs allow."""
    cpus_per_read: float = 0.5
    """CPUs reserved for each reading and decoding task."""
    dtype: DtypeChoice = "auto"
    """Number format of the network; `auto` is bfloat16 on a GPU and float32 on a CPU."""
    threads: int = 1
    """CPU threads of each detect actor. They decide the last bits of the results."""
    limit: int | None = None
    """Take the first images of the listing only."""
    dry_run: bool = False
    """Say what this command would read and how long that takes, and stop: nothing is written."""
    update: bool = False
    """List the images again: do new and changed ones, drop the rows of those that are gone."""
    retry_failed: bool = False
    """Do failed images again."""
    max_failed_ratio: float = 0.01
    """More failed images than this part of all make the exit code 3; 0 to 1."""
    wait_for_resources: float = 60.0
    """Seconds to wait for CPUs or GPUs to join the cluster."""
    suffixes: tuple[str, ...] = IMAGE_SUFFIXES
    """Endings of images' names, in any case; other objects are skipped."""
    max_pixels: int = ImageLimits().max_pixels
    """Width times height above which an image is an error row, in pixels."""
    max_bytes: int = ImageLimits().max_bytes
    """Encoded size above which an image is an error row, in bytes."""
    max_frames: int = ImageLimits().max_frames
    """Frames above which an animation is an error row."""
    image_timeout: float = 60.0
    """Seconds after which an image that is still being decoded is an error row; no image that is
    worth its row needs more than a few."""
    address: str | None = None
    """Ray cluster to use; the one of the job or RAY_ADDRESS, or else one on this machine."""

    def __post_init__(self) -> None:
        limits = ("max_pixels", "max_bytes", "max_frames")
        for name in ("slice_size", "slice_bytes", "threads", "workers", "limit", *limits):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"--{_flag(name)}: received {value}, expected at least 1")
        if not 0 <= self.max_failed_ratio <= 1:
            raise InputError(
                f"--max-failed-ratio: received {self.max_failed_ratio}, expected from 0 to 1"
            )
        for name in ("cpus_per_read", "wait_for_resources", "image_timeout"):
            value = getattr(self, name)
            if not 0 < value < math.inf:
                raise InputError(f"--{_flag(name)}: received {value}, expected a number above 0")
        for name in ("weights", "tasks", "suffixes"):
            if not getattr(self, name):
                raise InputError(f"--{name}: received none, expected at least one")
        self._check_tasks()
        try:
            self.predict_config()
        except ValueError as error:
            raise InputError(str(error)) from error

    def _check_tasks(self) -> None:
        for task, names in _FLAGS_OF_A_TASK.items():
            for name in names:
                value = getattr(self, name)
                if task not in self.tasks and value != _default(name):
                    raise InputError(
                        f"--{_flag(name)}: received {value!r} without the task {task}; "
                        "add it to --tasks, or drop the flag"
                    )
        if "features" in self.tasks and len(self.weights) > 1:
            raise InputError(
                f"--tasks features: received {len(self.weights)} checkpoints, and a committee has "
                "no common layers; give --weights one, or drop the task"
            )

    def predict_config(self) -> PredictConfig:
        """Collect what the model is told.

        Returns:
            Views, scales, stride, flips and thresholds, merging and features.
        """
        layer = self.feature_layer
        return PredictConfig(
            views=self.views,
            scales=tuple(Canvas.parse(text) for text in self.scales),
            stride=self.stride,
            flips=self.flips,
            score_threshold=self.score_threshold,
            max_boxes=self.max_boxes,
            merge=MERGES[self.merge](),
            merged_classes=self.merged_classes,
            features=FeatureConfig(
                layer=int(layer) if layer is not None and layer.isdecimal() else layer,
                pool=self.feature_pool,
            ),
        )

    def image_limits(self) -> ImageLimits:
        """Collect what an image may cost.

        Returns:
            The limits.
        """
        return ImageLimits(
            max_pixels=self.max_pixels, max_bytes=self.max_bytes, max_frames=self.max_frames
        )


def _default(name: str) -> object:
    return next(field.default for field in fields(AnnotateConfig) if field.name == name)


def _flag(name: str) -> str:
    return name.replace("_", "-")
