"""What would a command read, and how long would it take? Nothing is written."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, fields

import ray
import torch

from overfeat.member import Dtype
from overfeat.views import PreparedImage
from pipelines import storage
from pipelines.annotate.config import AnnotateConfig
from pipelines.annotate.engine import Engine, Machines
from pipelines.annotate.preview import Preview, preview
from pipelines.annotate.resolve import ResolvedModel, resolve_model
from pipelines.annotate.run_file import OpenRun, check_device, find_run, prepare_run
from pipelines.errors import ImageError
from pipelines.images import decode_image_within
from pipelines.storage import ObjectInfo
from pipelines.weights import ModelFiles, fetch_model, open_predictor


@dataclass(frozen=True, kw_only=True, slots=True)
class Estimate(Preview):
    """What a command would do, and how long that would take."""

    workers: int
    """Detect actors that the cluster has room for; 0 if there is nothing to do."""
    measured_images: int
    """Readable images among the first ones, on which one actor's rate was measured."""
    unreadable: tuple[str, ...]
    """What is wrong with the others of these."""
    seconds: float | None
    """Time for the images to be read at that rate; None if none of the first could be."""


def estimate(config: AnnotateConfig) -> Estimate:
    """Find out what a command would read, and measure one worker on the first few images.

    Args:
        config: What the user said.

    Returns:
        Counts and a time.

    Raises:
        InputError: If there is no image or no checkpoint, or the command does not fit it.
        RunMismatchError: If the run there has another configuration.
        StorageError: If a store refused or failed for good.
        ResourceError: If the cluster is too small.
        PipelineError: If the run has not as many rows as images.
    """
    output = storage.resolve_uri(config.output)
    files = fetch_model(config.weights)
    model = resolve_model(config, files)
    # Says at once that the output's bucket does not exist.
    storage.list_names(output)
    run = find_run(config, output, model)
    found, first = preview(config, output)
    workers, sample = 0, _Sample(images=0, unreadable=(), seconds=1.0)
    if run is None or found.slices_to_write:
        with ExitStack() as stack:
            machines = Engine(config, stack).join()
            _check(config, output, model, run, machines)
            workers = machines.placement.workers
            if first:
                sample = _measure(config, files, machines, first)
    return Estimate(
        **{field.name: getattr(found, field.name) for field in fields(found)},
        workers=workers,
        measured_images=sample.images,
        unreadable=sample.unreadable,
        seconds=_estimate_seconds(found.images_to_read, sample, workers),
    )


def _check(
    config: AnnotateConfig,
    output: str,
    model: ResolvedModel,
    run: OpenRun | None,
    machines: Machines,
) -> None:
    """Refuse what the command would refuse once it knows the cluster."""
    device, dtype = machines.device, machines.dtype
    if run is None:
        prepare_run(config, output, model, device=device, dtype=dtype)
    else:
        check_device(run, device=device, dtype=dtype)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Sample:
    """What one worker did with some images."""

    images: int
    """Readable ones."""
    unreadable: tuple[str, ...]
    """What is wrong with the others."""
    seconds: float
    """Time that it took."""


def _estimate_seconds(images: int, sample: _Sample, workers: int) -> float | None:
    if images == 0:
        return 0.0
    rate = workers * sample.images / sample.seconds
    return images / rate if rate else None


def _measure(
    config: AnnotateConfig, files: ModelFiles, machines: Machines, infos: Sequence[ObjectInfo]
) -> _Sample:
    """Find out what one worker does with some images."""
    placement = machines.placement
    remote = ray.remote(num_gpus=placement.gpus_per_worker, num_cpus=placement.cpus_per_worker)(
        _time_images
    )
    sample: _Sample = ray.get(
        remote.remote(config, files, list(infos), machines.device, machines.dtype)
    )
    return sample


def _time_images(
    config: AnnotateConfig,
    files: ModelFiles,
    infos: list[ObjectInfo],
    device: str,
    dtype: Dtype,
) -> _Sample:
    """Read, decode and detect some images."""
    torch.set_num_threads(config.threads)
    predictor = open_predictor(files, device=device, dtype=dtype)
    predict, limits = config.predict_config(), config.image_limits()

    def once() -> _Sample:
        started = time.perf_counter()
        images: list[PreparedImage] = []
        wrong: list[str] = []
        answers = storage.read_objects(infos, max_bytes=config.max_bytes)
        for info, answer in zip(infos, answers, strict=True):
            try:
                if isinstance(answer, ImageError):
                    raise answer
                pixels = decode_image_within(answer.data, limits, config.image_timeout)
            except ImageError as error:
                wrong.append(f"{info.uri}: {error}")
                continue
            images.append(predictor.prepare(pixels, predict))
        predictor.predict(images, predict, config.tasks)
        seconds = time.perf_counter() - started
        return _Sample(images=len(images), unreadable=tuple(wrong), seconds=seconds)

    # The first pass pays for what a process does once; it is not what a run's rate is made of.
    once()
    return once()
