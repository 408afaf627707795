"""A training from start to end: what it is, who drives it, its workers, the checkpoint."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

from overfeat.checkpoint import CONFIG_FILE, CheckpointConfig
from overfeat.scales import is_rising
from pipelines import storage
from pipelines.cluster import count_gpus, join_cluster, place_workers
from pipelines.errors import InputError
from pipelines.fingerprint import Value, compute_fingerprint, refuse_other_settings
from pipelines.lease import Lease
from pipelines.training.config import TrainConfig
from pipelines.training.graph import run_workers
from pipelines.training.job import Job, Moment, Tell
from pipelines.training.own_images import LeftOut, find_left_out, pack_images
from pipelines.training.shard_set import ShardSet, open_shard_set
from pipelines.training.state import Position
from pipelines.training.worker import RESULT_FILE
from pipelines.versions import describe_versions
from pipelines.weights import CheckpointFiles, fetch_checkpoint

logger = logging.getLogger(__name__)

TRAIN_FILE: Final = "train.json"
"""What a training is: made by its first command and the same for every later one."""

_NO_SETTINGS: Final = frozenset(
    {
        "shards", "images", "held_out_share", "output", "weights", "split", "workers",
        "gpus_per_worker", "decoders", "threads", "compile",
        "checkpoint_steps", "keep", "result", "log_steps", "wait_for_resources", "address",
    }
)  # fmt: skip
"""Flags that say where and how fast, which state is handed out, or what is known by a digest."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainReport:
    """How a training went."""

    output: str
    """Where the checkpoint is."""
    epochs: int
    """Epochs that are done, by all commands."""
    steps: int
    """Global batches that were learnt from, by all commands."""
    samples: int
    """Samples that were seen, by all commands."""
    damaged: int
    """How many of these could not be used."""
    seconds: float
    """Wall time of this command."""
    loss: float | None
    """Of the last step; None if this command took none."""
    step: int
    """Steps of the state that became the checkpoint."""
    measured: Mapping[str, float] | None
    """What was measured last on held-out samples; None if nothing was."""
    best: Mapping[str, Any] | None
    """The state that did best on them; None if nothing was measured."""
    is_new: bool
    """Whether there was anything left to do."""
    left_out: LeftOut | None
    """Which of `images` could not be packed; None if all could, or there were shards already."""


def train(config: TrainConfig, tell: Tell) -> TrainReport:
    """Train a network, or go on where a training stood.

    Args:
        config: What the user said.
        tell: Told how far it is.

    Returns:
        What was done.

    Raises:
        InputError: If nothing was started: no shards, no checkpoint to begin with, another training
            there, another driver at work.
        StorageError: If a store refused or failed for good.
        ResourceError: If the cluster is too small.
        PipelineError: If the loss is no number any more.
    """
    started = time.monotonic()
    output = storage.resolve_uri(config.output)
    packed = pack_images(config, output)
    left_out = None if config.images is None else find_left_out(output)
    job = plan_job(packed, output)
    last: list[Moment] = []

    def listen(moment: Moment) -> None:
        last[:] = [moment]
        tell(moment)

    with Lease(output) as lease:
        result = _read_result(job) if _is_known(job) else None
        is_new = result is None
        if result is None:
            _run(replace(job, lease_id=lease.id), listen)
            result = json.loads(storage.read_bytes(storage.join_uri(output, RESULT_FILE)))
        else:
            logger.info("%s: this training has ended before; nothing is done", output)
    position = Position(**result["position"])
    return TrainReport(
        output=output,
        epochs=position.epoch,
        steps=position.steps,
        samples=position.samples,
        damaged=position.damaged,
        seconds=round(time.monotonic() - started, 3),
        loss=last[0].loss["total"] if last else None,
        step=result["step"],
        measured=result["measured"],
        best=result["best"],
        is_new=is_new,
        left_out=left_out,
    )


def _run(job: Job, tell: Tell) -> None:
    config = job.config
    with join_cluster(config.address) as is_ours:
        placement = place_workers(
            workers=config.workers or _count_default_workers(config),
            threads=config.threads,
            cpus_per_read=0.0,
            wait_seconds=0.0 if is_ours else config.wait_for_resources,
            gpus_per_worker=config.gpus_per_worker,
        )
        # Asked before anything is written that another --streams would not fit any more.
        if placement.workers > config.streams:
            raise InputError(
                f"--streams: received {config.streams}, expected at least the {placement.workers} "
                "workers, one for each GPU, of which each reads whole streams; give --workers "
                "fewer, or for a new training --streams more"
            )
        _create(job)
        run_workers(job, placement, tell)


def _count_default_workers(config: TrainConfig) -> int | None:
    """One on CPUs; None, for one a GPU, where GPUs are wanted or there."""
    wanted = count_gpus() if config.gpus_per_worker is None else config.gpus_per_worker
    return None if wanted else 1


def _read_result(job: Job) -> dict[str, Any] | None:
    """How the training ended; None if it has not, or its checkpoint is gone or another is asked."""
    if not storage.exists(storage.join_uri(job.output, CONFIG_FILE)):
        return None
    try:
        found: dict[str, Any] = json.loads(
            storage.read_bytes(storage.join_uri(job.output, RESULT_FILE))
        )
    except FileNotFoundError:
        return None
    return found if found["result"] == job.config.result else None


def plan_job(config: TrainConfig, output: str) -> Job:
    """Find what the workers need: shards, the network that comes out, the one it begins with.

    Args:
        config: What the user said.
        output: Where the training goes, resolved.

    Returns:
        What every worker is told.

    Raises:
        InputError: If shards or checkpoint are missing, or do not fit, or have a class alone or no
            box.
    """
    assert config.shards is not None, "pack_images has not been called"
    shards = open_shard_set(storage.resolve_uri(config.shards), config.split)
    config.check_classes(shards.classes)
    if not shards.objects and config.task != "classify":
        raise InputError(
            f"--shards {config.shards}: no image of split {config.split} has a box, expected some "
            f"for --task {config.task}; train --task classify, or pack a data set with boxes"
        )
    held_out = _open_held_out(config, shards)
    base = None if config.weights is None else fetch_checkpoint(config.weights)
    if base is not None:
        _check_base(config, base, shards)
    checkpoint = _plan_checkpoint(config, shards, base.config if base else None)
    return Job(
        config=config,
        output=output,
        shards=shards,
        checkpoint=checkpoint,
        base=base,
        held_out=held_out,
    )


def _plan_checkpoint(
    config: TrainConfig, shards: ShardSet, base: CheckpointConfig | None
) -> CheckpointConfig:
    """Say what network comes out.

    Raises:
        InputError: If its ladder has no scale that another one could be told by.
    """
    # Boxes are put on a classifier that stays what it is.
    kept = base if config.task == "localize" else None
    checkpoint = CheckpointConfig(
        architecture=config.architecture,
        classes=shards.classes,
        background=config.has_background or (kept is not None and kept.background),
        regressor=config.trained_regressor,
        box_coding=config.box_coding,
        context=config.context or (kept is not None and kept.context),
        scales=config.ladder or (base.scales if base else ()),
    )
    if base is not None:
        checkpoint = replace(checkpoint, normalization=base.normalization)
        _warn_of_losses(config, checkpoint, base)
    ladder = checkpoint.ladder
    if config.context and (len(ladder) < 2 or not is_rising(ladder)):  # noqa: PLR2004 (a pair)
        received = " ".join(map(str, ladder))
        raise InputError(
            f"--context: a scale is told by the next smaller one, received {received}; give "
            "--scales at least two, the smallest first"
        )
    return checkpoint


def _warn_of_losses(config: TrainConfig, ours: CheckpointConfig, base: CheckpointConfig) -> None:
    if base.context and not ours.context:
        logger.warning("--weights %s: its context is left out without --context", config.weights)
    if base.regressor != "none" and ours.regressor == "none":
        logger.warning(
            "--weights %s: its boxes are left out, for --task %s has none; joint has, and localize "
            "puts boxes on what comes out",
            config.weights,
            config.task,
        )


def _open_held_out(config: TrainConfig, shards: ShardSet) -> ShardSet | None:
    """The shards to measure on.

    Raises:
        InputError: If they are those to learn from, or have other classes.
    """
    where, split = config.held_out.validation, config.held_out.validation_split
    if where is None:
        return None
    held_out = open_shard_set(storage.resolve_uri(where), split)
    if held_out.digest == shards.digest:
        raise InputError(
            f"--validation {where}: split {split} is what is learnt from; name another with "
            "--validation-split, or leave --validation out"
        )
    if held_out.classes != shards.classes:
        raise InputError(
            f"--validation {where}: has other classes than {config.shards}, or in another order; "
            "pack both splits from one data set"
        )
    return held_out


def _check_base(config: TrainConfig, base: CheckpointFiles, shards: ShardSet) -> None:
    if base.config.architecture != config.architecture:
        raise InputError(
            f"--weights {config.weights}: is of architecture {base.config.architecture}, expected "
            f"{config.architecture}; give --architecture the same"
        )
    if config.task == "localize" and base.config.classes != shards.classes:
        raise InputError(
            f"--weights {config.weights}: knows other classes than {config.shards}, or in another "
            "order; localize trains boxes for the classifier that is there"
        )


def _is_known(job: Job) -> bool:
    """Whether the output holds this training.

    Raises:
        InputError: If it holds another one.
    """
    uri = storage.join_uri(job.output, TRAIN_FILE)
    try:
        found = json.loads(storage.read_bytes(uri))["settings"]
    except FileNotFoundError:
        return False
    except (ValueError, KeyError, TypeError):
        raise InputError(f"{uri}: not the file of a training; choose another --output") from None
    refuse_other_settings(job.output, found=found, wanted=_settings(job), are_flags=True)
    logger.info("%s: this training is known; the command goes on where it stood", job.output)
    return True


def _create(job: Job) -> None:
    """Write down what this training is, before its first step."""
    settings = _settings(job)
    document = {
        "fingerprint": compute_fingerprint(settings),
        "settings": settings,
        "configuration": asdict(job.config),
        "versions": describe_versions(),
    }
    uri = storage.join_uri(job.output, TRAIN_FILE)
    data = json.dumps(document, indent=2).encode()
    storage.create_bytes(uri, data, scratch=storage.join_uri(job.output, ".tmp"))


def _settings(job: Job) -> dict[str, Value]:
    """All that decides the weights; how many workers share the work does not but for last bits."""
    said: dict[str, Any] = {
        name: value for name, value in asdict(job.config).items() if name not in _NO_SETTINGS
    }
    # The same for where the held-out samples are.
    for name in ("validation", "validation_split", "validation_pictures"):
        said["held_out"].pop(name)
    # Under the names of the flags, so that a refusal says which one to look at.
    said |= {
        "validation": None if job.held_out is None else job.held_out.digest,
        "shards": job.shards.digest,
        "weights": None if job.base is None else job.base.digest,
    }
    # As JSON has it: tuples come back as lists.
    settings: dict[str, Value] = json.loads(json.dumps(said))
    return settings
