"""What a user says of a training."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

from overfeat.box_coding import BoxCoding
from overfeat.network import Regressor
from overfeat.scales import Canvas, check_ladder, is_rising
from overfeat.views import Views
from overfeat.zoo import get_architecture
from pipelines.errors import InputError
from pipelines.training.order import OrderConfig
from pipelines.training.recipe import Recipe, TrainingTask

ArchitectureName = Literal["tiny", "fast", "accurate", "alexnet", "alexnet-2012", "vgg16"]


@dataclass(frozen=True, kw_only=True, slots=True)
class ValidationConfig:
    """How good a network becomes, measured on samples that it does not learn from."""

    validation: str | None = None
    """Folder or URI with held-out shards, which may be that of `shards`; none, and nothing is
    measured."""
    validation_split: str = "validation"
    """Which of them."""
    validation_epochs: int = 1
    """Measure after every so many epochs, and at the end."""
    validation_steps: int | None = None
    """Measure after every so many steps instead, and at the end."""
    validation_limit: int | None = None
    """Measure so many samples, evenly spread over the shards; all if none."""
    validation_views: Views = "centre-crop"
    """How `classify` looks at an image: one crop, or slower and better. Boxes come from all windows
    of all scales, as everywhere."""
    validation_pictures: int = 4
    """How many of them are shown in TensorBoard with what was found."""

    def __post_init__(self) -> None:
        for name in ("validation_epochs", "validation_steps", "validation_limit"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"--{_flag(name)}: received {value}, expected at least 1")
        if self.validation_pictures < 0:
            received = self.validation_pictures
            raise InputError(f"--validation-pictures: received {received}, expected at least 0")
        if self.validation_views not in get_args(Views):
            raise InputError(
                f"--validation-views: received {self.validation_views}, expected one of "
                f"{', '.join(get_args(Views))}"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainConfig:
    """A training of one network: from which shards, where to, and how."""

    output: str
    """Folder or URI for the checkpoint. The same command goes on where it stood."""
    recipe: Recipe
    """How it is trained: `choose_recipe` knows what suits a network and a task."""
    held_out: ValidationConfig = field(default_factory=ValidationConfig)
    """How good it becomes meanwhile."""
    shards: str | None = None
    """Folder or URI with `SPLIT-000000.tar` and `index.json`, made by `overfeat shards`. Needed
    unless `images` are given."""
    images: str | None = None
    """In place of shards: folder or URI with a folder of images for each class, which is packed
    into `output`/shards first. Nobody has drawn boxes in it: its task is `classify` by default."""
    held_out_share: float = 0.1
    """Part of these images that is held out to measure on, 0 to below 1; unless they lie in train/
    and validation/."""
    task: TrainingTask = "joint"
    """The classifier on whole images; the box regressor on a finished trunk; the classifier with a
    background class on many windows of an image; all of it together in one network."""
    architecture: ArchitectureName = "tiny"
    """Which network."""
    weights: str | None = None
    """Checkpoint whose trunk and heads the training begins with, as far as they fit; random weights
    if none. `localize` needs one."""
    regressor: Literal["single", "per-class"] = "single"
    """One box regressor for all classes, or one for each; where the task has boxes."""
    box_coding: BoxCoding = "edges"
    """What the regressor says: the box's edges in the window's frame, as in the paper, or its
    centre and the logarithms of its size; a regressor of `weights` that says the other begins
    anew."""
    scales: tuple[str, ...] = ()
    """Canvases such as 245x245 317x317, height x width in pixels, the smallest first: what the
    network looks at afterwards, and what crops cover unless they are to be classified as a whole;
    those of `weights`, or else the architecture's own, if none."""
    context: bool = False
    """Tell each window what the next lower scale saw there (the paper's own addition), for `detect`
    and `joint`: two crops of each image, nearly twice the work."""
    split: str = "train"
    """Which shards."""
    streams: int = 8
    """Into how many parts an epoch is cut, each read by one worker: at least the workers. Another
    number is another order of the samples."""
    shuffle_block: int = 1024
    """Samples that are shuffled among each other, on top of the shuffled shards."""
    seed: int = 0
    """Of the first weights, the order of the samples, every crop and the dropout."""
    workers: int | None = None
    """Training processes; by default one per GPU, or one."""
    gpus_per_worker: Literal[0, 1] | None = None
    """1 pins each worker to a GPU of its own, 0 leaves GPUs to others; by default 1 if the cluster
    has any."""
    decoders: int = 1
    """Decoding processes of each worker."""
    threads: int = 1
    """CPU threads of each worker's network. They decide the last bits of the weights."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Number format of the activations; weights, loss and optimizer are float32."""
    compile: bool = False
    """Compile the network with torch.compile: minutes at the start, faster steps on a GPU."""
    checkpoint_steps: int = 500
    """Save the state after every so many steps, and at each epoch's end."""
    keep: int = 2
    """How many of the last states stay, beside the best one."""
    result: Literal["last", "best"] = "last"
    """Which state becomes the checkpoint in `output`: the last one, in which the learning rate has
    come down, or the one that was best on the held-out samples, whose numbers it then flatters."""
    log_steps: int = 10
    """Write the loss of every so many steps down, under `output`/metrics and for TensorBoard."""
    wait_for_resources: float = 60.0
    """Seconds to wait for CPUs or GPUs to join the cluster."""
    address: str | None = None
    """Ray cluster to use; the one of the job or RAY_ADDRESS, or else one on this machine."""

    def __post_init__(self) -> None:
        for name in ("workers", "threads", "checkpoint_steps", "keep", "log_steps"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"--{_flag(name)}: received {value}, expected at least 1")
        if self.gpus_per_worker not in {None, 0, 1}:
            raise InputError(
                f"--gpus-per-worker: received {self.gpus_per_worker}, expected 0 or 1: more "
                "GPUs are for more --workers"
            )
        if self.decoders < 0:
            raise InputError(f"--decoders: received {self.decoders}, expected at least 0")
        if not 0 < self.wait_for_resources < math.inf:
            raise InputError(
                f"--wait-for-resources: received {self.wait_for_resources}, expected above 0"
            )
        self._check_source()
        if self.task == "localize" and self.weights is None:
            raise InputError(
                "--task localize: trains the box regressor on a finished trunk; name the "
                "classifier's checkpoint with --weights, or choose --task joint"
            )
        if self.workers is not None and self.workers > self.streams:
            raise InputError(
                f"--workers: received {self.workers}, expected at most --streams {self.streams}"
            )
        is_measured = self.held_out.validation is not None or self.images is not None
        if self.result == "best" and not is_measured:
            raise InputError("--result best: says nothing without held-out shards; --validation")
        self.order_config()
        self._check_sizes()

    def _check_sizes(self) -> None:
        if self.context and not self.has_background:
            raise InputError(
                f"--context: windows are told in --task detect and joint, received {self.task}"
            )
        window = get_architecture(self.architecture).window
        try:
            if self.scales:
                check_ladder(self.ladder, window=window)
        except ValueError as error:
            raise InputError(f"--scales: {str(error).partition(': ')[2]}") from error
        if not is_rising(self.ladder):
            received = " ".join(self.scales)
            raise InputError(f"--scales: received {received}, expected the smallest first")
        side = self.recipe.crops.side
        if self.task != "classify" and side < window:
            raise InputError(f"--side: received {side}, expected at least {window}, a window")
        short_side = self.recipe.crops.short_side
        if self.task == "classify" and short_side < window:
            raise InputError(
                f"--short-side: received {short_side}, expected at least {window}, a window, which "
                "is cut out of the scaled image"
            )

    def _check_source(self) -> None:
        if (self.shards is None) == (self.images is None):
            received = "none" if self.shards is None else "both"
            raise InputError(
                f"--shards, --images: received {received}, expected one of them: shards that "
                "overfeat shards has made, or a folder with a folder of images for each class, as "
                "in overfeat train --images photos --output classifier"
            )
        if self.images is not None:
            self._check_images()

    def _check_images(self) -> None:
        if self.task != "classify":
            raise InputError(
                f"--task {self.task}: needs boxes, and folders of images have none; give --task "
                "classify, or --shards of a data set with boxes"
            )
        if not 0 <= self.held_out_share < 1:
            received = self.held_out_share
            raise InputError(f"--held-out-share: received {received}, expected 0 to below 1")
        if self.held_out.validation is not None:
            raise InputError(
                "--validation: says nothing with --images, of which a part is held out; leave it "
                "out, or see --held-out-share"
            )

    def check_classes(self, classes: Sequence[str]) -> None:
        """Refuse classes that there is nothing to tell from.

        Args:
            classes: Names of all that are to be learnt.

        Raises:
            InputError: If there is one alone, and no background beside it.
        """
        if self.task != "classify" or len(classes) > 1:
            return
        flag = f"--shards {self.shards}" if self.images is None else f"--images {self.images}"
        raise InputError(
            f"{flag}: received one class ({', '.join(classes)}), expected at least two to "
            "tell apart; add another one, such as a folder of images of anything else, or train "
            "--task detect, which tells one class from the background and needs --shards with boxes"
        )

    def order_config(self) -> OrderConfig:
        """Collect what decides the order of the samples.

        Returns:
            The settings of the order.
        """
        return OrderConfig(
            seed=self.seed,
            streams=self.streams,
            batch_size=self.recipe.batch_size,
            shuffle_block=self.shuffle_block,
        )

    @property
    def ladder(self) -> tuple[Canvas, ...]:
        """The canvases that were asked for; none if the network's are to be taken.

        Raises:
            ValueError: If one is of another form than `317x317`.
        """
        return tuple(Canvas.parse(text) for text in self.scales)

    @property
    def has_background(self) -> bool:
        """Whether the network gets a background class."""
        return self.task in {"detect", "joint"}

    @property
    def trained_regressor(self) -> Regressor:
        """Which box regressor is trained."""
        return self.regressor if self.task in {"localize", "joint"} else "none"


def _flag(name: str) -> str:
    return name.replace("_", "-")
