"""Runs as `annotate` leaves them, without a model: a manifest, tables and receipts."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa

from pipelines import storage
from pipelines.receipts import RowCounts
from pipelines.storage import ObjectInfo
from pipelines.tables import (
    BOXES,
    BOXES_SCHEMA,
    FEATURES,
    GUESSES,
    GUESSES_SCHEMA,
    IMAGES,
    IMAGES_SCHEMA,
    TABLE_OF_TASK,
    Provenance,
    encode_table,
    features_schema,
    slice_name,
)
from tests.pipelines.manifest.written import write_first

CHANNELS = 16
SCHEMAS = {
    IMAGES: IMAGES_SCHEMA,
    BOXES: BOXES_SCHEMA,
    GUESSES: GUESSES_SCHEMA,
    FEATURES: features_schema(CHANNELS),
}


def write_whole_run(root, sizes, *, tables=(IMAGES, BOXES), boxes_per_image=3):
    """A finished run whose slices have so many images; a slice may have lost all of its."""
    listed = [
        [ObjectInfo(uri=f"s3://b/{number:03d}-{at:03d}.jpg") for at in range(size)]
        for number, size in enumerate(sizes)
    ]
    write_first(root, listed)
    for number, infos in enumerate(listed):
        uris = [info.uri for info in infos]
        for table in tables:
            write_slice_table(root, table, number, uris, boxes_per_image)
    tasks = [task for task, table in TABLE_OF_TASK.items() if table in tables]
    document = json.dumps({"fingerprint": "f", "settings": {"tasks": tasks}}).encode()
    storage.write_bytes(storage.join_uri(root, "run.json"), document)
    return root


def write_slice_table(root, table, number, uris, boxes_per_image=3, *, generation=0):
    """Write one table of one slice."""
    rows = make_rows(table, number, uris, boxes_per_image)
    boxes = len(uris) * boxes_per_image
    counts = RowCounts(images=len(uris), boxes=boxes, guesses=boxes, features=len(uris))
    notes = {"counts": counts.encode()} if table == IMAGES else {}
    data = encode_table(
        pa.Table.from_pylist(rows, SCHEMAS[table]),
        SCHEMAS[table],
        Provenance(fingerprint="f", generation=generation),
        **notes,
    )
    storage.write_bytes(storage.join_uri(root, table, slice_name(number)), data)


def make_rows(table, number, uris, boxes_per_image):
    """Rows in which the nullable columns are null for every third image."""
    random = np.random.default_rng(number)
    label = {"label_id": 7, "label": "bee"}
    corners = {"x_min": 1.0, "y_min": 2.0, "x_max": 3.0, "y_max": 4.0}
    if table == IMAGES:
        return [_image_row(uri, number, is_failed=at % 3 == 2) for at, uri in enumerate(uris)]
    if table == FEATURES:
        cell = {"scale": 0, "row": 0, "col": 0}
        vectors = random.normal(size=(len(uris), CHANNELS)).astype(np.float32)
        return [
            {"image": uri, **cell, "vector": vector}
            for uri, vector in zip(uris, vectors, strict=True)
        ]
    rank = {BOXES: "box", GUESSES: "rank"}[table]
    return [
        {"image": uri, rank: n, "score": random.random(), "evidence": 1.5, "n_windows": 2}
        | label
        | corners
        for uri in uris
        for n in range(boxes_per_image)
    ]


def _image_row(uri, number, *, is_failed):
    row = {"image": uri, "slice": number, "etag": "e", "size": 5, "fingerprint": "f"}
    row |= {"n_boxes": 0, "truncated_boxes": False}
    if is_failed:
        failure = {"status": "error", "error_type": "corrupt", "error": "bad marker"}
        return row | failure | {"labels": [], "scores": []}
    return row | {"status": "ok", "width": 8, "height": 6, "labels": ["bee"], "scores": [0.5]}
