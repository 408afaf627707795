"""What happens to a slice: read and decode, detect, write. Where it happens is not said here.

    place -> READ table (pixels) -> DETECTED table (nested answers) -> objects, a SUMMARY row

Between the stages a slice is one Arrow table with one row per image, in the order of the manifest.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from overfeat.predict_config import PredictConfig, Task
from overfeat.predictor import Predictor
from overfeat.views import PreparedImage, ViewPlan, prepare_image
from pipelines import manifest, storage
from pipelines.annotate.commit import commit_slice
from pipelines.annotate.denied import check_credentials
from pipelines.annotate.kept import find_kept
from pipelines.annotate.rows import nest_answers
from pipelines.errors import ImageError, ImageReason, PipelineError
from pipelines.images import ImageLimits, decode_image_apart, decode_image_within
from pipelines.manifest import SlicePlace
from pipelines.storage import ObjectBytes, ObjectInfo

if TYPE_CHECKING:
    from numpy.typing import NDArray

_READ_COLUMNS: Final[dict[str, pa.DataType]] = {
    "slice": pa.int32(),
    "generation": pa.int32(),
    # Of the slice: what has fewer is a part of it.
    "rows": pa.int32(),
    # Part of the manifest that lists the slice.
    "listed": pa.string(),
    # Null in the one row of a slice that has lost all its images: Ray drops blocks of no rows.
    "image": pa.string(),
    # False for an image whose rows are kept as they are.
    "todo": pa.bool_(),
    # Name of the receipt whose rows are kept; null if none are.
    "receipt": pa.string(),
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

SLICE_PIXEL_BYTES: Final = 8 * 2**30
"""Pixels of a slice at most (assumed: more is more than a worker has). Ray Data splits a block of
half as much again."""

_READ_AT_ONCE: Final = 32
"""Images (assumed: twice what a store is asked for at a time, so that few wait for a slow one)."""

_PIXEL_COLUMNS: Final = ("pixels", "pixel_width")

_SUMMARY_COLUMNS: Final[dict[str, pa.DataType]] = {
    "slice": pa.int32(),
    "images_read": pa.int32(),
    "counts": pa.string(),
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
    lease: str | None
    """Id of the driver: a worker writes nothing for one that has been relieved. None without a
    driver: the stages in plain Python."""
    plans: tuple[ViewPlan, ...]
    """How each network looks at images: they are shrunk to the largest view."""
    tasks: tuple[Task, ...]
    """What is asked of each image."""
    channels: int | None
    """Width of a feature vector; None if features are not asked for."""
    predict: PredictConfig
    """What the model is told."""
    limits: ImageLimits
    """What an image may cost."""
    image_timeout: float
    """Seconds that decoding an image may take."""


def read_slice(
    place: SlicePlace, config: StageConfig, *, apart: bool = False, again: bool = False
) -> pa.Table:
    """Read, decode and shrink the images of a slice; one that fails keeps its row, with a reason.

    Args:
        place: Where the slice's images are listed.
        config: Which run, and what images may cost.
        apart: Decode each image in a child process, because one may have killed a worker.
        again: Whether the slice was started before: it may stand, and only the word of it be lost
            with a node. Then none of its images is read.

    Returns:
        A table of `READ_SCHEMA`: all images of the slice, those that are not to be done unread.

    Raises:
        StorageError: If images were denied because the credentials may read no more: no image is
            to blame.
    """
    listed = manifest.read_slice(config.output, place)
    entries, receipt = find_kept(config.output, place, listed, again=again)
    infos = [entry.info for entry in entries if entry.todo]
    rows: list[dict[str, object]] = [
        {"image": entry.info.uri, "todo": entry.todo} for entry in entries
    ] or [{"todo": False}]
    decode = decode_image_apart if apart else decode_image_within
    todo = [row for row in rows if row["todo"]]
    asked: list[tuple[ObjectInfo, ImageError | None]] = []
    read_seconds = decode_seconds = 0.0
    # A list may not know sizes: never are more than a few encoded images held.
    for first in range(0, len(infos), _READ_AT_ONCE):
        group = slice(first, first + _READ_AT_ONCE)
        started = time.perf_counter()
        answers = storage.read_objects(infos[group], max_bytes=config.limits.max_bytes)
        read = time.perf_counter()
        for row, info, answer in zip(todo[group], infos[group], answers, strict=True):
            row.update(_decode(info, answer, config, decode, SLICE_PIXEL_BYTES // len(rows)))
            asked.append((info, answer if isinstance(answer, ImageError) else None))
        read_seconds += read - started
        decode_seconds += time.perf_counter() - read
    check_credentials(config.output, place, entries, asked)
    always = {
        "slice": place.number,
        "generation": place.generation,
        "rows": len(rows),
        "listed": place.part,
        "receipt": receipt,
        "read_seconds": read_seconds / len(rows),
        "decode_seconds": decode_seconds / len(rows),
    }
    return pa.Table.from_pylist([{**row, **always} for row in rows], READ_SCHEMA)


def _decode(
    info: ObjectInfo,
    answer: ObjectBytes | ImageError,
    config: StageConfig,
    decode: Callable[[bytes, ImageLimits, float], NDArray[np.uint8]],
    room: int,
) -> dict[str, object]:
    """Make the columns of one image, of so many bytes of pixels at most."""
    row: dict[str, object] = {"etag": info.etag, "size": info.size}
    try:
        if isinstance(answer, ImageError):
            raise answer
        row |= {"etag": answer.etag, "size": len(answer.data)}
        image = decode(answer.data, config.limits, config.image_timeout)
        prepared = prepare_image(image, config.plans)
        _check_room(prepared, room)
    except ImageError as error:
        return row | {"error_type": str(error.reason), "error": error.message}
    return row | {
        "height": prepared.height,
        "width": prepared.width,
        "pixels": prepared.pixels.tobytes(),
        "pixel_width": prepared.pixels.shape[1],
    }


def _check_room(prepared: PreparedImage, room: int) -> None:
    """Refuse a long strip, all of which is kept where crops are cut from its short side.

    Raises:
        ImageError: If its pixels take more than its part of a slice.
    """
    if prepared.pixels.nbytes > room:
        raise ImageError(
            ImageReason.TOO_LARGE,
            f"strip of {prepared.width} x {prepared.height} pixels: what crops are cut from takes "
            f"{prepared.pixels.nbytes:,} bytes, expected at most {room:,} of each image of its "
            "slice; a run into another --output may take it, with --views dense",
        )


def rehearse_slice(table: pa.Table, rehearse: Callable[[PreparedImage], None]) -> pa.Table:
    """Give each image that does not survive detection a reason, so that it is left out of it.

    Args:
        table: Of `READ_SCHEMA`, a whole slice.
        rehearse: Detects on one image where that harms nobody; raises ImageError if it would.

    Returns:
        The same table; such images have neither pixels nor a size.
    """
    reasons: list[str | None] = table["error_type"].to_pylist()
    messages: list[str | None] = table["error"].to_pylist()
    is_deadly = np.zeros(len(table), dtype=bool)
    for row in _list_decoded(table):
        try:
            rehearse(_prepared(table, row))
        except ImageError as error:
            is_deadly[row], reasons[row], messages[row] = True, str(error.reason), error.message
    columns: dict[str, Any] = {name: table[name] for name in table.column_names}
    for name in ("width", "height", *_PIXEL_COLUMNS):
        nothing = pa.scalar(None, READ_SCHEMA.field(name).type)
        columns[name] = pc.if_else(pa.array(is_deadly), nothing, table[name])
    return pa.table(columns | {"error_type": reasons, "error": messages}, schema=READ_SCHEMA)


def detect_slice(table: pa.Table, predictor: Predictor, config: StageConfig) -> pa.Table:
    """Evaluate the images of a slice together.

    Args:
        table: Of `READ_SCHEMA`, a whole slice.
        predictor: The model.
        config: Tasks and thresholds.

    Returns:
        The rows without their pixels, and with the model's answers.

    Raises:
        PipelineError: If the model gave no numbers: no image is to blame.
    """
    started = time.perf_counter()
    ready = _list_decoded(table)
    images = [_prepared(table, row) for row in ready]
    try:
        found = predictor.predict(images, config.predict, config.tasks)
    except ArithmeticError as error:
        raise PipelineError(f"slice {table['slice'][0]}: {error}") from error
    predictions = dict(zip(ready, found, strict=True))
    answers = nest_answers(
        [predictions.get(row) for row in range(len(table))], channels=config.channels
    )
    seconds = (time.perf_counter() - started) / len(table)
    answers = answers.append_column("detect_seconds", pa.array([seconds] * len(table)))
    detected = table.drop_columns(list(_PIXEL_COLUMNS))
    for column in answers.schema:
        detected = detected.append_column(column, answers[column.name])
    return detected


def _list_decoded(table: pa.Table) -> list[int]:
    """The rows that have pixels."""
    return [row for row, valid in enumerate(table["pixels"].is_valid().to_pylist()) if valid]


def _prepared(table: pa.Table, row: int) -> PreparedImage:
    buffer = table["pixels"][row].as_buffer()
    flat = np.frombuffer(buffer, dtype=np.uint8)
    return PreparedImage(
        pixels=flat.reshape(-1, table["pixel_width"][row].as_py(), 3),
        height=table["height"][row].as_py(),
        width=table["width"][row].as_py(),
    )


def write_slice(table: pa.Table, config: StageConfig) -> pa.Table:
    """Commit a slice: its rows of every task's table first, its receipt last.

    Args:
        table: From `detect_slice`, a whole slice.
        config: Where to, and for which run.

    Returns:
        A table of `SUMMARY_SCHEMA` with one row.

    Raises:
        PipelineError: If it is a part of a slice: a receipt would stand for the whole of it.
    """
    started = time.perf_counter()
    if (rows := table["rows"][0].as_py()) != len(table):
        raise PipelineError(
            f"slice {table['slice'][0]}: {len(table):,} of its {rows:,} images came to be written; "
            "the engine has split it: choose another --output and a lower --slice-size"
        )
    counts = commit_slice(
        table,
        output=config.output,
        fingerprint=config.fingerprint,
        lease=config.lease,
        tasks=config.tasks,
    )
    done = table.filter(table["todo"])
    seconds = {stage: _sum(table, f"{stage}_seconds") for stage in STAGES[:-1]}
    seconds["write"] = time.perf_counter() - started
    row = {
        "slice": table["slice"][0].as_py(),
        "images_read": len(done),
        "counts": counts.encode(),
        "seconds": json.dumps(seconds),
    }
    return pa.Table.from_pylist([row], SUMMARY_SCHEMA)


def _sum(table: pa.Table, column: str) -> float:
    return float(np.sum(table[column].to_numpy()))
