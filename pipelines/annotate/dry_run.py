"""How much there is to do and how long it would take, without writing anything."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import ray
import torch

from overfeat.member import Dtype
from overfeat.views import PreparedImage
from pipelines import storage
from pipelines.annotate.config import AnnotateConfig
from pipelines.annotate.graph import resolve_device
from pipelines.annotate.planning import describe_nothing, follow_listing, list_images
from pipelines.annotate.resolve import resolve_model
from pipelines.cluster import join_cluster, place_workers
from pipelines.errors import ImageError, InputError
from pipelines.images import decode_image_within
from pipelines.manifest import cut_slices
from pipelines.storage import ObjectInfo
from pipelines.weights import ModelFiles, fetch_model, open_predictor

_SAMPLE: Final = 8
"""Images that the rate is measured on."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Estimate:
    """What a run would have to do."""

    images: int
    """Images selected."""
    size_bytes: int
    """Their encoded bytes, as listed."""
    slices: int
    """Slices they are cut into."""
    skipped: int
    """Objects that are not images by their name."""
    workers: int
    """Detect actors that the cluster has room for."""
    measured_images: int
    """Readable images among the first ones, on which one actor's rate was measured."""
    unreadable: tuple[str, ...]
    """What is wrong with the others of these."""
    seconds: float | None
    """Time for all images at that rate; None if none could be read."""


def estimate(config: AnnotateConfig) -> Estimate:
    """Count the images, and measure one worker on the first few.

    Args:
        config: What the user said.

    Returns:
        Counts and a time.

    Raises:
        InputError: If there is no image or no checkpoint, or the command does not fit it.
    """
    files = fetch_model(config.weights)
    resolve_model(config, files)
    listing = list_images(config, storage.resolve_uri(config.output))
    images = size = slices = 0
    first: list[ObjectInfo] = []
    with follow_listing(listing) as found:
        for entries in cut_slices(
            found, slice_size=config.slice_size, slice_bytes=config.slice_bytes
        ):
            first = first or [entry.info for entry in entries[:_SAMPLE]]
            images, slices = images + len(entries), slices + 1
            size += sum(entry.info.size for entry in entries)
    if not images:
        raise InputError(describe_nothing(config, listing.counts))
    workers, sample = _measure(config, files, first)
    rate = sample.images / sample.seconds
    return Estimate(
        images=images,
        size_bytes=size,
        slices=slices,
        skipped=listing.counts.skipped,
        workers=workers,
        measured_images=sample.images,
        unreadable=sample.unreadable,
        seconds=images / (rate * workers) if rate else None,
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class _Sample:
    """What one worker did with some images."""

    images: int
    """Readable ones."""
    unreadable: tuple[str, ...]
    """What is wrong with the others."""
    seconds: float
    """Time that it took."""


def _measure(
    config: AnnotateConfig, files: ModelFiles, infos: Sequence[ObjectInfo]
) -> tuple[int, _Sample]:
    """Find the number of workers, and what one of them does with some images."""
    with join_cluster(config.address):
        placement = place_workers(
            workers=config.workers,
            threads=config.threads,
            cpus_per_read=config.cpus_per_read,
            wait_seconds=config.wait_for_resources,
        )
        device, dtype = resolve_device(placement, config.dtype)
        remote = ray.remote(num_gpus=placement.gpus_per_worker, num_cpus=placement.cpus_per_worker)(
            _time_images
        )
        sample: _Sample = ray.get(remote.remote(config, files, list(infos), device, dtype))
    return placement.workers, sample


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
