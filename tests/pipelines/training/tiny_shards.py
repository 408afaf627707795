"""Shards of tiny images, each of which shows its number."""

from __future__ import annotations

import hashlib
import itertools
import json

import numpy as np

from pipelines import storage
from pipelines.shards.index import INDEX_VERSION
from pipelines.shards.samples import Sample, SampleMetadata
from pipelines.shards.writer import pack_tar
from pipelines.training.shard_set import open_shard_set
from tests.builders import encode_picture

FORMATS = (("PNG", "png"), ("WEBP", "webp"), ("PNG", "jpeg"))
"""Format and extension, by turns: what the extension says does not matter."""
CLASSES = tuple(f"class {number}" for number in range(256))
"""One for each sample."""


def make_sample(number):
    """Make sample `number` below 256, 4 x 3 pixels of that value."""
    picture_format, extension = FORMATS[number % len(FORMATS)]
    pixels = np.full((3, 4, 3), number, np.uint8)
    options = {"lossless": True} if picture_format == "WEBP" else {}
    return Sample(
        key=f"folder/key-{number:03d}",
        image=encode_picture(pixels, picture_format, **options),
        extension=extension,
        metadata=SampleMetadata(width=4, height=3, original_name=f"number {number}", label=number),
    )


def write_shards(folder, sizes, *, damage=()):
    """Write shards of some sizes, a few of their images cut off in the middle; open them."""
    numbers = itertools.count()
    entries = []
    for place, size in enumerate(sizes):
        samples = [make_sample(next(numbers)) for _ in range(size)]
        data = pack_tar([_damage(one) if one.metadata.label in damage else one for one in samples])
        name = f"train-{place:06d}.tar"
        storage.write_bytes(storage.join_uri(str(folder), name), data)
        entry = {"name": name, "split": "train", "samples": size, "objects": 0, "bytes": len(data)}
        entries.append(entry | {"sha256": hashlib.sha256(data).hexdigest()})
    write_index(folder, entries)
    return open_shard_set(str(folder), "train")


def write_index(folder, entries, **more):
    """Write what `overfeat shards` would."""
    index = {
        "version": INDEX_VERSION,
        "classes": CLASSES,
        "recipes": {},
        "shards": entries,
    } | more
    storage.write_bytes(storage.join_uri(str(folder), "index.json"), json.dumps(index).encode())


def _damage(sample):
    cut = sample.image[: len(sample.image) // 2]
    return Sample(key=sample.key, image=cut, extension=sample.extension, metadata=sample.metadata)
