"""A split from start to end: its plan, the shards left to pack, the rejects, the index last."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from pipelines import storage
from pipelines.errors import InputError, PipelineError
from pipelines.progress import Progress
from pipelines.shards.config import ShardsConfig
from pipelines.shards.index import (
    check_classes,
    check_recipe,
    is_whole,
    read_index,
    write_index,
)
from pipelines.shards.packing import PackingConfig, Receipt, find_packed, pack_shard
from pipelines.shards.plan import Plan, make_plan, open_plan
from pipelines.shards.rejects import write_rejects
from pipelines.shards.sources import SOURCES, ListRecords


@dataclass(frozen=True, kw_only=True, slots=True)
class ShardsReport:
    """What stands in the output for this split."""

    output: str
    split: str
    shards: int
    samples: int
    bytes: int
    rejects: int
    """Images that were left out, or whose boxes were; `rejects.parquet` names them."""

    reasons: dict[str, int]
    """Rejects by reason."""

    packed: int
    """Shards that this invocation packed; the others were there."""


def write_shards(config: ShardsConfig, *, list_records: ListRecords | None = None) -> ShardsReport:
    """Pack one split as shards and enter it in `index.json`.

    Killed at any moment, it goes on by the same call where it stood: shards that are there and
    whole are not packed again.

    Args:
        config: What to pack, and where to.
        list_records: Lists what is to be packed; the source's own if None.

    Returns:
        What stands there now.

    Raises:
        InputError: The data set, its split or a bucket is missing, or the output holds this split
            made otherwise, or other classes.
        StorageError: A store refused, or did not answer.
    """
    folder = storage.resolve_uri(config.output)
    index = read_index(folder)
    if index is not None and config.split in index["recipes"]:
        check_recipe(index["recipes"][config.split], _recipe(config), folder)
        if is_whole(index, config.split, folder):
            return _report(config, index, packed=0)
    plan = _open_or_make_plan(folder, config, list_records or SOURCES[config.source].list_records)
    check_classes(index or {}, plan, folder)
    receipts = find_packed(folder, config.split, plan)
    pending = [number for number in range(plan.shards) if number not in receipts]
    done = sum(receipt.records for receipt in receipts.values())
    with Progress(plan.records, unit="images", done=done) as progress:
        for receipt in _pack(pending, folder, plan, config):
            receipts[receipt.shard] = receipt
            progress.advance(receipt.records)
    index = _finish(folder, config.split, plan, receipts)
    return _report(config, index, packed=len(pending))


def _recipe(config: ShardsConfig) -> dict[str, Any]:
    """The settings that decide the bytes, with the input's place written out."""
    recipe = config.describe_recipe()
    return recipe | ({} if config.input is None else {"input": storage.resolve_uri(config.input)})


def _open_or_make_plan(folder: str, config: ShardsConfig, list_records: ListRecords) -> Plan:
    recipe = _recipe(config)
    plan = open_plan(folder, config.split)
    if plan is not None:
        check_recipe(plan.recipe, recipe, folder)
        return plan
    listing = list_records(config)
    if not listing.records:
        raise InputError(f"--input {config.input}: no image in split {config.split!r}")
    return make_plan(folder, config, recipe, listing)


def _pack(
    pending: Sequence[int], folder: str, plan: Plan, config: ShardsConfig
) -> Iterator[Receipt]:
    """Pack shards, here or on a cluster, in any order."""
    what = PackingConfig(
        output=folder,
        split=config.split,
        source=config.source,
        labels={word: label for label, word in enumerate(plan.class_ids)},
        max_side=config.max_side,
        plan=plan.digest,
    )
    # One shard is packed sooner than a cluster starts.
    if config.workers == 1 or (len(pending) <= 1 and config.address is None):
        yield from (pack_shard(number, what) for number in pending)
        return
    # Imported late: who packs here need not wait for Ray.
    from pipelines.cluster import join_cluster
    from pipelines.shards.graph import pack_on_cluster

    with join_cluster(config.address):
        yield from pack_on_cluster(pending, what, workers=config.workers)


def _finish(folder: str, split: str, plan: Plan, receipts: dict[int, Receipt]) -> dict[str, Any]:
    """Write the rejects and, last, the index.

    Raises:
        PipelineError: If the engine left shards out.
    """
    if len(receipts) != plan.shards:
        raise PipelineError(
            f"{folder}: {len(receipts):,} of {plan.shards:,} shards were packed though the engine "
            "ended well; run the same command again"
        )
    ordered = [receipts[number] for number in range(plan.shards)]
    write_rejects(folder, split, [reject for receipt in ordered for reject in receipt.rejects])
    return write_index(folder, split, plan, ordered)


def _report(config: ShardsConfig, index: dict[str, Any], *, packed: int) -> ShardsReport:
    shards = [shard for shard in index["shards"] if shard["split"] == config.split]
    reasons = index.get("rejects", {}).get(config.split, {})
    return ShardsReport(
        output=config.output,
        split=config.split,
        shards=len(shards),
        samples=sum(shard["samples"] for shard in shards),
        bytes=sum(shard["bytes"] for shard in shards),
        rejects=sum(reasons.values()),
        reasons=reasons,
        packed=packed,
    )
