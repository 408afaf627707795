"""Shards or images -> a checkpoint: a classifier, a box regressor, a detector, or all in one.

    overfeat train --shards scenes --output checkpoint --dtype bfloat16
    overfeat train --images photos --output classifier

Shards come from overfeat shards; photos has a folder of images for each class. Writes
model.safetensors and config.json, and the states that a resume needs beside them. Killed, it goes
on by the same command.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from types import TracebackType

import tyro

from jobs.entrypoint import Result, make_main
from pipelines.progress import Progress, format_seconds
from pipelines.training.config import ArchitectureName, TrainConfig
from pipelines.training.job import Moment
from pipelines.training.recipe import TrainingTask, choose_recipe
from pipelines.training.run import TrainReport, train
from pipelines.wording import tell_count

logger = logging.getLogger(__name__)


def run(config: TrainConfig) -> Result:
    """Train a network.

    Args:
        config: The flags.

    Returns:
        Epochs, steps, seconds, final loss, what was measured.
    """
    meter = _Meter()
    with meter:
        report = train(config, meter.tell)
    return Result(values=asdict(report), text=describe(report))


def describe(report: TrainReport) -> str:
    """Write a report for people.

    Args:
        report: How the training went.

    Returns:
        A few lines.
    """
    loss = "" if report.loss is None else f", final loss {report.loss:.3f}"
    spent = f"the last part in {format_seconds(report.seconds)}" if report.is_new else "done before"
    lines = [
        f"{tell_count(report.epochs, 'epoch')}, {tell_count(report.steps, 'step')} over "
        f"{tell_count(report.samples, 'sample')}, {spent}{loss}: {report.output}"
    ]
    if report.measured is not None:
        lines.append(f"held-out samples: {_describe_measured(report.measured)}")
    if report.best is not None:
        best = report.best
        lines.append(f"best after step {best['step']:,}: {best['metric']} {best['value']:.4f}")
        lines.append(f"the checkpoint is {_describe_choice(report.step, best['step'])}")
    if report.left_out is not None:
        lines.append(report.left_out.describe())
    return "\n".join(lines)


def _describe_choice(step: int, best: int) -> str:
    if step == best:
        return "the best state"
    return f"that of step {step:,}; the same command with --result best makes it the best one"


def _describe_measured(measured: Mapping[str, float]) -> str:
    values = [f"{name} {value:.4f}" for name, value in measured.items() if name != "step"]
    return f"{', '.join(values)} after step {measured['step']:,}"


class _Meter:
    """Progress that begins where a training goes on."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._progress: Progress | None = None
        self._measured: Mapping[str, float] | None = None

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
        if moment.measured is not None and moment.measured != self._measured:
            self._measured = moment.measured
            logger.info("held-out samples: %s", _describe_measured(moment.measured))


@dataclass(frozen=True, kw_only=True)
class _Choice:
    """What other flags depend on."""

    task: TrainingTask | None = None
    shards: str | None = None
    images: str | None = None
    architecture: ArchitectureName = "tiny"
    weights: str | None = None


def choose_default(args: Sequence[str]) -> TrainConfig:
    """Find what the flags are if they are not given.

    Args:
        args: What the user said.

    Returns:
        A configuration with the recipe of the network and the task that are named.

    Raises:
        InputError: If there is nothing to learn from: a parser would ask for one flag of the two.
    """
    asked = [word for word in args if word not in {"-h", "--help"}]
    choice, _ = tyro.cli(_Choice, args=asked, return_unknown_args=True)
    # Who asks for help has not said yet what to learn from, and need not.
    is_unsaid = len(asked) < len(args) and choice.shards is None and choice.images is None
    # Nobody has drawn boxes in a folder of images.
    task = choice.task or ("joint" if choice.images is None else "classify")
    return TrainConfig(
        output=tyro.MISSING,
        shards=tyro.MISSING if is_unsaid else choice.shards,
        images=choice.images,
        task=task,
        architecture=choice.architecture,
        weights=choice.weights,
        recipe=choose_recipe(choice.architecture, task),
    )


main = make_main(TrainConfig, run, name="train", description=__doc__, default=choose_default)


if __name__ == "__main__":
    sys.exit(main())
