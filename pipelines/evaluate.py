"""How good are the boxes of a run, or of a model run here, against the objects of shards?"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow.parquet as pq
import torch

from overfeat.checkpoint import read_config, write_config
from overfeat.predict_config import PredictConfig
from pipelines import receipts, storage, tables
from pipelines.average_precision import Evaluation, FoundBox, KnownImage, measure
from pipelines.errors import InputError
from pipelines.images import ImageLimits, decode_image
from pipelines.progress import Progress
from pipelines.shards.samples import decode_metadata
from pipelines.training.shard_set import open_shard_set
from pipelines.weights import fetch_model, open_predictor


@dataclass(frozen=True, kw_only=True, slots=True)
class EvaluateConfig:
    """What is measured against which ground truth."""

    shards: str
    """Folder or URI with the shards that hold the ground truth."""
    split: str = "test"
    """Which shards."""
    output: str | None = None
    """A finished run whose images are named like the samples' keys; else a model is run here."""
    weights: tuple[str, ...] = ("demo",)
    """The model, if no run is given: a checkpoint's folder or URI, or `demo`; several for a
    committee."""
    score_threshold: float = 0.5
    """Least score of the model's boxes. Lower ones add windows to every box's evidence, which
    ranks: 0.3 gave a lower precision (measured on validation scenes)."""
    limit: int | None = None
    """Take the first samples only."""
    threads: int = 1
    """CPU threads of the model."""
    record: bool = False
    """Write the numbers into the provenance of the checkpoint; `weights` must be one local
    folder."""

    def __post_init__(self) -> None:
        if not 0 < self.score_threshold <= 1:
            raise InputError(
                f"--score-threshold: received {self.score_threshold}, expected above 0, at most 1"
            )
        for name in ("limit", "threads"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"--{name}: received {value}, expected at least 1")
        if not self.weights:
            raise InputError("--weights: received none, expected at least one")
        if self.record and (self.output is not None or len(self.weights) > 1):
            raise InputError(
                "--record: numbers of a run or committee; give --weights one folder and no --output"
            )


def evaluate(config: EvaluateConfig) -> Evaluation:
    """Measure a run's tables, or a model run here, against ground truth.

    Args:
        config: What, and against which shards.

    Returns:
        Mean average precision and its parts.

    Raises:
        InputError: If the shards, the run or the checkpoint are missing, classes differ, no sample
            has boxes, or the run has no row for a sample.
    """
    samples, classes = read_truth(config.shards, config.split)
    samples = samples[: config.limit]
    if all(one.is_unboxed for one in samples):
        raise InputError(
            f"--shards {config.shards}: on none of the {len(samples):,} samples of split "
            f"{config.split} are boxes drawn; pack them with their annotations, or name another one"
        )
    if config.output is None:
        found = list(_detect(config, samples, classes))
    else:
        output = storage.resolve_uri(config.output)
        _check_run(output, classes)
        found = list(_read_tables(output, samples))
    evaluation = measure(samples, found, classes)
    if config.record:
        _record(config, evaluation)
    return evaluation


def read_truth(folder: str, split: str) -> tuple[list[KnownImage], tuple[str, ...]]:
    """Read a split into memory, its images still encoded.

    Args:
        folder: Where the shards are.
        split: Which of them.

    Returns:
        Images in the order of the shards, and the names of the classes.

    Raises:
        InputError: If there is no such split.
    """
    shards = open_shard_set(storage.resolve_uri(folder), split)
    samples = [
        sample
        for number, shard in enumerate(shards.shards)
        for sample in shards.iter_samples(number, 0, shard.samples)
    ]
    known = [KnownImage.of(one.key, one.image, decode_metadata(one.metadata)) for one in samples]
    return known, shards.classes


def _record(config: EvaluateConfig, evaluation: Evaluation) -> None:
    """Write the numbers into the checkpoint's provenance, beside those of other splits."""
    folder = Path(config.weights[0])
    checkpoint = read_config(folder)
    evaluations = dict(checkpoint.provenance.get("evaluations", {}))
    settings = {"score_threshold": config.score_threshold}
    evaluations[config.split] = {**settings, **asdict(evaluation)}
    provenance = {**checkpoint.provenance, "evaluations": evaluations}
    write_config(folder, replace(checkpoint, provenance=provenance))


def _detect(
    config: EvaluateConfig, samples: Sequence[KnownImage], classes: Sequence[str]
) -> Iterator[FoundBox]:
    files = fetch_model(config.weights)
    if tuple(classes) != files.classes:
        raise InputError(
            f"--weights {' '.join(config.weights)}: knows {len(files.classes)} classes and the "
            f"shards have {len(classes)} others; expected the same names in the same order"
        )
    torch.set_num_threads(config.threads)
    predictor = open_predictor(files, device="cpu", dtype="float32")
    predict = PredictConfig(score_threshold=config.score_threshold)
    with Progress(len(samples), unit="images") as progress:
        for image, sample in enumerate(samples):
            found = predictor.detect(decode_image(sample.image, ImageLimits()), predict)
            for label, evidence, box in zip(
                found.label_ids, found.evidence, found.boxes_xyxy.tolist(), strict=True
            ):
                yield FoundBox(
                    image=image, label_id=int(label), rank_by=float(evidence), box_xyxy=tuple(box)
                )
            progress.advance(1)


def _check_run(output: str, classes: Sequence[str]) -> None:
    try:
        run = json.loads(storage.read_bytes(storage.join_uri(output, tables.RUN_FILE)))
    except FileNotFoundError:
        raise InputError(f"--output {output}: no run there") from None
    settings, model = run["settings"], run["model"]
    if "detect" not in settings["tasks"]:
        raise InputError(f"--output {output}: a run without boxes; annotate with --tasks detect")
    if model["classes"] != list(classes):
        raise InputError(
            f"--output {output}: its model knows {len(model['classes'])} classes and the shards "
            f"have {len(classes)} others; expected the same names in the same order"
        )


# Raises if the run has not exactly one row for each sample: a missing one would only lower recall.
def _read_tables(output: str, samples: Sequence[KnownImage]) -> Iterator[FoundBox]:
    places = {PurePosixPath(sample.key).name: image for image, sample in enumerate(samples)}
    rows_seen: Counter[int | None] = Counter()
    for number in sorted(receipts.list_receipts(output)):
        rows_seen.update(_place(row, places) for row in _read_rows(output, tables.IMAGES, number))
        for row in _read_rows(output, tables.BOXES, number):
            image = _place(row, places)
            if image is not None:
                corners = (row["x_min"], row["y_min"], row["x_max"], row["y_max"])
                yield FoundBox(
                    image=image,
                    label_id=row["label_id"],
                    rank_by=row["evidence"],
                    box_xyxy=corners,
                )
    for image, sample in enumerate(samples):
        if rows_seen[image] != 1:
            raise InputError(
                f"--output {output}: {rows_seen[image]} images named like the sample {sample.key}, "
                "expected one; finish the run, or annotate the images of these samples alone"
            )


def _read_rows(output: str, table: str, number: int) -> list[dict[str, Any]]:
    uri = storage.join_uri(output, table, tables.slice_name(number))
    with storage.open_range_reader(uri) as file:
        rows: list[dict[str, Any]] = pq.ParquetFile(file).read().to_pylist()
    return rows


def _place(row: dict[str, Any], places: Mapping[str, int]) -> int | None:
    # The shards themselves may have been annotated: their members are named by the keys.
    _, name = storage.split_member(row["image"]) or ("", row["image"])
    return places.get(PurePosixPath(name).stem)
