"""The Ray Train graph of a training: the same worker several times, each pinned to its own device.

A worker that dies is replaced, with all others, by Ray; they go on from the newest state.
"""

from __future__ import annotations

import logging
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import ray
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchConfig, TorchTrainer
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from pipelines.cluster import Placement
from pipelines.errors import PipelineError
from pipelines.training.state import Position
from pipelines.training.worker import Job, Moment, Tell, train_worker

logger = logging.getLogger(__name__)

_POLL_SECONDS = 0.5


@dataclass(slots=True)
class _Said:
    """What workers have said to the driver."""

    moment: Moment | None = None
    error: PipelineError | None = None
    end: Position | None = None


class _Board:
    """Where they say it: a process beside the driver's."""

    def __init__(self) -> None:
        self._said = _Said()

    def tell(self, moment: Moment) -> None:
        self._said.moment = moment

    def give_up(self, error: PipelineError) -> None:
        self._said.error = self._said.error or error

    def end(self, position: Position) -> None:
        self._said.end = position

    def read(self) -> _Said:
        return self._said


def run_workers(job: Job, placement: Placement, tell: Tell) -> Position:
    """Train on the workers of a cluster.

    Args:
        job: What every worker does.
        placement: How many of them, and on what.
        tell: Told how far the training is, in this process.

    Returns:
        Where it ended.

    Raises:
        PipelineError: If it cannot go on: another start would not help.
    """
    board = _open_board()
    reference = [ray.put(job)]

    def work(_: dict[str, Any]) -> None:
        # Ray Train starts all workers again for any error; one that would come again is told here.
        if ray.get(board.read.remote()).error is not None:
            return
        try:
            position = train_worker(
                ray.get(reference[0]), lambda moment: ray.get(board.tell.remote(moment))
            )
        except PipelineError as error:
            ray.get(board.give_up.remote(error))
            raise
        ray.get(board.end.remote(position))

    with tempfile.TemporaryDirectory() as folder, _watching(board, tell):
        trainer = TorchTrainer(
            work,
            train_loop_config={},
            scaling_config=ScalingConfig(
                num_workers=placement.workers,
                use_gpu=bool(placement.gpus_per_worker),
                resources_per_worker={
                    "CPU": placement.cpus_per_worker,
                    **({"GPU": placement.gpus_per_worker} if placement.gpus_per_worker else {}),
                },
            ),
            torch_config=TorchConfig(backend=None if placement.gpus_per_worker else "gloo"),
            run_config=RunConfig(
                name="training",
                # States are ours, on the user's store; Ray keeps its own notes here.
                storage_path=folder,
                failure_config=FailureConfig(max_failures=-1),
            ),
        )
        trainer.fit()
    said: _Said = ray.get(board.read.remote())
    if said.error is not None:
        raise said.error
    if said.end is None:
        raise PipelineError("train: the workers ended without an end; run the same command again")
    return said.end


def _open_board() -> Any:  # noqa: ANN401 (Ray's handle)
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    return ray.remote(num_cpus=0)(_Board).options(scheduling_strategy=here).remote()


@contextmanager
def _watching(board: Any, tell: Tell) -> Iterator[None]:  # noqa: ANN401 (Ray's handle)
    """Pass on what the board says while the body runs."""
    done = threading.Event()

    def watch() -> None:
        last = None
        while True:
            is_last = done.wait(_POLL_SECONDS)
            moment = ray.get(board.read.remote()).moment
            if moment is not None and moment != last:
                last = moment
                tell(moment)
            if is_last:
                return

    watcher = threading.Thread(target=watch, name="training", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        done.set()
        watcher.join()
