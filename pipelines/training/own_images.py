"""How does a folder of one's own images become what a training reads? As shards beside it."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

from pipelines import storage
from pipelines.errors import InputError
from pipelines.shards.config import ShardsConfig
from pipelines.shards.index import read_index
from pipelines.shards.places import REJECTS_NAME
from pipelines.shards.records import Listing
from pipelines.shards.run import write_shards
from pipelines.shards.sources import ListRecords, class_folders
from pipelines.training.config import TrainConfig
from pipelines.wording import tell_count

logger = logging.getLogger(__name__)

FOLDER: Final = "shards"
"""Below the output."""
_HELD_OUT: Final = "validation"


@dataclass(frozen=True, kw_only=True, slots=True)
class LeftOut:
    """Images that are in no shard, and thus not learnt from."""

    reasons: Mapping[str, int]
    """How many, by the reason."""
    table: str
    """Parquet file that names them."""

    def describe(self) -> str:
        """Write it for people.

        Returns:
            A line.
        """
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in self.reasons.items())
        count = sum(self.reasons.values())
        told = tell_count(count, "image was", "images were")
        return f"{told} left out ({reasons}): {self.table} names {'it' if count == 1 else 'them'}"


def pack_images(config: TrainConfig, output: str) -> TrainConfig:
    """Pack the images of a training that was given no shards.

    The same command finds them packed.

    Args:
        config: What the user said.
        output: Where the training goes, resolved.

    Returns:
        The same with shards, and with some held out to measure on; as it was if it has shards.

    Raises:
        InputError: If there are no images, or of one class alone, or other settings than at the
            first time.
        StorageError: If a store refused, or did not answer.
    """
    if config.images is None:
        return config
    shards = ShardsConfig(
        output=storage.join_uri(output, FOLDER),
        source="class-folders",
        input=config.images,
        split=config.split,
        seed=config.seed,
        held_out=config.held_out_share,
        address=config.address,
    )
    list_records = partial(_list_records, said=config)
    write_shards(shards, list_records=list_records)
    packed = replace(config, shards=shards.output, images=None)
    has_held_out = _pack_held_out(replace(shards, split=_HELD_OUT), list_records)
    left_out = find_left_out(output)
    if left_out is not None:
        logger.warning("--images %s: %s", config.images, left_out.describe())
    if not has_held_out:
        logger.warning("--images %s: none are held out; nothing is measured", config.images)
        return packed
    held_out = replace(config.held_out, validation=shards.output, validation_split=_HELD_OUT)
    return replace(packed, held_out=held_out)


def find_left_out(output: str) -> LeftOut | None:
    """Find out which images were not packed.

    Args:
        output: Where the training goes, resolved.

    Returns:
        How many, and why; None if all were.
    """
    folder = storage.join_uri(output, FOLDER)
    reasons: Counter[str] = Counter()
    for of_split in (read_index(folder) or {}).get("rejects", {}).values():
        reasons.update(of_split)
    if not reasons:
        return None
    return LeftOut(reasons=dict(reasons), table=storage.join_uri(folder, REJECTS_NAME))


def _list_records(shards: ShardsConfig, *, said: TrainConfig) -> Listing:
    """List a folder of images; what is wrong with it is told in the words of a training.

    Raises:
        InputError: If there is nothing to learn from, or nothing to tell apart.
    """
    listing = class_folders.list_records(shards, "--images")
    said.check_classes(listing.classes)
    if not listing.records:
        raise InputError(
            f"--images {said.images}: all of them are held out with --held-out-share "
            f"{said.held_out_share}; give a smaller one, or more images"
        )
    return listing


def _pack_held_out(shards: ShardsConfig, list_records: ListRecords) -> bool:
    """Pack the other split; says whether there is one."""
    index = read_index(shards.output)
    is_packed = index is not None and shards.split in index["recipes"]
    if not is_packed and not class_folders.has_held_out(shards):
        return False
    write_shards(shards, list_records=list_records)
    return True
