"""From shards to batches: samples read with webdataset, drawn by (seed, step), cropped."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from webdataset.tariterators import group_by_keys, tar_file_expander

from pipelines.errors import InputError
from pipelines.images import ImageLimits, decode_image
from pipelines.shards.samples import decode_metadata
from pipelines.training.crops import Crop, TrainingImage


@dataclass(frozen=True, kw_only=True, slots=True)
class EncodedSample:
    """A sample as it stands in a shard, its annotation read."""

    key: str
    """Its name in the shard, unique in the set."""
    image: bytes
    """Encoded pixels."""
    boxes_xyxy: NDArray[np.float32]
    """Objects (n, 4), in pixels of the image."""
    labels: NDArray[np.int64]
    """Class of each object (n,)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Batch:
    """Equal crops of several images."""

    canvases: Tensor
    """Normalised pixels (b, 3, side, side), float32."""
    labels: Tensor
    """Label of every window (b, windows), int64."""
    edges: Tensor
    """Box edges of every window (b, windows, 4), float32."""


def read_samples(folder: Path, split: str) -> list[EncodedSample]:
    """Read a split's samples into memory, still encoded.

    Args:
        folder: Where `SPLIT-000000.tar`, the others and `index.json` are.
        split: Which of them.

    Returns:
        All samples, in the order of the shards.

    Raises:
        InputError: If there is no index, or no shard of that split.
    """
    # The index, not a glob: a killed run can have left shards that belong to nothing.
    shards = [
        folder / shard["name"] for shard in _read_index(folder)["shards"] if shard["split"] == split
    ]
    if not shards:
        raise InputError(f"shards {folder}: no split {split!r} there; make it with overfeat shards")
    return [_read_sample(record) for shard in shards for record in _iter_records(shard)]


def read_classes(folder: Path) -> list[str]:
    """Read the names of a set's classes.

    Args:
        folder: Where the shards and their `index.json` are.

    Returns:
        Names, in the order of the labels.

    Raises:
        InputError: If there is no index.
    """
    return [str(name) for name in _read_index(folder)["classes"]]


def _read_index(folder: Path) -> dict[str, Any]:
    try:
        index: dict[str, Any] = json.loads((folder / "index.json").read_text("utf-8"))
    except FileNotFoundError:
        hint = "make them with overfeat shards"
        raise InputError(f"shards {folder}: no index.json there; {hint}") from None
    return index


def _iter_records(shard: Path) -> Iterator[dict[str, Any]]:
    # Not `WebDataset`: it leaves files open, and takes braces in a folder's name for a range.
    with shard.open("rb") as stream:
        yield from group_by_keys(tar_file_expander([{"url": str(shard), "stream": stream}]))


def _read_sample(record: dict[str, Any]) -> EncodedSample:
    metadata = decode_metadata(record["json"])
    boxes = [one.box_xyxy for one in metadata.objects]
    return EncodedSample(
        key=str(record["__key__"]),
        image=record["jpg"],
        boxes_xyxy=np.array(boxes, dtype=np.float32).reshape(-1, 4),
        labels=np.array([one.label for one in metadata.objects], dtype=np.int64),
    )


DrawCrop = Callable[[TrainingImage, np.random.Generator, int], Crop]
"""Draws one crop of an image, for a step of the training."""


class _Steps(Dataset[Batch]):
    """Batch number `step`, made from the samples alone: any process can make any step."""

    def __init__(
        self,
        samples: list[EncodedSample],
        draw_crop: DrawCrop,
        *,
        steps: int,
        batch_size: int,
        seed: int,
    ) -> None:
        self.samples = samples
        self.draw_crop = draw_crop
        self.steps = steps
        self.batch_size = batch_size
        self.seed = seed

    def __len__(self) -> int:
        return self.steps

    def __getitem__(self, step: int) -> Batch:
        torch.set_num_threads(1)
        crops = [
            self._make(step, step * self.batch_size + place) for place in range(self.batch_size)
        ]
        return Batch(
            canvases=torch.from_numpy(np.stack([crop.canvas for crop in crops])),
            labels=torch.from_numpy(np.stack([crop.labels for crop in crops])),
            edges=torch.from_numpy(np.stack([crop.edges for crop in crops])),
        )

    def _make(self, step: int, position: int) -> Crop:
        epoch, place = divmod(position, len(self.samples))
        order = np.random.default_rng([self.seed, epoch]).permutation(len(self.samples))
        sample = self.samples[order[place]]
        image = TrainingImage(
            pixels=decode_image(sample.image, ImageLimits()),
            boxes_xyxy=sample.boxes_xyxy,
            labels=sample.labels,
        )
        return self.draw_crop(image, np.random.default_rng([self.seed, epoch, place]), step)


def iter_batches(
    samples: list[EncodedSample],
    draw_crop: DrawCrop,
    *,
    steps: int,
    batch_size: int,
    seed: int,
) -> Iterator[Batch]:
    """Make the batches of a training in another process, ahead of their use.

    Args:
        samples: What `read_samples` returned.
        draw_crop: Draws one crop of an image, for a step.
        steps: How many batches.
        batch_size: Crops in a batch.
        seed: Of the order and of every crop.

    Returns:
        The batches, in order; an epoch sees each sample once.
    """
    dataset = _Steps(samples, draw_crop, steps=steps, batch_size=batch_size, seed=seed)
    loader = DataLoader(dataset, batch_size=None, num_workers=1, prefetch_factor=4)
    return iter(loader)
