"""What happens to a slice: read and decode, detect, write. Where it happens is not said here.

    number -> READ table (pixels) -> DETECTED table (nested boxes) -> two objects, a SUMMARY row

Between the stages a slice is one Arrow table with one row per image, in the order of the manifest.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa

from overfeat.predictions import Classification, Detections, Prediction
from overfeat.predictor import PredictConfig, Predictor, PreparedImage, Task
from overfeat.scales import Canvas, shrink
from pipelines import manifest, storage, tables
from pipelines.errors import ImageError
from pipelines.images import ImageLimits, decode_image
from pipelines.receipts import RowCounts
from pipelines.storage import ObjectBytes, ObjectInfo

_READ_COLUMNS: Final[dict[str, pa.DataType]] = {
    "slice": pa.int32(),
    "image": pa.string(),
    "etag": pa.string(),
    "size": pa.int64(),
    "width": pa.int32(),
    "height": pa.int32(),
    "error_type": pa.string(),
    "error": pa.string(),
    # Shrunk RGB rows; an Arrow `binary` column ends at 2 GiB.
    "pixels": pa.large_binary(),
    "pixel_width": pa.int32(),
    # Seconds are shared out evenly over the rows of the slice, so that they add up.
    "read_seconds": pa.float64(),
    "decode_seconds": pa.float64(),
}
READ_SCHEMA: Final = pa.schema(_READ_COLUMNS)

_BOX_STRUCT: Final = pa.struct([f for f in tables.BOXES_SCHEMA if f.name not in {"image", "box"}])

_ANSWER_COLUMNS: Final[dict[str, pa.DataType]] = {
    "labels": pa.list_(pa.string()),
    "scores": pa.list_(pa.float32()),
    "boxes": pa.list_(_BOX_STRUCT),
    "truncated_boxes": pa.bool_(),
    "detect_seconds": pa.float64(),
}
_ANSWER_SCHEMA: Final = pa.schema(_ANSWER_COLUMNS)
"""What detection adds to a row."""

_PIXEL_COLUMNS: Final = ("pixels", "pixel_width")

_SUMMARY_COLUMNS: Final[dict[str, pa.DataType]] = {
    "slice": pa.int32(),
    "counts": pa.string(),
    "size_bytes": pa.int64(),
    "seconds": pa.string(),
}
SUMMARY_SCHEMA: Final = pa.schema(_SUMMARY_COLUMNS)

STAGES: Final = ("read", "decode", "detect", "write")
"""Whose seconds a run reports."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StageConfig:
    """What the stages are told; small, for it travels with every task."""

    output: str
    """The run."""
    fingerprint: str
    """Of the settings that decide the rows."""
    generation: int
    """Of the manifest."""
    scales: tuple[Canvas, ...]
    """The ladder: images are shrunk to its largest scale."""
    tasks: tuple[Task, ...]
    """What is asked of each image."""
    predict: PredictConfig
    """What the model is told."""
    limits: ImageLimits
    """What an image may cost."""


def read_slice(number: int, config: StageConfig) -> pa.Table:
    """Read, decode and shrink the images of a slice; one that fails keeps its row, with a reason.

    Args:
        number: The slice.
        config: Where the manifest is, and what images may cost.

    Returns:
        A table of `READ_SCHEMA`.
    """
    infos = manifest.read_slice(config.output, number, generation=config.generation)
    started = time.perf_counter()
    answers = storage.read_objects(infos, max_bytes=config.limits.max_bytes)
    read_seconds = (time.perf_counter() - started) / len(infos)
    started = time.perf_counter()
    rows = [_decode(info, answer, config) for info, answer in zip(infos, answers, strict=True)]
    decode_seconds = (time.perf_counter() - started) / len(infos)
    times = {"read_seconds": read_seconds, "decode_seconds": decode_seconds}
    return pa.Table.from_pylist([{"slice": number, **row, **times} for row in rows], READ_SCHEMA)


def _decode(
    info: ObjectInfo, answer: ObjectBytes | ImageError, config: StageConfig
) -> dict[str, object]:
    """Make the row of one image."""
    row: dict[str, object] = {"image": info.uri, "etag": info.etag, "size": info.size}
    try:
        if isinstance(answer, ImageError):
            raise answer
        row |= {"etag": answer.etag, "size": len(answer.data)}
        image = decode_image(answer.data, config.limits)
    except ImageError as error:
        return row | {"error_type": str(error.reason), "error": error.message}
    pixels = shrink(image, config.scales)
    return row | {
        "height": image.shape[0],
        "width": image.shape[1],
        "pixels": pixels.tobytes(),
        "pixel_width": pixels.shape[1],
    }


def detect_slice(table: pa.Table, predictor: Predictor, config: StageConfig) -> pa.Table:
    """Evaluate the images of a slice together.

    Args:
        table: Of `READ_SCHEMA`, a whole slice.
        predictor: The model.
        config: Tasks and thresholds.

    Returns:
        The rows without their pixels, and with the model's answers.
    """
    started = time.perf_counter()
    ready = [row for row, valid in enumerate(table["pixels"].is_valid().to_pylist()) if valid]
    images = [_prepared(table, row) for row in ready]
    predictions = dict(
        zip(ready, predictor.predict(images, config.predict, config.tasks), strict=True)
    )
    seconds = (time.perf_counter() - started) / len(table)
    answers = [
        {**_answer(predictions.get(row)), "detect_seconds": seconds} for row in range(len(table))
    ]
    made = pa.Table.from_pylist(answers, _ANSWER_SCHEMA)
    detected = table.drop_columns(list(_PIXEL_COLUMNS))
    for name in made.column_names:
        detected = detected.append_column(_ANSWER_SCHEMA.field(name), made[name])
    return detected


def _prepared(table: pa.Table, row: int) -> PreparedImage:
    buffer = table["pixels"][row].as_buffer()
    flat = np.frombuffer(buffer, dtype=np.uint8)
    return PreparedImage(
        pixels=flat.reshape(-1, table["pixel_width"][row].as_py(), 3),
        height=table["height"][row].as_py(),
        width=table["width"][row].as_py(),
    )


def _answer(prediction: Prediction | None) -> dict[str, object]:
    """Turn a prediction into the columns of one row; a failed image has none."""
    classification = None if prediction is None else prediction.classification
    detections = None if prediction is None else prediction.detections
    return {
        **_class_columns(classification),
        "boxes": [] if detections is None else _box_rows(detections),
        "truncated_boxes": bool(detections and detections.truncated_boxes),
    }


def _class_columns(classification: Classification | None) -> dict[str, object]:
    if classification is None:
        return {"labels": [], "scores": []}
    return {"labels": list(classification.labels), "scores": classification.scores.tolist()}


def _box_rows(detections: Detections) -> list[dict[str, object]]:
    columns = (
        detections.label_ids.tolist(),
        detections.labels,
        detections.scores.tolist(),
        detections.evidence.tolist(),
        *detections.boxes_xyxy.T.tolist(),
        detections.n_windows.tolist(),
    )
    names = [field.name for field in _BOX_STRUCT]
    return [dict(zip(names, values, strict=True)) for values in zip(*columns, strict=True)]


def write_slice(table: pa.Table, config: StageConfig) -> pa.Table:
    """Commit a slice: its rows of every task's table first, its receipt last.

    Args:
        table: From `detect_slice`, a whole slice.
        config: Where to, and for which run.

    Returns:
        A table of `SUMMARY_SCHEMA` with one row.
    """
    started = time.perf_counter()
    number = table["slice"][0].as_py()
    provenance = tables.Provenance(fingerprint=config.fingerprint, generation=config.generation)
    images = image_rows(table, config.fingerprint)
    counts = _count(images)
    if "detect" in config.tasks:
        boxes = tables.encode_table(box_rows(table), tables.BOXES_SCHEMA, provenance)
        _put(config.output, tables.BOXES, number, boxes)
    receipt = tables.encode_table(images, tables.IMAGES_SCHEMA, provenance, counts=counts.encode())
    _put(config.output, tables.IMAGES, number, receipt)
    seconds = {stage: _sum(table, f"{stage}_seconds") for stage in STAGES[:-1]}
    seconds["write"] = time.perf_counter() - started
    row = {
        "slice": number,
        "counts": counts.encode(),
        "size_bytes": int(_sum(table, "size")),
        "seconds": json.dumps(seconds),
    }
    return pa.Table.from_pylist([row], SUMMARY_SCHEMA)


def image_rows(table: pa.Table, fingerprint: str) -> pa.Table:
    """Make the rows of the `images` table.

    Args:
        table: From `detect_slice`.
        fingerprint: Of the run.

    Returns:
        A table of `IMAGES_SCHEMA`, in the same order.
    """
    reasons: list[str | None] = table["error_type"].to_pylist()
    boxes: list[Any] = table["boxes"].to_pylist()
    rows = (
        table.append_column("status", pa.array(["error" if reason else "ok" for reason in reasons]))
        .append_column("n_boxes", pa.array([len(found) for found in boxes]))
        .append_column("fingerprint", pa.array([fingerprint] * len(table)))
    )
    return rows.select(tables.IMAGES_SCHEMA.names).cast(tables.IMAGES_SCHEMA)


def box_rows(table: pa.Table) -> pa.Table:
    """Make the rows of the `boxes` table.

    Args:
        table: From `detect_slice`.

    Returns:
        A table of `BOXES_SCHEMA`, sorted by image, then rank.
    """
    images: list[Any] = table["image"].to_pylist()
    found: list[Any] = table["boxes"].to_pylist()
    rows = [
        {"image": image, "box": rank, **box}
        for image, boxes in zip(images, found, strict=True)
        for rank, box in enumerate(boxes)
    ]
    return pa.Table.from_pylist(rows, tables.BOXES_SCHEMA)


def _count(images: pa.Table) -> RowCounts:
    reasons = [reason for reason in images["error_type"].to_pylist() if reason is not None]
    boxes = int(np.sum(images["n_boxes"].to_numpy()))
    return RowCounts(images=len(images), boxes=boxes, errors=Counter(reasons))


def _put(output: str, table: str, number: int, data: bytes) -> None:
    uri = storage.join_uri(output, table, tables.slice_name(number))
    storage.write_bytes(uri, data, scratch=storage.join_uri(output, ".tmp"))


def _sum(table: pa.Table, column: str) -> float:
    return float(np.sum(table[column].to_numpy()))
