"""What does one training process do, from its first batch to its last?

All workers take the same steps. The first of them saves; whoever starts again goes on from the
newest state that is whole.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any, Final

import torch
from torch import Tensor, distributed

from overfeat.geometry import map_size
from overfeat.losses import is_finite
from overfeat.network import OverFeat, initialize
from overfeat.zoo import get_architecture
from pipelines import storage
from pipelines.errors import PipelineError
from pipelines.images import ImageLimits
from pipelines.training.checkpoints import load_chosen_state, load_newest_state
from pipelines.training.examples import Batch, Example, join_examples, make_blank
from pipelines.training.job import Job, Moment, Tell
from pipelines.training.learner import Learner, Turn
from pipelines.training.milestones import Milestones
from pipelines.training.state import Position, TrainingState
from pipelines.training.stream_loader import Loader, StepExamples
from pipelines.weights import CheckpointFiles, load_tensors, put_checkpoint

RESULT_FILE: Final = "result.json"
"""How a training ended: written after all else."""
_NO_STATE: Final = -1
"""In place of the steps of a state, to tell other workers that there is none."""
_TELL_SECONDS = 1.0
"""Between two words about how far it is."""


def train_worker(job: Job, tell: Tell, *, on_gpu: bool = False) -> Position:
    """Train until all epochs are done.

    Args:
        job: What to do; the same on every worker.
        tell: Told how far it is; called by the first worker alone.
        on_gpu: Whether to compute on the GPU that was made this process's current one.

    Returns:
        Where it ended.

    Raises:
        PipelineError: If the loss is no number any more, or no sample of a batch could be read.
        TransientStorageError: If this worker cannot read the state that the first one goes on from.
    """
    rank = distributed.get_rank() if distributed.is_initialized() else 0
    torch.set_num_threads(job.config.threads)
    learner = _open_learner(job, _find_device(on_gpu=on_gpu))
    state = _load_state(job, rank, learner.device)
    position, facts = Position(), {}
    if state is not None:
        learner.restore(state.tensors)
        position, facts = state.position, dict(state.facts)
    milestones = Milestones(job, learner, facts=facts, position=position, is_first=rank == 0)
    loader = _open_loader(job, rank)
    run = _Run(job=job, learner=learner, loader=loader, milestones=milestones, tell=tell)
    epochs = job.config.recipe.epochs
    if position.epoch < epochs:
        steps = loader.iter_epochs(position.epoch, epochs, first_step=position.step)
        for step in steps:
            position = run.take(step, position, is_first=rank == 0)
    if rank == 0:
        _put_result(job, milestones, position)
    return position


def _load_state(job: Job, rank: int, device: torch.device) -> TrainingState | None:
    """The state to go on from, which the first worker chooses: one that missed it would differ."""
    state = load_newest_state(job.output) if rank == 0 else None
    if not distributed.is_initialized():
        return state
    chosen = torch.tensor(_NO_STATE if state is None else state.position.steps, device=device)
    distributed.broadcast(chosen, 0)
    step = int(chosen)
    return state if rank == 0 or step == _NO_STATE else load_chosen_state(job.output, step)


def _put_result(job: Job, milestones: Milestones, position: Position) -> None:
    """Write the checkpoint, and last that the training has ended."""
    uri = storage.join_uri(job.output, RESULT_FILE)
    step, weights = milestones.choose_weights(position)
    job.check_lease()
    # That of another --result must not stand beside a checkpoint that is no longer its own.
    storage.delete([uri])
    provenance = _trace(job, position) | {"step": step, "measured": milestones.measured}
    put_checkpoint(job.output, replace(job.checkpoint, provenance=provenance), weights)
    best = None if milestones.best is None else asdict(milestones.best)
    result = {
        "position": asdict(position),
        "step": step,
        "measured": milestones.measured,
        "best": best,
        "result": job.config.result,
    }
    data = json.dumps(result, indent=2).encode()
    storage.write_bytes(uri, data, scratch=storage.join_uri(job.output, ".tmp"))


def _trace(job: Job, position: Position) -> dict[str, Any]:
    """Where a checkpoint comes from; not where things lay on one machine, for it travels."""
    said = asdict(job.config)
    said["held_out"].pop("validation")
    places = {"shards", "images", "output", "weights", "address"}
    return {
        "config": {name: value for name, value in said.items() if name not in places},
        "shards": job.shards.digest,
        "base": None if job.base is None else job.base.digest,
        "position": asdict(position),
        "torch": torch.__version__,
    }


def _open_learner(job: Job, device: torch.device) -> Learner:
    config, recipe = job.config, job.config.recipe
    network = job.checkpoint.build_network()
    initialize(network, seed=config.seed, std=recipe.init_std)
    if job.base is not None:
        network.load_state_dict(network.state_dict() | _take_fitting(job, job.base, network))
    return Learner(
        network,
        recipe,
        device=device,
        background=job.background,
        context=config.context,
        autocast=config.dtype == "bfloat16",
        compiled=config.compile,
        seed=config.seed,
    )


def _take_fitting(job: Job, base: CheckpointFiles, network: OverFeat) -> dict[str, Tensor]:
    """The weights of the checkpoint to begin with that mean the same in this network."""
    ours = network.state_dict()
    speaks_alike = base.config.box_coding == job.checkpoint.box_coding
    return {
        name: value
        for name, value in load_tensors(base).items()
        if name in ours
        and ours[name].shape == value.shape
        and (speaks_alike or not name.startswith("regressor."))
    }


def _find_device(*, on_gpu: bool) -> torch.device:
    # Ray leaves all GPUs in sight of a worker that has none: that one is there says nothing.
    return torch.device("cuda", torch.cuda.current_device()) if on_gpu else torch.device("cpu")


def _open_loader(job: Job, rank: int) -> Loader[Example]:
    world = distributed.get_world_size() if distributed.is_initialized() else 1
    return Loader(
        job.shards,
        job.config.order_config(),
        job.make_examples(job.config.recipe),
        rank=rank,
        world_size=world,
        processes=job.config.decoders,
        limits=ImageLimits(),
    )


class _Run:
    """The steps of one worker."""

    def __init__(
        self,
        *,
        job: Job,
        learner: Learner,
        loader: Loader[Example],
        milestones: Milestones,
        tell: Tell,
    ) -> None:
        self._job = job
        self._learner = learner
        self._steps_per_epoch = loader.steps_per_epoch
        self._milestones = milestones
        self._tell = tell
        self._told = 0.0
        self._began = time.monotonic()

    def take(self, step: StepExamples[Example], position: Position, *, is_first: bool) -> Position:
        """Do one step, and what is due after it; returns where it is then.

        Raises:
            PipelineError: If nothing could be learnt from it.
        """
        damaged, useful = self._add_up(step.damaged, len(step.examples))
        if not useful:
            return self._pass_over(step, position, damaged)
        turn = Turn(
            steps=position.steps, epoch=position.epoch + (step.step + 1) / self._steps_per_epoch
        )
        loss = self._learner.take_step(self._join(step), turn)
        if not is_finite(loss):
            what = f"the loss of step {step.step} of epoch {step.epoch} is {loss.total.item()},"
            raise self._milestones.end_diverged(position, what, step)
        position = position.advance(
            samples=step.n_global, damaged=damaged, steps_per_epoch=self._steps_per_epoch
        )
        names = (*self._job.config.recipe.loss.parts, "total")
        parts = {name: getattr(loss, name).item() for name in names}
        if is_first and self._is_logged(position):
            self._note(position, turn, parts, step.n_global / (time.monotonic() - self._began))
        self._milestones.pass_by(position, {"loss": parts["total"]}, step)
        if is_first:
            self._tell_if_due(position, parts, turn)
        # Waiting for samples counts for the next step's speed; measuring and saving do not.
        self._began = time.monotonic()
        return position

    def _pass_over(self, step: StepExamples[Example], position: Position, damaged: int) -> Position:
        """Leave out what is left of an epoch: it may be one sample, which stops nothing if damaged.

        Raises:
            PipelineError: If it is a whole batch, or all there is.
        """
        if step.n_global == self._job.config.recipe.batch_size or self._steps_per_epoch == 1:
            raise PipelineError(
                f"train: none of the {step.n_global} samples of step {position.steps} could be "
                f"used; look at the warnings above, and at {self._job.shards.folder}"
            )
        position = position.advance(
            samples=step.n_global, damaged=damaged, steps_per_epoch=self._steps_per_epoch
        )
        self._milestones.pass_by(position, {}, step)
        return position

    def _is_logged(self, position: Position) -> bool:
        return not position.step or position.steps % self._job.config.log_steps == 0

    def _note(
        self, position: Position, turn: Turn, parts: Mapping[str, float], speed: float
    ) -> None:
        """Write down one step by itself: a resume writes down the same."""
        facts = {
            "epoch": turn.epoch,
            "samples": position.samples,
            "rate": self._learner.rate_at(turn),
            **{f"loss_{name}": value for name, value in parts.items()},
            "samples_per_second": round(speed, 3),
        }
        self._milestones.journal.note("training", position.steps, facts)

    def _join(self, step: StepExamples[Example]) -> Batch:
        if step.examples:
            return join_examples(step.examples)
        # A worker whose streams have ended takes part with nothing, so that no other waits for it.
        architecture = get_architecture(self._job.config.architecture)
        cells = map_size(architecture, architecture.window, "fine")
        return make_blank(architecture.window, cells, context=self._job.config.context)

    def _add_up(self, *numbers: int) -> list[int]:
        if not distributed.is_initialized():
            return list(numbers)
        values = torch.tensor(numbers, device=self._learner.device)
        distributed.all_reduce(values)
        return [int(value) for value in values]

    def _tell_if_due(self, position: Position, parts: Mapping[str, float], turn: Turn) -> None:
        ends = position.epoch == self._job.config.recipe.epochs
        if not ends and time.monotonic() - self._told < _TELL_SECONDS:
            return
        self._told = time.monotonic()
        moment = Moment(
            position=position,
            total_samples=self._job.config.recipe.epochs * self._job.shards.samples,
            loss=parts,
            rate=self._learner.rate_at(turn),
            measured=self._milestones.measured,
            best=self._milestones.best,
        )
        self._tell(moment)
