"""Shards -> a checkpoint: a classifier, a box regressor, a detector, or all in one network.

    overfeat train --shards scenes --output checkpoint --dtype bfloat16

Writes model.safetensors and config.json, and the states that a resume needs beside them. Killed,
it goes on by the same command.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from types import TracebackType

import tyro

from jobs.entrypoint import Result, make_main
from pipelines.progress import Progress, format_seconds
from pipelines.training.config import ArchitectureName, TrainConfig
from pipelines.training.recipe import TrainingTask, choose_recipe
from pipelines.training.run import train
from pipelines.training.worker import Moment


def run(config: TrainConfig) -> Result:
    """Train a network.

    Args:
        config: The flags.

    Returns:
        Epochs, steps, seconds, final loss.
    """
    meter = _Meter()
    with meter:
        report = train(config, meter.tell)
    loss = "" if report.loss is None else f", final loss {report.loss:.3f}"
    text = (
        f"{report.epochs:,} epochs, {report.steps:,} steps over {report.samples:,} samples, the "
        f"last part in {format_seconds(report.seconds)}{loss}: {report.output}"
    )
    return Result(values=asdict(report), text=text)


class _Meter:
    """Progress that begins where a training goes on."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._progress: Progress | None = None

    def __enter__(self) -> _Meter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def tell(self, moment: Moment) -> None:
        samples = moment.position.samples
        if self._progress is None:
            meter = Progress(moment.total_samples, unit="samples", done=samples)
            self._progress = self._stack.enter_context(meter)
        words = f"epoch {moment.position.epoch}, loss {moment.loss['total']:.3f}"
        self._progress.advance(samples - self._progress.done, words)


@dataclass(frozen=True, kw_only=True)
class _Choice:
    """What the recipe depends on."""

    task: TrainingTask = "joint"
    architecture: ArchitectureName = "tiny"


def choose_default(args: Sequence[str]) -> TrainConfig:
    """Find what the flags are if they are not given.

    Args:
        args: What the user said.

    Returns:
        A configuration with the recipe of the network and the task that are named.
    """
    asked = [word for word in args if word not in {"-h", "--help"}]
    choice, _ = tyro.cli(_Choice, args=asked, return_unknown_args=True)
    return TrainConfig(
        shards=tyro.MISSING,
        output=tyro.MISSING,
        task=choice.task,
        architecture=choice.architecture,
        recipe=choose_recipe(choice.architecture, choice.task),
    )


main = make_main(TrainConfig, run, name="train", description=__doc__, default=choose_default)


if __name__ == "__main__":
    sys.exit(main())
