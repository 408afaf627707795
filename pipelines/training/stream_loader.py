"""How does a training worker get its examples? From its streams, decoded ahead by processes.

Every worker gets every step of an epoch, the same number of them whatever its shards hold: a worker
whose streams have ended gets steps without examples, so that none waits for another.
"""

from __future__ import annotations

import logging
import pickle
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final, Generic, TypeVar

import torch
from torch.utils.data import DataLoader

from pipelines.errors import InputError, PipelineError
from pipelines.images import ImageLimits
from pipelines.training.decoding import (
    Damage,
    Decoding,
    Example,
    MakeExample,
    PackedParts,
    Part,
    end_with_parent,
)
from pipelines.training.order import EpochOrder, OrderConfig
from pipelines.training.shard_set import ShardSet
from pipelines.training.transport import unpack_arrays

logger = logging.getLogger(__name__)

_PREFETCHED_STEPS: Final = 2
"""Steps that each process makes ahead (assumed: enough to cover a slow image or request)."""
_MOST_DEATHS: Final = 3
"""Times that decoding processes die at one step before it counts as no accident (assumed)."""


class _DeathError(Exception):
    """A decoding process died: others can go on where it stood."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StepExamples(Generic[Example]):
    """What a worker gets of a global batch."""

    epoch: int
    """From 0."""
    step: int
    """From 0 in the epoch."""
    examples: Sequence[Example]
    """This worker's, in the order of its streams; none where they have ended."""
    samples: int
    """How many samples this worker took, damaged ones too."""
    damaged: int
    """How many of those could not be decoded."""
    n_global: int
    """Samples of the global batch, of all workers, damaged ones too."""


class Loader(Generic[Example]):
    """The examples of one worker, for any epoch and from any step on."""

    def __init__(
        self,
        shards: ShardSet,
        order: OrderConfig,
        make_example: MakeExample[Example],
        *,
        rank: int,
        world_size: int,
        processes: int,
        limits: ImageLimits,
    ) -> None:
        """Check the settings; nothing is read yet.

        Args:
            shards: What to train on.
            order: The same in all workers, and in a resume.
            make_example: Defined at the top level of a module, if there are processes.
            rank: Of this worker: stream s is its own if s % world_size is its rank.
            world_size: Workers, at most the streams.
            processes: That decode for this worker, at most its streams; 0 to decode in this one,
                when an example is asked for. Examples are the same with any number.
            limits: Images beyond them count as damaged.

        Raises:
            InputError: There are more workers than streams, or `make_example` cannot go to another
                process.
        """
        _check(order, rank=rank, world_size=world_size, processes=processes)
        if processes:
            _check_pickles(make_example)
        self._shards = shards
        self._order = order
        self._make_example = make_example
        self._limits = limits
        self._streams = range(rank, order.streams, world_size)
        self._processes = min(processes, len(self._streams))
        self._named: set[str] = set()
        if self._processes < processes:
            logger.warning(
                "--streams %d: %d of %d decoding processes of worker %d have one to read; a "
                "multiple of workers x processes gives all of them work",
                order.streams,
                self._processes,
                processes,
                rank,
            )

    @property
    def steps_per_epoch(self) -> int:
        """Global batches of an epoch, the same for every worker and every epoch."""
        return EpochOrder(self._shards.shard_sizes, self._order, 0).steps

    def iter_epoch(self, epoch: int, first_step: int = 0) -> Iterator[StepExamples[Example]]:
        """Go through one epoch.

        Args:
            epoch: From 0.
            first_step: Where to begin, 0 to `steps_per_epoch`.

        Returns:
            One element a step. Closing it, or its end, ends the decoding processes.

        Raises:
            InputError: The epoch has no such step.
        """
        return self.iter_epochs(epoch, epoch + 1, first_step=first_step)

    def iter_epochs(
        self, start: int, stop: int, *, first_step: int = 0
    ) -> Iterator[StepExamples[Example]]:
        """Go through several epochs with the same processes.

        They go on to the next epoch without a pause; starting them takes seconds, torch's import.

        Args:
            start: First epoch, from 0.
            stop: Behind the last epoch.
            first_step: Where to begin in the first epoch, 0 to `steps_per_epoch`.

        Returns:
            One element a step. Closing it, or its end, ends the decoding processes. If one of
            them dies, others begin where it stood. While it goes on it raises PipelineError if
            they die at one step again and again, and StorageError if a shard cannot be read.

        Raises:
            InputError: The epoch has no such step.
        """
        if not 0 <= first_step <= self.steps_per_epoch:
            raise InputError(
                f"loader: received step {first_step} to begin at, expected 0 to "
                f"{self.steps_per_epoch}; a checkpoint goes on with its own shards, batch size and "
                "streams"
            )
        decoding = Decoding(
            shards=self._shards,
            order=self._order,
            make_example=self._make_example,
            limits=self._limits,
            epochs=range(start, stop),
            first_step=first_step,
        )
        return self._iter_steps(decoding)

    def _iter_steps(self, decoding: Decoding[Example]) -> Iterator[StepExamples[Example]]:
        order = EpochOrder(self._shards.shard_sizes, self._order, 0)  # batches: equal in all epochs
        deaths = 0
        while True:
            parts = self._iter_parts(decoding)
            try:
                while group := list(islice(parts, max(1, self._processes))):
                    self._warn(damage for part in group for damage in part.damages)
                    yield _merge(group, order.count_samples(group[0].step))
                    decoding = decoding.begin_after(group[0].epoch, group[0].step)
                    deaths = 0
            except _DeathError as error:
                deaths += 1
                _warn_of_death(decoding, error, deaths)
            else:
                return

    def _iter_parts(self, decoding: Decoding[Example]) -> Iterator[Part[Example]]:
        if self._processes:
            return _iter_apart(decoding, self._streams, self._processes)
        return decoding.iter_parts(self._streams)

    def _warn(self, damages: Iterator[Damage]) -> None:
        """Name damaged samples, each once however many epochs there are."""
        for damage in damages:
            if damage.key not in self._named:
                self._named.add(damage.key)
                logger.warning(
                    "shards %s: sample %s of %s is left out: %s",
                    self._shards.folder,
                    damage.key,
                    damage.shard,
                    damage.message,
                )


def _check(order: OrderConfig, *, rank: int, world_size: int, processes: int) -> None:
    if not 0 <= rank < world_size:
        raise InputError(f"loader: received rank {rank}, expected 0 to below {world_size} workers")
    if order.streams < world_size:
        raise InputError(
            f"--streams: received {order.streams}, expected at least the {world_size} workers, of "
            "which each reads whole streams"
        )
    if processes < 0:
        raise InputError(f"loader: received {processes} processes, expected at least 0")


def _check_pickles(make_example: MakeExample[Example]) -> None:
    try:
        pickle.dumps(make_example)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise InputError(
            f"loader: {make_example!r} cannot go to a decoding process ({error}); define it at the "
            "top level of a module, or decode in this process"
        ) from error


# Has processes make the parts: of each step in turn one part of each.
def _iter_apart(
    decoding: Decoding[Example], streams: Sequence[int], processes: int
) -> Iterator[Part[Example]]:
    loader = DataLoader(
        PackedParts(decoding, streams),
        batch_size=None,
        num_workers=processes,
        prefetch_factor=_PREFETCHED_STEPS,
        collate_fn=_keep,
        # Never a fork: the threads of torch, Ray and the store's clients do not survive one. A
        # spawned process also sees the environment as it is now, credentials included.
        multiprocessing_context="spawn",
        worker_init_fn=end_with_parent,
        generator=torch.Generator(),  # else a seed would be drawn from the global one
    )
    try:
        for answer in loader:
            if isinstance(answer, PipelineError):
                raise answer
            yield unpack_arrays(answer)
    except RuntimeError as error:
        if not str(error).startswith("DataLoader worker (pid"):
            raise
        raise _DeathError(str(error)) from error
    except (EOFError, OSError) as error:
        # Torch tells so of what a process raised itself.
        if str(error).startswith("Caught "):
            raise
        # It died while it handed a part over, before torch saw that it had.
        raise _DeathError(f"while it handed a part over: {error!r}") from error


def _warn_of_death(decoding: Decoding[Example], error: _DeathError, deaths: int) -> None:
    """Say that processes died, or that they do so again and again.

    Raises:
        PipelineError: This was the last time.
    """
    said = " ".join(str(error).split())
    place = f"near step {decoding.first_step} of epoch {decoding.epochs.start}"
    help_ = (
        "if memory ran out, lower --shuffle-block or the number of processes, or enlarge /dev/shm"
    )
    if deaths == _MOST_DEATHS:
        raise PipelineError(
            f"loader: {deaths} times a decoding process died {place} ({said}); {help_}"
        ) from error
    logger.warning(
        "a decoding process died %s (%s): others go on where it stood; %s", place, said, help_
    )


_Kept = TypeVar("_Kept")


def _keep(part: _Kept) -> _Kept:
    """Leave a part as it is, without torch looking for arrays in it."""
    return part


def _merge(parts: Sequence[Part[Example]], n_global: int) -> StepExamples[Example]:
    """Put together what the processes of a worker made for a step."""
    assert len({(part.epoch, part.step) for part in parts}) == 1
    by_stream = {stream: made for part in parts for stream, made in part.examples.items()}
    return StepExamples(
        epoch=parts[0].epoch,
        step=parts[0].step,
        examples=[example for stream in sorted(by_stream) for example in by_stream[stream]],
        samples=sum(part.samples for part in parts),
        damaged=sum(len(part.damages) for part in parts),
        n_global=n_global,
    )
