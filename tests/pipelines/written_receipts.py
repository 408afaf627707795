"""Receipts that tests write, as a commit puts them last."""

from __future__ import annotations

from collections import Counter

import pyarrow as pa

from pipelines import storage
from pipelines.receipts import RowCounts
from pipelines.tables import IMAGES_SCHEMA, Provenance, encode_table, slice_name

EXAMPLE = {
    "slice": 0, "etag": "", "size": 0, "status": "ok", "n_boxes": 0, "truncated_boxes": False,
    "labels": [], "scores": [], "fingerprint": "f",
}  # fmt: skip


def commit(root, number, *, generation, images="", failed="", **notes):
    """Write a receipt of some generation, with the rows of some images."""
    rows = [EXAMPLE | {"image": image} for image in images]
    rows += [EXAMPLE | {"image": x, "status": "error", "error_type": "corrupt"} for x in failed]
    counts = RowCounts(images=len(rows), errors=Counter(corrupt=len(failed)))
    data = encode_table(
        pa.Table.from_pylist(rows, IMAGES_SCHEMA),
        IMAGES_SCHEMA,
        Provenance(fingerprint="f", generation=generation),
        counts=counts.encode(),
        **notes,
    )
    storage.write_bytes(storage.join_uri(root, "images", slice_name(number)), data)
