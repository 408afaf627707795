"""How do samples become shards?

`SPLIT-000000.tar`, ... and `index.json` beside them, which is written last. The same samples give
the same bytes: nothing in a shard depends on the clock, the user or the machine.
"""

from __future__ import annotations

import hashlib
import io
import itertools
import json
import logging
import tarfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal

from pipelines import storage
from pipelines.errors import InputError
from pipelines.shards import digit_scenes
from pipelines.shards.samples import Sample, encode_metadata

logger = logging.getLogger(__name__)

INDEX_NAME: Final = "index.json"
INDEX_VERSION: Final = 1

Progress = Callable[[int, int], None]
"""Called with the samples written so far and the samples in all."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ShardsConfig:
    """Which samples to pack, and where."""

    output: str
    """Folder, local or in a bucket. It may hold other splits of the same classes."""

    source: Literal["digit-scenes"] = "digit-scenes"
    """Where samples come from."""

    split: digit_scenes.Split = "train"
    """Decides which digits and photographs the scenes are made of."""

    count: int = 1000
    """Scenes to make."""

    seed: int = digit_scenes.TEST_SEED
    """Of the scenes. The published test set is split `test`, 500 scenes, the default seed."""

    samples_per_shard: int = 1000
    """Samples in each shard but the last."""

    augment: float = 0.0
    """Part of the scenes whose background, handwriting and image quality vary beyond the frozen
    rules, 0 to 1 (split `train`)."""

    def __post_init__(self) -> None:
        for name, least in (("count", 1), ("samples_per_shard", 1), ("seed", 0)):
            if getattr(self, name) < least:
                raise InputError(f"shards: {name} is {getattr(self, name)}, expected >= {least}")
        if not 0 <= self.augment <= 1:
            raise InputError(f"shards: augment is {self.augment}, expected from 0 to 1")
        if self.augment and self.split != "train":
            raise InputError(
                f"shards: augment is {self.augment} for split {self.split!r}, expected 'train'; "
                "turn it off: validation and test scenes keep to the frozen rules"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class ShardsReport:
    """What stands in the output for this split."""

    output: str
    split: str
    shards: int
    samples: int
    bytes: int
    was_there: bool
    """Whether an earlier run had written exactly this split, so that nothing was done."""


def write_shards(config: ShardsConfig, progress: Progress | None = None) -> ShardsReport:
    """Write one split as shards and enter it in `index.json`.

    A killed run leaves no index entry, and the same command writes the same bytes again.

    Args:
        config: What to write, and where.
        progress: Called after every sample.

    Returns:
        What was written, or what was there already.

    Raises:
        InputError: The output holds this split made otherwise, or other classes, or `augment` and
            `split` disagree, or a package or the bucket is missing.
        StorageError: The store refused, or did not answer.
    """
    folder = storage.resolve_uri(config.output)
    recipe = {name: value for name, value in asdict(config).items() if name != "output"}
    index = _read_index(folder) or _start_index(digit_scenes.CLASSES)
    _check_classes(index, digit_scenes.CLASSES, folder)
    found = index["recipes"].get(config.split)
    if found is not None:
        _check_recipe(found, recipe, folder)
        return _report(config, index, was_there=True)
    samples = digit_scenes.make_samples(
        split=config.split, seed=config.seed, count=config.count, augment=config.augment
    )
    samples = _count_samples(samples, config.count, progress)
    shards = pack_shards(
        folder, split=config.split, samples=samples, samples_per_shard=config.samples_per_shard
    )
    index["recipes"][config.split] = recipe
    index["shards"] = sorted([*index["shards"], *shards], key=lambda shard: str(shard["name"]))
    data = json.dumps(index, sort_keys=True, indent=1).encode()
    storage.write_bytes(storage.join_uri(folder, INDEX_NAME), data)
    _warn_of_leftovers(folder, index)
    return _report(config, index, was_there=False)


def pack_shards(
    folder: str, *, split: str, samples: Iterable[Sample], samples_per_shard: int
) -> list[dict[str, Any]]:
    """Write samples to shards in the order in which they come.

    Args:
        folder: Where the shards go, a path or URI.
        split: First part of their names.
        samples: With keys unique in the set.
        samples_per_shard: At least 1.

    Returns:
        One index entry per shard: name, split, samples, bytes, sha256.

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
        name = f"{split}-{len(entries):06d}.tar"
        storage.write_bytes(storage.join_uri(folder, name), data)
        logger.info("wrote %s: %d samples, %d bytes", name, len(group), len(data))
        entries.append(
            {
                "name": name,
                "split": split,
                "samples": len(group),
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


def _count_samples(
    samples: Iterable[Sample], total: int, progress: Progress | None
) -> Iterator[Sample]:
    for done, sample in enumerate(samples, start=1):
        yield sample
        if progress is not None:
            progress(done, total)


def _start_index(classes: Sequence[str]) -> dict[str, Any]:
    return {"version": INDEX_VERSION, "classes": list(classes), "recipes": {}, "shards": []}


def _read_index(folder: str) -> dict[str, Any] | None:
    uri = storage.join_uri(folder, INDEX_NAME)
    try:
        index = json.loads(storage.read_bytes(uri))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise InputError(f"{uri}: is not JSON ({error}); choose another output") from error
    version = index.get("version") if isinstance(index, dict) else None
    if version != INDEX_VERSION:
        raise InputError(
            f"{uri}: version {version}, expected {INDEX_VERSION}; choose another output"
        )
    return dict(index)


def _warn_of_leftovers(folder: str, index: dict[str, Any]) -> None:
    """Name shards that a killed run with more samples left: a glob would read them too."""
    known = {shard["name"] for shard in index["shards"]}
    found = {name for name in storage.list_names(folder) if name.endswith(".tar")}
    if found - known:
        logger.warning(
            "%s: %d shards are not in %s, %s for one; remove them if a reader takes *.tar",
            folder,
            len(found - known),
            INDEX_NAME,
            min(found - known),
        )


def _check_classes(index: dict[str, Any], classes: Sequence[str], folder: str) -> None:
    if index["classes"] != list(classes):
        raise InputError(
            f"{folder}: holds shards of {len(index['classes'])} other classes than the "
            f"{len(classes)} of this source; choose another output"
        )


def _check_recipe(found: dict[str, Any], wanted: dict[str, Any], folder: str) -> None:
    different = [
        f"{name} {found.get(name)!r} there, {value!r} here"
        for name, value in wanted.items()
        if found.get(name) != value
    ]
    if different:
        raise InputError(
            f"{folder}: holds split {wanted['split']!r} made otherwise ({'; '.join(different)}); "
            "choose another output"
        )


def _report(config: ShardsConfig, index: dict[str, Any], *, was_there: bool) -> ShardsReport:
    shards = [shard for shard in index["shards"] if shard["split"] == config.split]
    return ShardsReport(
        output=config.output,
        split=config.split,
        shards=len(shards),
        samples=sum(shard["samples"] for shard in shards),
        bytes=sum(shard["bytes"] for shard in shards),
        was_there=was_there,
    )
