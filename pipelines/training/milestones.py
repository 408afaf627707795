"""What happens when a state is due? It is looked at, measured, compared with the best, and kept.

The decision which state is best is part of every state, so that a training that goes on from one
comes to the same decision; `checkpoints/best.json` repeats it for whoever looks.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor, distributed

from pipelines.errors import PipelineError
from pipelines.training.checkpoints import (
    list_states,
    load_state,
    prune_states,
    save_state,
    write_best,
)
from pipelines.training.examples import Example
from pipelines.training.job import Best, Job
from pipelines.training.journal import Journal, forget_after
from pipelines.training.learner import Learner
from pipelines.training.state import Position, TrainingState
from pipelines.training.stream_loader import StepExamples
from pipelines.training.validation import DECIDES, Validator

logger = logging.getLogger(__name__)


class Milestones:
    """The states of one training, as one of its workers sees them."""

    def __init__(
        self,
        job: Job,
        learner: Learner,
        *,
        facts: Mapping[str, Any],
        position: Position,
        is_first: bool,
    ) -> None:
        """Go on from a state.

        Args:
            job: The training.
            learner: Its network.
            facts: Those of the state; none at the start.
            position: Where it is.
            is_first: Whether this is the worker that writes.

        Raises:
            StorageError: If the store refuses.
        """
        self.journal = Journal(job.output)
        self.measured: Mapping[str, float] | None = facts.get("measured")
        best = facts.get("best")
        self.best = None if best is None else Best(**best)
        self._job, self._learner, self._is_first = job, learner, is_first
        self._validator = (
            None if job.held_out is None else Validator(job, job.held_out, learner.device)
        )
        if is_first:
            forget_after(job.output, position.steps)
            self._tell_best()

    def pass_by(
        self, position: Position, done: Mapping[str, float], step: StepExamples[Example]
    ) -> None:
        """Do what is due after a step; every worker calls it.

        Args:
            position: Where the training is now.
            done: Loss of the step, for the state.
            step: What it was learnt from.

        Raises:
            PipelineError: If the weights, or what is measured, are no finite numbers any more.
        """
        is_measured = self._validator is not None and self._is_measured(position)
        steps = self._job.config.checkpoint_steps
        if position.steps % steps and position.step and not is_measured:
            return
        if not self._learner.is_sound():
            what = f"what step {step.step} of epoch {step.epoch} made of the weights is"
            raise self.end_diverged(position, what, step)
        if is_measured:
            self._measure(position, step)
        if self._is_first:
            self._save(position, done)

    def end_diverged(
        self, position: Position, what: str, step: StepExamples[Example]
    ) -> PipelineError:
        """Write down how it came to that; a training that goes on from the last state forgets it.

        Every worker calls it: the first to raise ends the others.

        Args:
            position: Where the training is: states of that step or later are not trusted.
            what: Is no finite number, with its verb.
            step: What was learnt from.

        Returns:
            What to raise: a sentence with step, shards, last good state and what to do.

        Raises:
            StorageError: If the store refuses.
        """
        if self._is_first:
            self._job.check_lease()
            self.journal.write(position.steps)
        if distributed.is_initialized():
            distributed.barrier()
        return PipelineError(_describe_divergence(self._job, position, what, step))

    def _is_measured(self, position: Position) -> bool:
        config = self._job.config.held_out
        if position.epoch == self._job.config.recipe.epochs:
            return True
        if config.validation_steps is not None:
            return position.steps % config.validation_steps == 0
        return not position.step and position.epoch % config.validation_epochs == 0

    def _measure(self, position: Position, step: StepExamples[Example]) -> None:
        """Measure the network.

        Raises:
            PipelineError: If it says no finite numbers.
        """
        assert self._validator is not None
        found = self._validator.measure(self._learner.weights())
        for name, value in found.values.items():
            if not math.isfinite(value):
                what = f"the {name} of held-out samples after step {position.steps} is {value},"
                raise self.end_diverged(position, what, step)
        self.measured = {"step": position.steps, **found.values}
        self._compare(position, found.values)
        if self._is_first:
            self.journal.note("validation", position.steps, found.values)
            self.journal.show(position.steps, found.pictures)

    def _compare(self, position: Position, values: Mapping[str, float]) -> None:
        """Decide whether this state is the best so far."""
        metric = DECIDES[self._job.config.task]
        value = values.get(metric)
        if value is None:
            # Refused here, a day's work could not go on without the held-out samples either.
            logger.warning(
                "--validation %s: no sample has what gives the %s, so that no state is the best",
                self._job.config.held_out.validation,
                metric,
            )
            return
        # Of equals the first: a resume must not depend on who comes later.
        sign = -1 if metric.endswith("error") else 1
        if self.best is None or sign * value > sign * self.best.value:
            self.best = Best(step=position.steps, metric=metric, value=value)

    def _save(self, position: Position, done: Mapping[str, float]) -> None:
        facts = {
            **done,
            "torch": torch.__version__,
            "measured": self.measured,
            "best": None if self.best is None else asdict(self.best),
        }
        self._job.check_lease()
        self.journal.write(position.steps)
        state = TrainingState(position=position, tensors=self._learner.capture(), facts=facts)
        save_state(self._job.output, state)
        self._prune(position.steps)

    def _prune(self, newest: int) -> None:
        # Later ones were found damaged when this training went on: each would push a whole one out.
        states = sorted(step for step in list_states(self._job.output) if step <= newest)
        kept = set(states[-self._job.config.keep :])
        if self.best is not None:
            kept.add(self.best.step)
        self._tell_best()
        prune_states(self._job.output, keep=kept)

    def _tell_best(self) -> None:
        if self.best is not None:
            write_best(self._job.output, asdict(self.best))

    def choose_weights(self, position: Position) -> tuple[int, dict[str, Tensor]]:
        """Find the weights that are handed out: the last ones or the best ones.

        Args:
            position: Where the training has ended.

        Returns:
            Their step, and the `state_dict` of a plain network. The learner's own may be gone.
        """
        if self._job.config.result == "best" and self.best is not None:
            if self.best.step != position.steps:
                self._learner.restore(load_state(self._job.output, self.best.step).tensors)
            return self.best.step, self._learner.weights()
        return position.steps, self._learner.weights()


def _describe_divergence(
    job: Job, position: Position, what: str, step: StepExamples[Example]
) -> str:
    # What the last step made of the weights may be what is wrong.
    states = [done for done in list_states(job.output) if done < position.steps]
    shards = ", ".join(job.name_shards(step.epoch, step.step))
    good = f"the state of step {max(states):,} is the last good one" if states else "no state"
    return (
        f"train: {what} no finite number; its samples are from {shards} of {job.shards.folder}, "
        f"{good}: lower --learning-rate (now {job.config.recipe.learning_rate}) in another --output"
    )
