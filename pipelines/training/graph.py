"""The Ray Train graph of a training: the same worker several times, each pinned to its own device.

A worker that dies is replaced, with all others, by Ray; they go on from the newest state.
"""

from __future__ import annotations

import logging
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

import ray
import ray.train
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchConfig, TorchTrainer
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from pipelines.cluster import Placement
from pipelines.errors import PipelineError, TransientStorageError
from pipelines.training.checkpoints import list_states
from pipelines.training.job import Job, Moment, Tell
from pipelines.training.state import Position
from pipelines.training.worker import train_worker

logger = logging.getLogger(__name__)

_POLL_SECONDS = 0.5
_MOST_STARTS = 8
"""Starts from one state (assumed: as many workers are not lost one after another)."""
_WORDS = 300
"""Characters of an error that are told."""
_BACKENDS = {True: "nccl", False: "gloo"}
"""How workers talk to each other, by whether they have GPUs."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Seat:
    """Where a worker sits."""

    rank: int
    """Of the worker."""
    node: str
    """Address of its machine."""
    gpus: tuple[int | str, ...]
    """GPUs of that machine that are its own; none on CPUs."""


def _find_seat() -> Seat:
    return Seat(
        rank=ray.train.get_context().get_world_rank(),
        node=ray.util.get_node_ip_address(),  # type: ignore[no-untyped-call]  # Ray's own
        gpus=tuple(ray.get_gpu_ids()),
    )


@dataclass(slots=True)
class _Said:
    """What workers have said to the driver."""

    moment: Moment | None = None
    error: PipelineError | None = None
    end: Position | None = None
    seats: dict[int, Seat] = field(default_factory=dict)
    states: set[int] = field(default_factory=set)
    """Steps of all states that were seen when they were started."""
    starts: int = 0
    """How often they were started since that state."""
    starts_in_all: int = 0
    """How often they were started by this command."""
    words: str = ""
    """Of the first of them that ended by an error that may pass, or that nobody foresaw."""
    last_words: str = ""
    """The same of the start before."""

    @property
    def newest(self) -> int:
        """Steps of the newest of these states, 0 if there was none."""
        return max(self.states, default=0)


class _Board:
    """Where they say it: a process beside the driver's."""

    def __init__(self) -> None:
        self._said = _Said()

    def join(self, seat: Seat) -> None:
        self._said.seats[seat.rank] = seat

    def count_start(self, states: set[int]) -> int:
        """Count one more; a state that was not there before is progress, be it not the newest."""
        progressed = bool(states - self._said.states)
        self._said.states |= states
        self._said.starts_in_all += 1
        self._said.starts = 1 if progressed else self._said.starts + 1
        self._said.last_words, self._said.words = self._said.words, ""
        return self._said.starts

    def note_words(self, words: str) -> None:
        # Others end after the first, for they miss it.
        self._said.words = self._said.words or words

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
        ray.get(board.join.remote(_find_seat()))
        job: Job = ray.get(reference[0])
        try:
            with _LastWords(board):
                _check_starts(job, board, _MOST_STARTS)
                position = train_worker(
                    job,
                    lambda moment: ray.get(board.tell.remote(moment)),
                    on_gpu=bool(placement.gpus_per_worker),
                )
        except TransientStorageError:
            raise  # the store may answer again when all have been started again
        except PipelineError as error:
            ray.get(board.give_up.remote(error))
            # Raised it ends the others, who wait for this one; alone it would be started again.
            if ray.train.get_context().get_world_size() > 1:
                raise
            return
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
            torch_config=TorchConfig(backend=_BACKENDS[bool(placement.gpus_per_worker)]),
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


def _check_starts(job: Job, board: Any, most: int) -> None:  # noqa: ANN401 (Ray's handle)
    """Let the first worker count how often all were started and came to nothing.

    Raises:
        PipelineError: If that is often enough to call it no accident.
        TransientStorageError: If the store does not answer, so that they come to nothing again.
    """
    if ray.train.get_context().get_world_rank() != 0:
        return
    states, unheard = _find_states(job.output)
    starts = ray.get(board.count_start.remote(states))
    said: _Said = ray.get(board.read.remote())
    if starts > most:
        raise PipelineError(
            f"train: {most} times the workers ended before the next state after step "
            f"{said.newest}, the last time by "
            f"{said.last_words or 'something that killed them without a word'}; mend that (if "
            "memory ran out: --batch-size, --decoders) and run the same command again, or save "
            "more often: --checkpoint-steps"
        )
    if unheard is not None:
        raise unheard


def _find_states(output: str) -> tuple[set[int], TransientStorageError | None]:
    """Steps of the states that are there; none if the store does not answer, and why."""
    try:
        return list_states(output), None
    except TransientStorageError as error:
        return set(), error


class _LastWords:
    """Notes by what error a worker ended, if it was one and no end of the process."""

    def __init__(self, board: Any) -> None:  # noqa: ANN401 (Ray's handle)
        self._board = board

    def __enter__(self) -> None:
        pass

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        is_foreseen = isinstance(error, PipelineError)
        if kind is None or (is_foreseen and not isinstance(error, TransientStorageError)):
            return
        words = " ".join(str(error).split())
        name = "" if is_foreseen else f"{kind.__name__}: "
        ray.get(self._board.note_words.remote(name + words[:_WORDS]))


def _open_board() -> Any:  # noqa: ANN401 (Ray's handle)
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    return ray.remote(num_cpus=0)(_Board).options(scheduling_strategy=here).remote()


def _log_changes(before: _Said, said: _Said) -> None:
    """Tell where workers run, and that they were started again."""
    for rank, seat in said.seats.items():
        if before.seats.get(rank) != seat:
            gpus = f"GPU {' '.join(map(str, seat.gpus))}" if seat.gpus else "CPUs"
            logger.info("worker %d runs on %s of %s", rank, gpus, seat.node)
    if said.starts_in_all == before.starts_in_all:
        return
    if said.starts_in_all > 1:
        logger.warning(
            "a worker ended: all were started again, and go on after step %d", said.newest
        )
    elif said.newest:
        logger.info("goes on after step %d", said.newest)


@contextmanager
def _watching(board: Any, tell: Tell) -> Iterator[None]:  # noqa: ANN401 (Ray's handle)
    """Pass on what the board says while the body runs."""
    done = threading.Event()

    def watch() -> None:
        before = _Said()
        while True:
            is_last = done.wait(_POLL_SECONDS)
            said: _Said = ray.get(board.read.remote())
            _log_changes(before, said)
            if said.moment is not None and said.moment != before.moment:
                tell(said.moment)
            before = said
            if is_last:
                return

    watcher = threading.Thread(target=watch, name="training", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        done.set()
        watcher.join()
