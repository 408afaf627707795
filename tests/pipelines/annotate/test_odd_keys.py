"""Do images keep their names and their rows, whatever their keys are made of?

Each stands beside one that a glob, an escape or a path that is tidied up would take it for.
"""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from pipelines import storage
from pipelines.annotate.run import annotate
from pipelines.compact import CompactConfig, compact
from tests.builders import encode_picture, make_config, make_picture, read_rows
from tests.pipelines.annotate.fake_model import predict_one

ON_ANY_STORE = [
    "a*.jpg", "ab.jpg", "a?.jpg", "IMG[1].jpg", "IMG1.jpg", "a b.jpg", "a+b.jpg", "a%20b.jpg",
    "100%.jpg", "100.jpg", "a#b.jpg", "a.jpg", "ü/日本.jpg", "u/日本.jpg", "a::b.jpg", "x:y.jpg",
    "a.jpg?versionId=1.jpg", 'it\'s "a" & <b>.jpg', "..jpg", "...jpg", "~.jpg", "-.jpg", "{}.jpg",
    " .jpg", "\\.jpg",
]  # fmt: skip
ON_LOCAL_DISK = ["line\nbreak.jpg", "line break.jpg", "tab\t.jpg"]
"""Names that the servers of these tests do not tell apart, or do not know."""
ON_OBJECT_STORES = [
    "a//b.jpg", "a/b.jpg", "a/../b.jpg", "b.jpg", "a/./b.jpg", "/b.jpg", "u\u0308/日本.jpg",
]  # fmt: skip
"""Names that a file system, or a server that keeps its objects on one, would tidy up. The last one
is the letter ü in two characters: another key than the one above."""


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


@pytest.mark.usefixtures("plain_engine")
def test_keys_of_any_characters_keep_their_rows(store_root, checkpoint):
    is_local = not store_root.startswith("s3:")
    check_round_trip(store_root, ON_ANY_STORE + ON_LOCAL_DISK * is_local, checkpoint)


@pytest.mark.usefixtures("plain_engine")
def test_keys_that_look_like_paths_keep_their_rows_in_a_bucket(moto_bucket, checkpoint):
    check_round_trip(f"s3://{moto_bucket}/run", ON_ANY_STORE + ON_OBJECT_STORES, checkpoint)


def test_every_key_is_there_once():
    names = ON_ANY_STORE + ON_LOCAL_DISK + ON_OBJECT_STORES
    assert len(set(names)) == len(names)
