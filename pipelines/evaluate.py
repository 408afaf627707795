"""How good detections are: mean average precision against shards, by pycocotools."""

from __future__ import annotations

import contextlib
import io
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from overfeat.checkpoint import read_config, write_config
from overfeat.predict_config import PredictConfig
from pipelines import receipts, storage, tables
from pipelines.errors import InputError
from pipelines.images import ImageLimits, decode_image
from pipelines.progress import Progress
from pipelines.shards.samples import SampleMetadata, decode_metadata
from pipelines.training.shard_set import open_shard_set
from pipelines.weights import fetch_model, open_predictor


@dataclass(frozen=True, kw_only=True, slots=True)
class KnownImage:
    """An image whose objects are known."""

    key: str
    """Its name in the shards."""
    image: bytes
    """Encoded pixels."""
    boxes_xyxy: NDArray[np.float32]
    """Objects (n, 4), in pixels of the image."""
    labels: NDArray[np.int64]
    """Class of each object (n,)."""
    crowds: NDArray[np.bool_] | None = None
    """Which are crowds (n,), of which any part may be found, or none; None for none of them."""
    difficult: NDArray[np.bool_] | None = None
    """Which may be found or not (n,); None for none of them."""
    is_unboxed: bool = False
    """Whether it shows a class and nobody has drawn where: then no box on it is wrong."""

    @classmethod
    def of(cls, key: str, image: bytes, metadata: SampleMetadata) -> KnownImage:
        """Take what a sample's metadata says.

        Args:
            key: Of the sample.
            image: Encoded pixels; empty if nobody will look at them.
            metadata: What is known.

        Returns:
            The image with its objects.
        """
        objects = metadata.objects
        return cls(
            key=key,
            image=image,
            boxes_xyxy=np.array([one.box_xyxy for one in objects], np.float32).reshape(-1, 4),
            labels=np.array([one.label for one in objects], np.int64),
            crowds=np.array([one.crowd for one in objects], np.bool_),
            difficult=np.array([one.difficult for one in objects], np.bool_),
            is_unboxed=metadata.label is not None and not objects,
        )


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


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluation:
    """Detection quality."""

    map_50: float
    """Mean over classes of the average precision at IoU 0.5."""
    map_50_95: float
    """The same, averaged over IoU 0.50, 0.55, ... 0.95."""
    recall_50: float
    """Part of the objects found at IoU 0.5 with at most 100 boxes an image, mean over classes."""
    per_class_50: dict[str, float]
    """Average precision at IoU 0.5 of each class that has objects."""
    images: int
    """Samples measured: not those that show a class and have no boxes drawn."""
    objects: int
    """Their objects that are to be found: no crowds, and none that is difficult."""
    boxes: int
    """Boxes that were measured, those on other objects too."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FoundBox:
    """One detection."""

    image: int
    """Position of the sample."""
    label_id: int
    """Class."""
    rank_by: float
    """What boxes are ranked by: the evidence."""
    box_xyxy: tuple[float, float, float, float]
    """Corners, in pixels of the image."""


def evaluate(config: EvaluateConfig) -> Evaluation:
    """Measure a run's tables, or a model run here, against ground truth.

    Args:
        config: What, and against which shards.

    Returns:
        Mean average precision and its parts.

    Raises:
        InputError: If the shards, the run or the checkpoint are missing, classes differ, or the run
            has no row for a sample.
    """
    samples, classes = read_truth(config.shards, config.split)
    samples = samples[: config.limit]
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


def measure(
    samples: Sequence[KnownImage], found: Sequence[FoundBox], classes: Sequence[str]
) -> Evaluation:
    """Compute average precision with pycocotools.

    Crowds and difficult objects are as in training: whether one is found or missed changes nothing.
    Nor do boxes on an image that shows a class, where nobody has drawn boxes.

    Args:
        samples: Images with their objects.
        found: Detections.
        classes: Names of the classes.

    Returns:
        Mean average precision and its parts; 0 where nothing was found.
    """
    images = [image for image, sample in enumerate(samples) if not sample.is_unboxed]
    measured = set(images)
    found = [box for box in found if box.image in measured]
    truth = _coco_truth({image: samples[image] for image in images}, classes)
    objects = sum(not one["iscrowd"] for one in truth["annotations"])
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = truth
        coco.createIndex()
        results = coco.loadRes([_coco_box(box) for box in found]) if found else COCO()
        evaluation = _BoxEvaluation(coco, results, "bbox")
        evaluation.params.imgIds = images
        evaluation.params.catIds = list(range(len(classes)))
        evaluation.evaluate()
        evaluation.accumulate()
    # Axes: IoU threshold, recall, class, area range (0: all), boxes per image (last: 100).
    precision = evaluation.eval["precision"][:, :, :, 0, -1]
    recall = evaluation.eval["recall"][0, :, 0, -1]
    per_class = {
        name: float(precision[0, :, index].mean())
        for index, name in enumerate(classes)
        if precision[0, 0, index] >= 0
    }
    return Evaluation(
        map_50=_mean(precision[0]),
        map_50_95=_mean(precision),
        recall_50=_mean(recall),
        per_class_50=per_class,
        images=len(images),
        objects=objects,
        boxes=len(found),
    )


def _mean(values: np.ndarray) -> float:
    """Mean over what pycocotools could measure: it marks classes without objects with -1."""
    known = values[values >= 0]
    return float(known.mean()) if known.size else 0.0


class _BoxEvaluation(COCOeval):  # type: ignore[misc]  # it has no types
    """Ignores difficult objects too: COCOeval forgets `ignore` for all but `iscrowd`.

    That also lets several boxes fall on one object, as the VOC devkit does with difficult ones; but
    any part of a crowd counts as found, and of a difficult object only what overlaps the whole.
    """

    def computeIoU(self, imgId: int, catId: int) -> Any:  # noqa: ANN401, N802 (its own)
        truth = self.cocoGt.imgToAnns[imgId]
        for one in truth:
            one["iscrowd"] = one["is_part_enough"]
        overlaps = super().computeIoU(imgId, catId)
        for one in truth:
            one["iscrowd"] = one["ignore"]  # COCOeval's copy of it
        return overlaps


def _coco_truth(samples: Mapping[int, KnownImage], classes: Sequence[str]) -> dict[str, Any]:
    annotations = [
        {
            "image_id": image,
            "category_id": int(label),
            "bbox": _xywh(box.tolist()),
            "area": float((box[2] - box[0]) * (box[3] - box[1])),
            "iscrowd": int(is_crowd or is_difficult),
            "is_part_enough": int(is_crowd),
        }
        for image, sample in samples.items()
        for box, label, is_crowd, is_difficult in zip(
            sample.boxes_xyxy,
            sample.labels,
            *(_flags(some, len(sample.labels)) for some in (sample.crowds, sample.difficult)),
            strict=True,
        )
    ]
    return {
        "images": [{"id": image} for image in samples],
        "categories": [{"id": index, "name": name} for index, name in enumerate(classes)],
        # pycocotools takes id 0 for "no match".
        "annotations": [{"id": number, **one} for number, one in enumerate(annotations, start=1)],
    }


def _flags(flags: NDArray[np.bool_] | None, count: int) -> NDArray[np.bool_]:
    return np.zeros(count, np.bool_) if flags is None else flags


def _coco_box(box: FoundBox) -> dict[str, Any]:
    return {
        "image_id": box.image,
        "category_id": box.label_id,
        "bbox": _xywh(box.box_xyxy),
        "score": box.rank_by,
    }


def _xywh(box: Sequence[float]) -> list[float]:
    return [box[0], box[1], box[2] - box[0], box[3] - box[1]]


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
