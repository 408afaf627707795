"""Runs as `annotate` leaves them: tables of the right columns, and the images they are of."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
from PIL import Image

from pipelines import manifest, storage
from pipelines.storage import ObjectInfo
from pipelines.tables import BOXES_SCHEMA, IMAGES_SCHEMA, Provenance, encode_table, slice_name
from tests.pipelines.manifest.written import write_first, write_later


class FakeRun:
    """A run that grows row by row in a folder, then is written."""

    def __init__(self, folder):
        self.output = folder / "out"
        self.bucket = folder / "bucket"
        self.bucket.mkdir()
        self.images = []
        self.boxes = []

    def add_ok(self, name, *boxes, number=0, size=(80, 60), classes=(("cat", 0.75),)):
        """Add an image that exists, with boxes of (label, score)."""
        path = self.bucket / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.full((size[1], size[0], 3), 90, dtype=np.uint8)
        Image.fromarray(pixels).save(path, "PNG")
        etag = f"{path.stat().st_size}-{path.stat().st_mtime_ns}"
        self._add_row(
            str(path), number, etag=etag, width=size[0], height=size[1], n_boxes=len(boxes),
            labels=[label for label, _ in classes], scores=[score for _, score in classes],
        )  # fmt: skip
        for rank, (label, score) in enumerate(boxes):
            self.add_box(str(path), number, rank, label, score)
        return path

    def add_failed(self, image, reason="truncated", message="it ends early", number=0):
        """Add an image with an error row."""
        self._add_row(image, number, status="error", error_type=reason, error=message)

    def add_box(self, image, number, rank, label, score):
        """Add one row of the boxes table alone."""
        corners = {"x_min": 10, "y_min": 20, "x_max": 40, "y_max": 50}
        row = {"image": image, "box": rank, "label_id": 0, "label": label, "score": score}
        self.boxes.append((number, row | {"evidence": 2.5, "n_windows": 3} | corners))

    def _add_row(self, image, number, **values):
        row = dict.fromkeys(IMAGES_SCHEMA.names)
        row |= {"image": image, "slice": number, "etag": "", "size": 0, "status": "ok"}
        row |= {"n_boxes": 0, "truncated_boxes": False, "labels": [], "scores": []}
        self.images.append((number, row | {"fingerprint": "f"} | values))

    def write(self, *, without_receipts=(), with_boxes=True, with_manifest=True, generation=0):
        """Write all tables; slices in `without_receipts` stay uncommitted."""
        numbers = sorted({number for number, _ in self.images + self.boxes})
        for number in numbers:
            if with_boxes:
                self._write_table("boxes", BOXES_SCHEMA, self.boxes, number, generation)
            if number not in without_receipts:
                self._write_table("images", IMAGES_SCHEMA, self.images, number, generation)
        if with_manifest:
            write_first(str(self.output), [infos for _, infos in self._list_slices(numbers)])
        return str(self.output)

    def write_update(self, generation, numbers, *, is_complete=True):
        """Write a later generation of the manifest, which lists all images of some slices."""
        output = str(self.output)
        slices_of_run = manifest.read_summary(output).slices
        write_later(output, generation, self._list_slices(numbers), slices_of_run=slices_of_run)
        if not is_complete:
            folder = manifest.generation_folder(output, generation)
            storage.delete([storage.join_uri(folder, manifest.COMPLETE)])

    def _list_slices(self, numbers):
        return [
            (number, [ObjectInfo(uri=row["image"]) for row in self._rows(self.images, number)])
            for number in numbers
        ]

    def write_json(self, name, content):
        """Write a file such as run.json."""
        path = self.output / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content if isinstance(content, str) else json.dumps(content))

    def _write_table(self, table, schema, rows, number, generation):
        path = self.output / table / slice_name(number)
        path.parent.mkdir(parents=True, exist_ok=True)
        provenance = Provenance(fingerprint="f", generation=generation)
        content = pa.Table.from_pylist(self._rows(rows, number), schema)
        path.write_bytes(encode_table(content, schema, provenance))

    @staticmethod
    def _rows(rows, number):
        return sorted((row for at, row in rows if at == number), key=lambda row: row["image"])
