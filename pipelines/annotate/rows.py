"""How do a model's answers become rows of the tables?

Between detection and writing they travel nested, one row per image; features as Arrow arrays made
of NumPy's own memory, for a slice may hold a gigabyte of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from overfeat.predict_config import Task
from overfeat.predictions import Classification, Detections, Features, Guesses, Prediction
from pipelines import tables


def _nested_type(schema: pa.Schema, *keys: str) -> pa.DataType:
    """A list of all but the key columns of a table."""
    return pa.list_(pa.struct([field for field in schema if field.name not in keys]))


_ANSWER_COLUMNS: Final[dict[str, pa.DataType]] = {
    "labels": pa.list_(pa.string()),
    "scores": pa.list_(pa.float32()),
    "guesses": _nested_type(tables.GUESSES_SCHEMA, "image", "rank"),
    "boxes": _nested_type(tables.BOXES_SCHEMA, "image", "box"),
    "truncated_boxes": pa.bool_(),
}
_ANSWER_SCHEMA: Final = pa.schema(_ANSWER_COLUMNS)


def nest_answers(predictions: Sequence[Prediction | None], *, channels: int | None) -> pa.Table:
    """Turn predictions into nested columns.

    Args:
        predictions: One per image of a slice; None for one that failed.
        channels: Width of a feature vector; None if features were not asked for.

    Returns:
        One row per image. The column `features` is there if they were asked for.
    """
    nested = pa.Table.from_pylist([_nest(one) for one in predictions], _ANSWER_SCHEMA)
    if channels is None:
        return nested
    features = [None if one is None else one.features for one in predictions]
    return nested.append_column("features", _nest_features(features, channels))


def _nest(prediction: Prediction | None) -> dict[str, object]:
    """The columns of one row but for the features; a failed image has no answers."""
    prediction = prediction or Prediction()
    detections = prediction.detections
    return {
        **_class_columns(prediction.classification),
        "guesses": [] if prediction.guesses is None else _guess_structs(prediction.guesses),
        "boxes": [] if detections is None else _box_structs(detections),
        "truncated_boxes": bool(detections and detections.truncated_boxes),
    }


def _class_columns(classification: Classification | None) -> dict[str, object]:
    if classification is None:
        return {"labels": [], "scores": []}
    return {"labels": list(classification.labels), "scores": classification.scores.tolist()}


def _guess_structs(guesses: Guesses) -> list[dict[str, object]]:
    columns = {
        "label_id": guesses.label_ids.tolist(),
        "label": guesses.labels,
        "score": guesses.scores.tolist(),
        **_corner_columns(guesses.boxes_xyxy),
    }
    return _to_structs(columns)


def _box_structs(detections: Detections) -> list[dict[str, object]]:
    columns = {
        "label_id": detections.label_ids.tolist(),
        "label": detections.labels,
        "score": detections.scores.tolist(),
        "evidence": detections.evidence.tolist(),
        **_corner_columns(detections.boxes_xyxy),
        "n_windows": detections.n_windows.tolist(),
    }
    return _to_structs(columns)


def _corner_columns(boxes_xyxy: np.ndarray) -> dict[str, Sequence[object]]:
    return dict(zip(("x_min", "y_min", "x_max", "y_max"), boxes_xyxy.T.tolist(), strict=True))


def _to_structs(columns: dict[str, Sequence[object]]) -> list[dict[str, object]]:
    return [
        dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)
    ]


def _nest_features(features: Sequence[Features | None], channels: int) -> Any:  # noqa: ANN401 (the stubs know no list of structs)
    """One list of vectors with their cells per image, copied once and into no Python object."""
    found = [one for one in features if one is not None]
    cells = [
        np.concatenate([np.empty(0, np.int32), *(getattr(one, name) for one in found)])
        for name in ("scale", "row", "col")
    ]
    vectors = np.concatenate([np.empty((0, channels), np.float32), *(x.vectors for x in found)])
    columns = [field for field in tables.features_schema(channels) if field.name != "image"]
    structs = pa.StructArray.from_arrays(
        [
            *(pa.array(cell) for cell in cells),
            pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), channels),
        ],
        fields=columns,
    )
    lengths = [0 if one is None else len(one) for one in features]
    offsets: Any = pa.array(np.cumsum([0, *lengths], dtype=np.int32))
    return pa.ListArray.from_arrays(offsets, structs)


def image_rows(table: pa.Table, fingerprint: str) -> pa.Table:
    """Make the rows of the `images` table.

    Args:
        table: A slice after detection.
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


def task_rows(table: pa.Table, tasks: Sequence[Task]) -> Iterator[tuple[str, pa.Table]]:
    """Make the rows of the tables of the tasks, one table at a time.

    Args:
        table: A slice after detection.
        tasks: What was asked of the images.

    Yields:
        A table's name, and its rows sorted by image, then rank or cell.
    """
    if "detect" in tasks:
        yield tables.BOXES, _unnest(table, "boxes", tables.BOXES_SCHEMA, rank="box", first=0)
    if "localize" in tasks:
        yield tables.GUESSES, _unnest(table, "guesses", tables.GUESSES_SCHEMA, rank="rank", first=1)
    if "features" in tasks:
        yield tables.FEATURES, _unnest_features(table)


def _unnest(table: pa.Table, column: str, schema: pa.Schema, *, rank: str, first: int) -> pa.Table:
    images: list[Any] = table["image"].to_pylist()
    lists: list[Any] = table[column].to_pylist()
    rows = [
        {"image": image, rank: number, **found}
        for image, several in zip(images, lists, strict=True)
        for number, found in enumerate(several, start=first)
    ]
    return pa.Table.from_pylist(rows, schema)


def _unnest_features(table: pa.Table) -> pa.Table:
    nested, images = _join_chunks(table["features"]), _join_chunks(table["image"])
    scale, row, col, vector = nested.flatten().flatten()
    schema = tables.features_schema(vector.type.list_size)
    columns = [images.take(pc.list_parent_indices(nested)), scale, row, col, vector]
    return pa.Table.from_arrays(columns, schema=schema)


def _join_chunks(column: Any) -> Any:  # noqa: ANN401 (the stubs know no chunks of any type)
    """One array of a column; `combine_chunks` would copy a single chunk too."""
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
