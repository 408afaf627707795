"""What does one training process do, from its first batch to its last?

All workers take the same steps. The first of them saves; whoever starts again goes on from the
newest state that is whole.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import distributed

from overfeat.checkpoint import CheckpointConfig
from overfeat.geometry import map_size
from overfeat.losses import Loss, is_finite
from overfeat.network import initialize
from overfeat.zoo import get_architecture
from pipelines.errors import PipelineError
from pipelines.images import ImageLimits
from pipelines.training.checkpoints import list_states, load_newest_state, prune_states, save_state
from pipelines.training.config import TrainConfig
from pipelines.training.examples import Batch, Example, ExampleMaker, join_examples, make_blank
from pipelines.training.learner import Learner, Turn
from pipelines.training.shard_set import ShardSet
from pipelines.training.state import Position, TrainingState
from pipelines.training.stream_loader import Loader, StepExamples
from pipelines.weights import CheckpointFiles, load_tensors, put_checkpoint

_TELL_SECONDS = 1.0
"""Between two words about how far it is."""


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


Tell = Callable[[Moment], None]


def train_worker(job: Job, tell: Tell) -> Position:
    """Train until all epochs are done.

    Args:
        job: What to do; the same on every worker.
        tell: Told how far it is; called by the first worker alone.

    Returns:
        Where it ended.

    Raises:
        PipelineError: If the loss is no number any more, or no sample of a batch could be read.
    """
    rank = distributed.get_rank() if distributed.is_initialized() else 0
    torch.set_num_threads(job.config.threads)
    learner = _open_learner(job)
    state = load_newest_state(job.output)
    position = Position()
    if state is not None:
        learner.restore(state.tensors)
        position = state.position
    loader = _open_loader(job, rank)
    run = _Run(job=job, learner=learner, loader=loader, rank=rank, tell=tell)
    epochs = job.config.recipe.epochs
    if position.epoch < epochs:
        steps = loader.iter_epochs(position.epoch, epochs, first_step=position.step)
        for step in steps:
            position = run.take(step, position)
    if rank == 0:
        weights = learner.weights()
        put_checkpoint(
            job.output, replace(job.checkpoint, provenance=_trace(job, position)), weights
        )
    return position


def _trace(job: Job, position: Position) -> dict[str, Any]:
    """Where a checkpoint comes from; not where things lay on one machine, for it travels."""
    places = {"shards", "output", "weights", "address"}
    return {
        "config": {name: value for name, value in asdict(job.config).items() if name not in places},
        "shards": job.shards.digest,
        "base": None if job.base is None else job.base.digest,
        "position": asdict(position),
        "torch": torch.__version__,
    }


def _open_learner(job: Job) -> Learner:
    config, recipe = job.config, job.config.recipe
    network = job.checkpoint.build_network()
    initialize(network, seed=config.seed, std=recipe.init_std)
    if job.base is not None:
        ours = network.state_dict()
        theirs = load_tensors(job.base)
        fitting = {
            name: value
            for name, value in theirs.items()
            if name in ours and ours[name].shape == value.shape
        }
        network.load_state_dict({**ours, **fitting})
    return Learner(
        network,
        recipe,
        device=torch.device("cuda" if torch.cuda.is_available() else "cpu"),
        background=_background(job),
        autocast=config.dtype == "bfloat16",
        compiled=config.compile,
        seed=config.seed,
    )


def _background(job: Job) -> int | None:
    return len(job.checkpoint.classes) if job.checkpoint.background else None


def _open_loader(job: Job, rank: int) -> Loader[Example]:
    maker = ExampleMaker(
        task=job.config.task,
        architecture=get_architecture(job.config.architecture),
        normalization=job.checkpoint.normalization,
        ladder=job.checkpoint.ladder,
        background=_background(job),
        recipe=job.config.recipe,
    )
    world = distributed.get_world_size() if distributed.is_initialized() else 1
    return Loader(
        job.shards,
        job.config.order_config(),
        maker,
        rank=rank,
        world_size=world,
        processes=job.config.decoders,
        limits=ImageLimits(),
    )


class _Run:
    """The steps of one worker."""

    def __init__(
        self, *, job: Job, learner: Learner, loader: Loader[Example], rank: int, tell: Tell
    ) -> None:
        self._job = job
        self._learner = learner
        self._steps_per_epoch = loader.steps_per_epoch
        self._is_first = rank == 0
        self._tell = tell
        self._told = 0.0

    def take(self, step: StepExamples[Example], position: Position) -> Position:
        """Do one step, and save and tell what is due; returns where it is then.

        Raises:
            PipelineError: If nothing could be learnt from it.
        """
        damaged, useful = self._add_up(step.damaged, len(step.examples))
        if not useful:
            raise PipelineError(
                f"train: none of the {step.n_global} samples of step {position.steps} could be "
                f"used; look at the warnings above, and at {self._job.shards.folder}"
            )
        turn = Turn(
            steps=position.steps, epoch=position.epoch + (step.step + 1) / self._steps_per_epoch
        )
        loss = self._learner.take_step(self._join(step), turn)
        if not is_finite(loss):
            raise PipelineError(self._describe_divergence(loss, step, position))
        position = position.advance(
            samples=step.n_global, damaged=damaged, steps_per_epoch=self._steps_per_epoch
        )
        if self._is_first:
            self._save_if_due(position, loss)
            self._tell_if_due(position, loss, turn)
        return position

    def _join(self, step: StepExamples[Example]) -> Batch:
        if step.examples:
            return join_examples(step.examples)
        # A worker whose streams have ended takes part with nothing, so that no other waits for it.
        architecture = get_architecture(self._job.config.architecture)
        cells = map_size(architecture, architecture.window, "fine")
        return make_blank(architecture.window, cells * cells)

    def _add_up(self, *numbers: int) -> list[int]:
        if not distributed.is_initialized():
            return list(numbers)
        values = torch.tensor(numbers, device=self._learner.device)
        distributed.all_reduce(values)
        return [int(value) for value in values]

    def _save_if_due(self, position: Position, loss: Loss) -> None:
        config = self._job.config
        if position.steps % config.checkpoint_steps and position.step:
            return
        facts = {"loss": loss.total.item(), "torch": torch.__version__}
        state = TrainingState(position=position, tensors=self._learner.capture(), facts=facts)
        save_state(self._job.output, state)
        kept = sorted(list_states(self._job.output))[-config.keep :]
        prune_states(self._job.output, keep=kept)

    def _tell_if_due(self, position: Position, loss: Loss, turn: Turn) -> None:
        ends = position.epoch == self._job.config.recipe.epochs
        if not ends and time.monotonic() - self._told < _TELL_SECONDS:
            return
        self._told = time.monotonic()
        recipe = self._job.config.recipe
        moment = Moment(
            position=position,
            total_samples=recipe.epochs * self._job.shards.samples,
            loss={
                name: getattr(loss, name).item()
                for name in ("objects", "background", "boxes", "total")
            },
            rate=recipe.make_schedule().rate_at(turn.epoch),
        )
        self._tell(moment)

    def _describe_divergence(
        self, loss: Loss, step: StepExamples[Example], position: Position
    ) -> str:
        # What the last step made of the weights may be what is wrong.
        states = [done for done in list_states(self._job.output) if done < position.steps]
        good = f"the state of step {max(states):,} is the last good one" if states else "no state"
        return (
            f"train: the loss of step {step.step} of epoch {step.epoch} is {loss.total.item()}, "
            f"expected a finite number; shards {self._job.shards.folder}, {good}: lower "
            f"--learning-rate (now {self._job.config.recipe.learning_rate}) in another --output"
        )
