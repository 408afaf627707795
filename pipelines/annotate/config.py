"""What a user says of an annotation run, and which of it decides the rows."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields
from typing import Literal

from overfeat.architectures import get_architecture
from overfeat.checkpoint import CheckpointConfig
from overfeat.geometry import Stride
from overfeat.predictor import Dtype, PredictConfig, Task
from overfeat.scales import Canvas, check_ladder
from pipelines import storage
from pipelines.errors import InputError
from pipelines.fingerprint import RESULTS_VERSION, Value
from pipelines.images import IMAGE_SUFFIXES, ImageLimits

DtypeChoice = Literal["auto", "float32", "bfloat16", "float16"]
"""`auto` is bfloat16 on a GPU and float32 on a CPU."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AnnotateConfig:
    """One annotation run: where from, where to, with which model, and how."""

    images: str
    """A folder or prefix, a glob, or a list of URIs (.txt, or .parquet with a column `image`)."""
    output: str
    """Folder for the tables: a local path or a URI. The same command goes on where it stood."""
    weights: str = "demo"
    """A checkpoint's folder or URI; `demo` is the one shipped in the package."""
    tasks: tuple[Task, ...] = ("classify", "detect")
    """What is asked of each image."""
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
    """Say how many images, bytes and slices there are and how long they take, and stop."""
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
        for name in ("cpus_per_read", "wait_for_resources"):
            value = getattr(self, name)
            if not 0 < value < math.inf:
                raise InputError(f"--{_flag(name)}: received {value}, expected a number above 0")
        if not self.tasks or not self.suffixes:
            raise InputError("--tasks and --suffixes: received none, expected at least one each")
        try:
            self.predict_config()
        except ValueError as error:
            raise InputError(str(error)) from error

    def predict_config(self) -> PredictConfig:
        """Collect what the model is told.

        Returns:
            Scales, stride, flips and thresholds.
        """
        return PredictConfig(
            scales=tuple(Canvas.parse(text) for text in self.scales),
            stride=self.stride,
            flips=self.flips,
            score_threshold=self.score_threshold,
            max_boxes=self.max_boxes,
        )

    def image_limits(self) -> ImageLimits:
        """Collect what an image may cost.

        Returns:
            The limits.
        """
        return ImageLimits(
            max_pixels=self.max_pixels, max_bytes=self.max_bytes, max_frames=self.max_frames
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class ResolvedModel:
    """The model as the detect actors run it."""

    digest: str
    """Of the checkpoint."""
    scales: tuple[Canvas, ...]
    """The ladder in use."""
    device: str
    """Kind of device: `cpu` or `cuda`."""
    dtype: Dtype
    """Number format in use."""


def resolve_scales(config: AnnotateConfig, checkpoint: CheckpointConfig) -> tuple[Canvas, ...]:
    """Choose the ladder: the command's, or else the checkpoint's.

    Args:
        config: What the user said.
        checkpoint: The model.

    Returns:
        At least one canvas.

    Raises:
        InputError: If a canvas has no room for one of the network's windows.
    """
    scales = config.predict_config().scales or checkpoint.ladder
    try:
        check_ladder(scales, window=get_architecture(checkpoint.architecture).window)
    except ValueError as error:
        raise InputError(f"--{error}") from error
    return scales


def row_settings(config: AnnotateConfig, model: ResolvedModel) -> dict[str, Value]:
    """Collect every setting that can change a row or the manifest.

    Args:
        config: What the user said.
        model: What became of its weights, scales, device and dtype.

    Returns:
        Names and values for the fingerprint.
    """
    predict = config.predict_config()
    return {
        "results_version": RESULTS_VERSION,
        "images": storage.resolve_uri(config.images).rstrip("/"),
        "suffixes": sorted({suffix.lower() for suffix in config.suffixes}),
        "limit": config.limit,
        "slice_size": config.slice_size,
        "slice_bytes": config.slice_bytes,
        "weights_digest": model.digest,
        "tasks": sorted(set(config.tasks)),
        "scales": [str(canvas) for canvas in model.scales],
        "stride": predict.stride,
        "flips": predict.flips,
        "score_threshold": predict.score_threshold,
        "max_boxes": predict.max_boxes,
        "merge": asdict(predict.merge),
        "shrink": "bilinear-antialias-uint8",
        "top_classes": predict.top_classes,
        "batch_pixels": predict.batch_pixels,
        "threads": config.threads,
        "device": model.device,
        "dtype": model.dtype,
        **{name: getattr(config.image_limits(), name) for name in _names(ImageLimits)},
    }


def _names(config: type[ImageLimits]) -> list[str]:
    return [field.name for field in fields(config)]


def _flag(name: str) -> str:
    return name.replace("_", "-")
