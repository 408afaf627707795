"""Which shards does a split have, and what stands in them?

Only `index.json` is believed about which: a killed run can have left shards that belong to nothing.
"""

from __future__ import annotations

import hashlib
import io
import itertools
import json
import tarfile
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO, Final

from webdataset.tariterators import group_by_keys, tar_file_expander

from pipelines import storage
from pipelines.errors import InputError, PipelineError, StorageError
from pipelines.images import IMAGE_SUFFIXES
from pipelines.shards.index import read_index

_READ_BYTES: Final = 4 * 2**20
"""The least that one request reads (assumed: a store's latency is then small beside its
transfer); each stream holds this much."""
_METADATA: Final = "json"


@dataclass(frozen=True, kw_only=True, slots=True)
class Shard:
    """What the index says of a shard."""

    name: str
    """Beside the index."""
    samples: int
    """How many it holds."""
    objects: int
    """How many these have."""
    bytes: int
    """Its size."""
    sha256: str
    """Digest of its bytes, hexadecimal."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EncodedSample:
    """A sample as it stands in a shard."""

    key: str
    """Unique in the set."""
    image: bytes
    """An encoded image, of any format; empty if the shard holds none."""
    metadata: bytes
    """JSON, to be read by `decode_metadata`; empty if the shard holds none."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ShardSet:
    """The shards of one split, in the order of the index."""

    folder: str
    """Absolute path or URI."""
    split: str
    """Such as train."""
    classes: tuple[str, ...]
    """Names, in the order of the labels."""
    shards: tuple[Shard, ...]
    """At least one."""
    keypoints: tuple[str, ...] = ()
    """Names, in the order of every object's keypoints; empty if the set has none."""

    @property
    def shard_sizes(self) -> tuple[int, ...]:
        """Samples of each shard."""
        return tuple(shard.samples for shard in self.shards)

    @property
    def samples(self) -> int:
        """Samples of the split."""
        return sum(self.shard_sizes)

    @property
    def objects(self) -> int:
        """Objects of the split's samples."""
        return sum(shard.objects for shard in self.shards)

    @property
    def first_numbers(self) -> tuple[int, ...]:
        """Of each shard the number in the set of its first sample."""
        return tuple(itertools.accumulate(self.shard_sizes, initial=0))[:-1]

    @property
    def digest(self) -> str:
        """What tells this content from any other, wherever it lies.

        A checkpoint keeps it: a position in an epoch means nothing in other shards.
        """
        content = [[shard.name, shard.samples, shard.sha256] for shard in self.shards]
        return hashlib.sha256(json.dumps([self.classes, content]).encode()).hexdigest()

    def iter_samples(self, number: int, start: int, stop: int) -> Iterator[EncodedSample]:
        """Read neighbouring samples of a shard.

        Args:
            number: Place of the shard in the set.
            start: First sample, from 0; those before it are read over.
            stop: Behind the last sample, at most the shard's samples.

        Yields:
            Samples, in the order in which they stand there.

        Raises:
            StorageError: The shard is not there, is not what the index says (its size, how many
                samples), or cannot be read.
        """
        shard = self.shards[number]
        uri = storage.join_uri(self.folder, shard.name)
        with closing(_open(uri, shard)) as stream, _explained(uri, stream):
            # Not `WebDataset`: it leaves files open, and takes braces in a name for a range.
            records = group_by_keys(tar_file_expander([{"url": uri, "stream": stream}]))
            count = 0
            for record in itertools.islice(records, stop):
                count += 1
                if count > start:
                    yield _make_sample(record)
            # A tar with a damaged header in its middle looks like one that ends there.
            is_longer = stop == shard.samples and next(records, None) is not None
            if count < stop or is_longer:
                found = f"more than {count}" if is_longer else f"{count}"
                raise StorageError(
                    f"{uri}: holds {found} samples, index.json says {shard.samples}; {_REPAIR}"
                )


def open_shard_set(folder: str, split: str) -> ShardSet:
    """Look up the shards of a split.

    Args:
        folder: Where the shards and their `index.json` are, a path or URI.
        split: Which of them.

    Returns:
        The shards, of which nothing is read yet.

    Raises:
        InputError: There is no index, or no sample of that split.
        StorageError: The store refused, or did not answer.
    """
    folder = storage.resolve_uri(folder)
    index = read_index(folder)
    if index is None:
        raise InputError(f"shards {folder}: no index.json there; make them with overfeat shards")
    try:
        shards = tuple(
            Shard(**{name: entry[name] for name in Shard.__slots__})
            for entry in index["shards"]
            if entry["split"] == split
        )
        classes = tuple(str(name) for name in index["classes"])
    except (KeyError, TypeError) as error:
        raise InputError(f"shards {folder}: index.json is damaged ({error!r}); {_REPAIR}") from None
    if not sum(shard.samples for shard in shards):
        raise InputError(f"shards {folder}: no split {split!r} there; make it with overfeat shards")
    keypoints = tuple(index.get("keypoints", ()))
    return ShardSet(folder=folder, split=split, classes=classes, shards=shards, keypoints=keypoints)


_REPAIR: Final = "pack the split again with overfeat shards"


# Compares the size with the index: cheap, and finds most that can be wrong.
def _open(uri: str, shard: Shard) -> BinaryIO:
    try:
        stream = storage.open_range_reader(uri, buffer_bytes=_READ_BYTES)
    except FileNotFoundError:
        raise StorageError(f"{uri}: index.json names it, but it is not there; {_REPAIR}") from None
    size = stream.seek(0, io.SEEK_END)
    if size != shard.bytes:
        stream.close()
        raise StorageError(f"{uri}: {size} bytes, index.json says {shard.bytes}; {_REPAIR}")
    stream.seek(0)
    return stream


# Says in one sentence what was wrong with a shard.
@contextmanager
def _explained(uri: str, stream: BinaryIO) -> Iterator[None]:
    try:
        yield
    except PipelineError as error:
        # webdataset adds streams to what passes through it: they can neither be read nor pickled.
        raise type(error)(str(error.args[0]).removesuffix(f" @ {stream}")) from None
    except (tarfile.TarError, ValueError, OSError) as error:
        # A ValueError is a name that comes twice.
        reason = str(error.args[0]).removesuffix(f" @ {stream}")
        raise StorageError(f"{uri}: cannot be read as a shard ({reason}); {_REPAIR}") from None


def _make_sample(record: Mapping[str, Any]) -> EncodedSample:
    images = [name for name in record if f".{name}" in IMAGE_SUFFIXES]
    return EncodedSample(
        key=str(record["__key__"]),
        image=record[images[0]] if images else b"",
        metadata=record.get(_METADATA, b""),
    )
