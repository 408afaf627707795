"""How do samples become the bytes of a shard?

The same samples give the same bytes: nothing in a shard depends on the clock, the user or the
machine.
"""

from __future__ import annotations

import hashlib
import io
import itertools
import tarfile
from collections.abc import Iterable
from typing import Any

from pipelines import storage
from pipelines.errors import InputError
from pipelines.shards.places import put, shard_name
from pipelines.shards.samples import Sample, encode_metadata


def pack_shards(
    folder: str, *, split: str, samples: Iterable[Sample], samples_per_shard: int
) -> list[dict[str, Any]]:
    """Write samples of one's own to shards, in the order in which they come.

    Args:
        folder: Where the shards go, a path or URI.
        split: First part of their names.
        samples: With keys unique in the set.
        samples_per_shard: At least 1.

    Returns:
        One index entry per shard: name, split, samples, objects, bytes, sha256.

    Raises:
        InputError: Two samples have the same key, or the bucket does not exist.
        StorageError: The store refused, or did not answer.
    """
    keys: set[str] = set()
    entries: list[dict[str, Any]] = []
    rest = iter(samples)
    while group := list(itertools.islice(rest, samples_per_shard)):
        for sample in group:
            if sample.key in keys:
                raise InputError(f"shards: two samples have the key {sample.key}; rename one")
            keys.add(sample.key)
        data = pack_tar(group)
        name = shard_name(split, len(entries))
        put(folder, storage.join_uri(folder, name), data)
        entries.append(
            {
                "name": name,
                "split": split,
                "samples": len(group),
                "objects": sum(len(sample.metadata.objects) for sample in group),
                "bytes": len(data),
                "sha256": hashlib.sha256(data).hexdigest(),
            }
        )
    return entries


def pack_tar(samples: Iterable[Sample]) -> bytes:
    """Pack samples into the bytes of one WebDataset tar.

    Args:
        samples: In the order in which they shall be read.

    Returns:
        A tar with `KEY.EXTENSION` and `KEY.json` of each sample beside each other.
    """
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for sample in samples:
            _add_member(tar, f"{sample.key}.{sample.extension}", sample.image)
            _add_member(tar, f"{sample.key}.json", encode_metadata(sample.metadata))
    return buffer.getvalue()


def _add_member(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    # A fresh TarInfo has no clock, user or group in it: time 0, uid 0, no names, mode 644.
    member = tarfile.TarInfo(name)
    member.size = len(data)
    tar.addfile(member, io.BytesIO(data))
