"""Images with names of any kind through a run, an update and a copy of it."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
from PIL import Image

from pipelines import storage
from pipelines.annotate.run import annotate
from pipelines.compact import CompactConfig, compact
from tests.builders import encode_picture, make_config, make_picture, read_rows
from tests.pipelines.annotate.fake_model import predict_one


def check_round_trip(root, names, checkpoint):
    """Annotate, update and copy them; every row is that of its own picture."""
    config = make_config(root, checkpoint, slice_size=4, suffixes=(".jpg",))
    pictures = {}
    for number, name in enumerate(names):
        pictures[f"{config.images}/{name}"] = put_picture(config.images, name, number)
    annotate(config)
    check_rows(config.output, pictures)

    changed = names[:: len(names) // 5]
    for name in changed:
        uri = f"{config.images}/{name}"
        pictures[uri] = put_picture(config.images, name, 100 + len(pictures[uri]))
    gone = names[1]
    storage.delete([f"{config.images}/{gone}"])
    del pictures[f"{config.images}/{gone}"]
    report = annotate(replace(config, update=True))
    assert report.images_read == len(changed)
    check_rows(config.output, pictures)

    copy = storage.join_uri(root, "copy")
    compact(CompactConfig(output=config.output, to=copy))
    check_rows(copy, pictures)


def put_picture(folder, name, seed):
    """Writes a picture; returns its pixels as the stages see them."""
    data = encode_picture(make_picture(seed, height=8, width=8))
    storage.write_bytes(f"{folder}/{name}", data)
    return np.asarray(Image.open(io.BytesIO(data)))


def check_rows(output, pictures):
    rows = read_rows(output, "images").to_pylist()
    assert sorted(row["image"] for row in rows) == sorted(pictures)
    for row in rows:
        assert row["status"] == "ok", row
        expected = predict_one(pictures[row["image"]]).classification
        assert row["labels"] == list(expected.labels), row["image"]
