"""How does a folder of one's own images become what a training reads? As shards beside it."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Final

from pipelines import storage
from pipelines.shards.config import ShardsConfig
from pipelines.shards.index import read_index
from pipelines.shards.run import write_shards
from pipelines.shards.sources import class_folders
from pipelines.training.config import TrainConfig

logger = logging.getLogger(__name__)

FOLDER: Final = "shards"
"""Below the output."""
_HELD_OUT: Final = "validation"


def pack_images(config: TrainConfig, output: str) -> TrainConfig:
    """Pack the images of a training that was given no shards.

    The same command finds them packed.

    Args:
        config: What the user said.
        output: Where the training goes, resolved.

    Returns:
        The same with shards, and with some held out to measure on; as it was if it has shards.

    Raises:
        InputError: If there are no images, or other ones than at the first time.
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
    write_shards(shards)
    packed = replace(config, shards=shards.output, images=None)
    if not _pack_held_out(replace(shards, split=_HELD_OUT)):
        logger.warning("--images %s: none are held out; nothing is measured", config.images)
        return packed
    held_out = replace(config.held_out, validation=shards.output, validation_split=_HELD_OUT)
    return replace(packed, held_out=held_out)


def _pack_held_out(shards: ShardsConfig) -> bool:
    """Pack the other split; says whether there is one."""
    index = read_index(shards.output)
    is_packed = index is not None and shards.split in index["recipes"]
    if not is_packed and not class_folders.has_held_out(shards):
        return False
    write_shards(shards)
    return True
