"""What is every worker of a training told, and what does it tell?"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from overfeat.checkpoint import CheckpointConfig
from overfeat.zoo import get_architecture
from pipelines.lease import check_holder
from pipelines.training.config import TrainConfig
from pipelines.training.examples import ExampleMaker
from pipelines.training.order import EpochOrder
from pipelines.training.recipe import Recipe
from pipelines.training.shard_set import ShardSet
from pipelines.training.state import Position
from pipelines.weights import CheckpointFiles


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """What every worker is told."""

    config: TrainConfig
    """What the user said."""
    output: str
    """Where states go, resolved."""
    shards: ShardSet
    """What to learn from."""
    checkpoint: CheckpointConfig
    """The network that comes out."""
    base: CheckpointFiles | None
    """The one it begins with."""
    held_out: ShardSet | None = None
    """What to measure on; None if nothing is measured."""
    lease_id: str | None = None
    """Of the driver's lease; None if nobody else can be at work here."""

    @property
    def background(self) -> int | None:
        """Label of the background; None if there is none."""
        return len(self.checkpoint.classes) if self.checkpoint.background else None

    def check_lease(self) -> None:
        """Make sure that the driver still holds the training: asked before anything is saved.

        Raises:
            LeaseLostError: If it was paused, and another one has taken over.
        """
        if self.lease_id is not None:
            check_holder(self.output, self.lease_id)

    def make_examples(self, recipe: Recipe) -> ExampleMaker:
        """Say what a sample gives to a batch.

        Args:
            recipe: Which crops, and which windows are examples.

        Returns:
            What makes examples for the network that comes out.
        """
        return ExampleMaker(
            task=self.config.task,
            architecture=get_architecture(self.config.architecture),
            normalization=self.checkpoint.normalization,
            ladder=self.checkpoint.ladder,
            background=self.background,
            recipe=recipe,
            context=self.config.context,
        )

    def name_shards(self, epoch: int, step: int) -> list[str]:
        """Find out which shards a global batch was read from.

        Args:
            epoch: From 0.
            step: From 0 in the epoch.

        Returns:
            Their names, sorted.
        """
        order = EpochOrder(self.shards.shard_sizes, self.config.order_config(), epoch)
        places = [
            place for stream in range(self.config.streams) for place in order.locate(stream, step)
        ]
        return sorted({self.shards.shards[place.shard].name for place in places})


@dataclass(frozen=True, kw_only=True, slots=True)
class Best:
    """The state that did best on the held-out samples."""

    step: int
    """Global batches that were done."""
    metric: str
    """What decides."""
    value: float
    """What it was."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Moment:
    """How far a training is, for people."""

    position: Position
    """Steps and samples done."""
    total_samples: int
    """Of all epochs."""
    loss: Mapping[str, float]
    """Parts of the last step's loss."""
    rate: float
    """Learning rate of the last step."""
    measured: Mapping[str, float] | None = None
    """What was last measured on held-out samples; None if nothing was."""
    best: Best | None = None
    """The best state so far; None if nothing was measured."""


Tell = Callable[[Moment], None]
