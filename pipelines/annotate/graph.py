"""The Ray Data graph of an annotation run: one block a slice, from its number to its receipt.

numbers -> read (CPU tasks) -> detect (actors, one a GPU) -> write (CPU tasks) -> summaries
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import ray
import torch
from ray.data import ActorPoolStrategy, DataContext, Dataset
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from overfeat.member import Dtype
from pipelines.annotate.attempts import (
    DECODE_APART_FROM,
    REHEARSE_FROM,
    Attempts,
    Start,
    note_start,
)
from pipelines.annotate.config import DtypeChoice
from pipelines.annotate.rehearsal import Rehearsal
from pipelines.annotate.stages import (
    SLICE_PIXEL_BYTES,
    StageConfig,
    detect_slice,
    read_slice,
    rehearse_slice,
    write_slice,
)
from pipelines.cluster import Placement
from pipelines.manifest import SlicePlace
from pipelines.weights import ModelFiles, open_predictor

if TYPE_CHECKING:
    from ray import ObjectRef

_CPUS_PER_WRITE = 0.25
"""Writing waits for the store more than it computes (assumed)."""


class _StartCounter:
    """The one `Attempts` of a run, asked by all workers."""

    def __init__(self, output: str, lease: str | None) -> None:
        # On the driver's node: the counts need not outlive the driver.
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        remote = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)(Attempts)
        self._attempts: Any = remote.options(scheduling_strategy=here).remote(output)
        self._output = output
        self._lease = lease

    def begin(self, number: int, generation: int, stage: str) -> int:
        """Count a start of a slice, and leave a note if it is not the first; says which it is."""
        start: Start = ray.get(self._attempts.start.remote(number, generation, stage))
        note_start(self._output, number, generation, start, self._lease)
        return start.attempt


class DetectActor:
    """One process with the model in its memory, pinned to its GPU or its CPU threads."""

    def __init__(
        self,
        files: ObjectRef[ModelFiles],
        config: StageConfig,
        counter: _StartCounter,
        *,
        device: str,
        dtype: Dtype,
        threads: int,
    ) -> None:
        # Ray sets one thread per reserved CPU; the results' last bits depend on the number.
        torch.set_num_threads(threads)
        self.config = config
        self.counter = counter
        self.files = files
        self.predictor = open_predictor(ray.get(files), device=device, dtype=dtype)
        self.rehearse = partial(
            Rehearsal,
            predict=config.predict,
            tasks=config.tasks,
            device=device,
            dtype=dtype,
            threads=threads,
        )

    def __call__(self, table: pa.Table) -> pa.Table:
        """Detect on one slice.

        Args:
            table: Of `READ_SCHEMA`.

        Returns:
            The rows without their pixels, and with the model's answers.
        """
        if self.counter.begin(*_identify(table), "detect") >= REHEARSE_FROM:
            with self.rehearse(ray.get(self.files)) as rehearse:
                table = rehearse_slice(table, rehearse)
        return detect_slice(table, self.predictor, self.config)


def resolve_device(placement: Placement, dtype: DtypeChoice) -> tuple[str, Dtype]:
    """Ask a worker, placed like a detect actor, which kind of device it has.

    Args:
        placement: Where the detect actors run.
        dtype: What the user asked for.

    Returns:
        `cuda` or `cpu`, and the number format.
    """

    def look() -> str:
        return "cuda" if torch.cuda.is_available() else "cpu"

    remote = ray.remote(num_gpus=placement.gpus_per_worker, num_cpus=1)(look)
    device = ray.get(remote.remote())
    if dtype == "auto":
        return device, "bfloat16" if device == "cuda" else "float32"
    return device, dtype


def run_graph(
    slices: Sequence[SlicePlace],
    files: ModelFiles,
    config: StageConfig,
    *,
    placement: Placement,
    device: str,
    dtype: Dtype,
    threads: int,
    cpus_per_read: float,
) -> Iterator[Any]:
    """Do slices until all are committed.

    Args:
        slices: Where each is listed, in the order in which they are dispatched.
        files: The model.
        config: What the stages are told.
        placement: Where the detect actors run.
        device: Kind of device that every actor has.
        dtype: Number format of the network.
        threads: CPU threads of each actor.
        cpus_per_read: CPUs reserved for each reading task.

    Yields:
        The summary table of each slice, once it is committed.
    """
    _set_context()

    counter = _StartCounter(config.output, config.lease)

    def read(block: pa.Table) -> pa.Table:
        # One row a block: were blocks ever joined, a slice would be lost here.
        (index,) = block["id"].to_numpy()
        place = slices[index]
        attempt = counter.begin(place.number, place.generation, "read")
        apart, again = attempt >= DECODE_APART_FROM, attempt > 1
        return read_slice(place, config, apart=apart, again=again)

    def write(block: pa.Table) -> pa.Table:
        counter.begin(*_identify(block), "write")
        return write_slice(block, config)

    blocks = ray.data.range(len(slices), override_num_blocks=len(slices))
    decoded = _map_slices(blocks, read, num_cpus=cpus_per_read)
    detected = _map_slices(
        decoded,
        DetectActor,
        compute=ActorPoolStrategy(size=placement.workers),
        num_cpus=placement.cpus_per_worker,
        num_gpus=placement.gpus_per_worker,
        fn_constructor_args=(ray.put(files), config, counter),
        fn_constructor_kwargs={"device": device, "dtype": dtype, "threads": threads},
    )
    written = _map_slices(detected, write, num_cpus=_CPUS_PER_WRITE)
    yield from written.iter_batches(batch_size=None, batch_format="pyarrow")


def _identify(table: pa.Table) -> tuple[int, int]:
    """The number and the generation of a slice between the stages."""
    return table["slice"][0].as_py(), table["generation"][0].as_py()


def _map_slices(blocks: Dataset, stage: Any, **options: Any) -> Dataset:  # noqa: ANN401 (Ray's own)
    """Apply a stage to whole blocks, as Arrow tables: a block is a slice, never split or joined."""
    return blocks.map_batches(stage, batch_size=None, batch_format="pyarrow", **options)


def _set_context() -> None:
    context = DataContext.get_current()
    # Ray Data splits a block that is larger.
    context.target_max_block_size = SLICE_PIXEL_BYTES
    # Ours is the progress that a person sees; Ray's bars would be drawn over it.
    context.enable_progress_bars = False
    # What a stage raises reaches the user as one sentence, not as Ray's log of its traceback.
    context.raise_original_map_exception = True
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)
    logging.getLogger("ray.data._internal.progress").setLevel(logging.CRITICAL)
    context.execution_options.preserve_order = False
    # The engine's own patience: a slice of large images on slow CPUs may take its time.
    context.execution_no_progress_timeout_s = -1
