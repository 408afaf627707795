"""How is a network trained? The paper's way for its own networks, another one for the small net.

Every number is a setting; a recipe is what the settings are if nothing is said.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Final, Literal, get_args

from overfeat.losses import LossConfig
from overfeat.network import PAPER_STD
from overfeat.schedule import CosineSchedule, Schedule, StepSchedule
from overfeat.targets import HALF_VISIBLE, TargetConfig
from overfeat.zoo import get_architecture
from pipelines.errors import InputError
from pipelines.training.crops import CropConfig

TrainingTask = Literal["classify", "localize", "detect", "joint"]
"""The classifier on whole images; the box regressor on a finished trunk; the classifier with a
background class on many windows of an image; all of it together in one network."""
OptimizerName = Literal["sgd", "adamw"]
ScheduleName = Literal["steps", "cosine"]


def _check(name: str, value: object, expected: str, *, is_inside: bool) -> None:
    if not is_inside:
        flag = name.replace("_", "-")
        raise InputError(f"--{flag}: received {value}, expected {expected}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """How a network is trained."""

    epochs: int = 90
    """How often each sample is seen. The paper says more than 80."""
    batch_size: int = 128
    """Samples of a global batch, of all workers together; a multiple of `streams`."""
    optimizer: OptimizerName = "sgd"
    """Stochastic gradient descent with momentum, or AdamW."""
    learning_rate: float = 0.05
    """The highest one."""
    schedule: ScheduleName = "steps"
    """Lowered after certain epochs, or a rise and half a cosine."""
    drop_epochs: tuple[float, ...] = (30.0, 50.0, 60.0, 70.0, 80.0)
    """After how many epochs `steps` lowers the rate."""
    drop_factor: float = 0.5
    """By which it is multiplied each time, above 0 and at most 1."""
    warm_up: float = 0.03
    """Part of the epochs in which `cosine` rises."""
    momentum: float = 0.6
    """Of stochastic gradient descent."""
    weight_decay: float = 1e-5
    """Of all weights; decoupled for AdamW."""
    dropout: float = 0.5
    """Part of the classifier's hidden outputs that is dropped in training."""
    init_std: float | None = PAPER_STD
    """Standard deviation of the first weights; None for sqrt(2 / fan-in) of each layer."""
    batch_norm: bool = False
    """Normalise the trunk's outputs in training, and fold that into the weights that are saved.
    Each worker normalises by its own samples, so that their number then changes the weights."""
    averaging: float = 0.0
    """Decay of the running average of the weights, which is what is saved; 0 saves the last
    ones."""
    clip_norm: float | None = None
    """Largest norm of the gradient; None for any."""
    train_trunk: bool = True
    """Whether the trunk learns too."""
    portrait_epochs: int = 0
    """The first epochs show single objects that fill the window, if images have any: without them
    the classes were not learnt in 700 steps of 32 augmented digit scenes (measured)."""
    portrait_fade_epochs: int = 0
    """Epochs after these in which the part of portraits falls to `portrait_share`: ended at once,
    most of what they had taught was lost (measured)."""
    portrait_share: float = 0.0
    """Part of the crops that stay portraits, 0 to 1."""
    crops: CropConfig = field(default_factory=CropConfig)
    """Which crops of an image are seen."""
    targets: TargetConfig = field(default_factory=TargetConfig)
    """Which windows are examples of what."""
    loss: LossConfig = field(default_factory=LossConfig)
    """Weights of the parts of the loss."""

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "learning_rate"):
            _check(name, getattr(self, name), "above 0", is_inside=getattr(self, name) > 0)
        for name in ("dropout", "averaging"):
            value = getattr(self, name)
            _check(name, value, "from 0 to below 1", is_inside=0 <= value < 1)
        for name in ("momentum", "weight_decay", "portrait_epochs", "portrait_fade_epochs"):
            value = getattr(self, name)
            _check(name, value, "at least 0", is_inside=0 <= value < math.inf)
        _check(
            "portrait_share",
            self.portrait_share,
            "from 0 to 1",
            is_inside=0 <= self.portrait_share <= 1,
        )
        _check(
            "drop_factor",
            self.drop_factor,
            "above 0, at most 1",
            is_inside=0 < self.drop_factor <= 1,
        )
        for name in ("init_std", "clip_norm"):
            value = getattr(self, name)
            _check(name, value, "above 0", is_inside=value is None or 0 < value < math.inf)
        for name, kind in {"optimizer": OptimizerName, "schedule": ScheduleName}.items():
            choices = get_args(kind)
            value = getattr(self, name)
            _check(name, value, f"one of {', '.join(choices)}", is_inside=value in choices)
        try:
            self.make_schedule()
        except ValueError as error:
            raise InputError(f"--{error}") from error

    def make_schedule(self) -> Schedule:
        """Put the numbers of the learning rate together.

        Returns:
            The rate as a function of the epoch.
        """
        if self.schedule == "steps":
            return StepSchedule(
                rate=self.learning_rate, factor=self.drop_factor, drop_epochs=self.drop_epochs
            )
        return CosineSchedule(
            epochs=float(self.epochs), rate=self.learning_rate, warm_up=self.warm_up
        )

    def share_of_portraits(self, epoch: int) -> float:
        """Say which part of an epoch's crops are portraits.

        Args:
            epoch: From 0.

        Returns:
            All at first, then less and less; 0 to 1.
        """
        if epoch < self.portrait_epochs:
            return 1.0
        faded = (epoch + 1 - self.portrait_epochs) / (self.portrait_fade_epochs + 1)
        return 1 - (1 - self.portrait_share) * min(1.0, faded)


# The paper names crops and mirror images, and no change of colours.
_PAPER_CROPS: Final = CropConfig(colour_jitter=0.0)
_PAPER: Final[dict[TrainingTask, Recipe]] = {
    "classify": Recipe(crops=_PAPER_CROPS, loss=LossConfig(background_weight=0.0, box_weight=0.0)),
    # The paper says no number of this one; the classifier's are taken (assumed).
    "localize": Recipe(
        crops=_PAPER_CROPS,
        train_trunk=False,
        targets=HALF_VISIBLE,
        loss=LossConfig(class_weight=0.0, background_weight=0.0),
    ),
    # From a classifier on: a tenth of its rate (assumed).
    "detect": Recipe(
        crops=_PAPER_CROPS, epochs=30, learning_rate=0.005, loss=LossConfig(box_weight=0.0)
    ),
    "joint": Recipe(crops=_PAPER_CROPS),
}
_SMALL: Final = Recipe(
    epochs=13,
    batch_size=16,
    optimizer="adamw",
    learning_rate=1e-3,
    schedule="cosine",
    weight_decay=1e-2,
    dropout=0.0,
    init_std=None,
    batch_norm=True,
    averaging=0.998,
    clip_norm=5.0,
    # A mirrored digit is none.
    crops=CropConfig(flip=0.0),
)


def choose_recipe(architecture: str, task: TrainingTask) -> Recipe:
    """Find the recipe of a network and a task.

    Args:
        architecture: A name of `overfeat.zoo`.
        task: What it is to learn.

    Returns:
        The paper's for networks of its size, another one for `tiny`.

    Source:
        Sermanet et al. 2014, section 3.1 (classify), 4.2 (localize), 5 (detect), 1 (joint).
    """
    paper = _PAPER[task]
    if architecture != "tiny":
        # A square of 16 windows or more of whichever network (36 of `accurate`, for 1.75 times the
        # work of the smallest canvas and its 9, counted).
        side = get_architecture(architecture).scales[1].height
        return replace(paper, crops=replace(paper.crops, side=side))
    loss = replace(
        paper.loss,
        box_weight=4.0 if task == "joint" else paper.loss.box_weight,
        box_loss="l1",
        negatives_per_object=2.0,
    )
    portraits = task in {"detect", "joint"}
    return replace(
        _SMALL,
        train_trunk=paper.train_trunk,
        targets=paper.targets,
        loss=loss,
        portrait_epochs=2 if portraits else 0,
        portrait_fade_epochs=5 if portraits else 0,
        portrait_share=0.2 if portraits else 0.0,
    )
