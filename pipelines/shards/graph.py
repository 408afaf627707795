"""The Ray Data graph that packs shards: one block a shard, from its number to its receipt."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

import pyarrow as pa
import ray
from ray.data import DataContext, TaskPoolStrategy

from pipelines.shards.packing import PackingConfig, Receipt, decode_receipt, pack_shard


def pack_on_cluster(
    numbers: Sequence[int], config: PackingConfig, *, workers: int | None
) -> Iterator[Receipt]:
    """Pack shards in parallel, one CPU each.

    Args:
        numbers: Of the shards.
        config: What is packed, and where to.
        workers: Tasks at a time; None for as many as the cluster has CPUs.

    Yields:
        Receipts, as the shards become ready.
    """
    _set_context()

    def pack(block: pa.Table) -> pa.Table:
        # One row a block: were blocks ever joined, a shard would be lost here.
        (place,) = block["id"].to_numpy()
        receipt = pack_shard(numbers[place], config)
        return pa.table({"receipt": [json.dumps(asdict(receipt))]})

    blocks = ray.data.range(len(numbers), override_num_blocks=len(numbers))
    stage: Any = pack
    packed = blocks.map_batches(
        stage,
        batch_size=None,
        batch_format="pyarrow",
        num_cpus=1,
        compute=TaskPoolStrategy(size=workers),
    )
    for row in packed.iter_rows():
        yield decode_receipt(row["receipt"].encode())


def _set_context() -> None:
    context = DataContext.get_current()
    # Ours is the progress that a person sees; Ray's bars would be drawn over it.
    context.enable_progress_bars = False
    # What a task raises reaches the user as one sentence, not as Ray's log of its traceback.
    context.raise_original_map_exception = True
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)
    logging.getLogger("ray.data._internal.progress").setLevel(logging.CRITICAL)
    context.execution_options.preserve_order = False
    # The engine's own patience: a shard of large images on slow CPUs may take its time.
    context.execution_no_progress_timeout_s = -1
