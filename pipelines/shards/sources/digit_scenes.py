"""Which digit scenes are to be made? What they are is said in `pipelines.shards.digit_scenes`."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence

from pipelines.errors import InputError
from pipelines.shards import digit_scenes
from pipelines.shards.config import ShardsConfig
from pipelines.shards.records import Listing, Record
from pipelines.shards.rejects import Reject
from pipelines.shards.samples import Sample


def list_records(config: ShardsConfig) -> Listing:
    """List the first scenes of a set, in the order of their index, which is random already.

    Args:
        config: Split, seed, how many, and which part of them is augmented.

    Returns:
        Records whose note says what to make.

    Raises:
        InputError: There is no such split.
    """
    if config.split not in digit_scenes.SOURCES:
        raise InputError(f"--split: digit scenes have no split {config.split!r}")
    notes = (
        {
            "split": config.split,
            "seed": config.seed,
            "index": index,
            "augment": digit_scenes.is_augmented(index, config.augment),
        }
        for index in range(config.scenes)
    )
    return Listing(
        classes=digit_scenes.CLASSES,
        class_ids=digit_scenes.CLASSES,
        records=[
            Record(
                key=f"{config.split}-{index:06d}",
                name=f"scene {index}",
                note=json.dumps(note),
            )
            for index, note in enumerate(notes)
        ],
    )


def make_samples(
    records: Sequence[Record], _labels: Mapping[str, int], _max_side: int | None
) -> Iterator[Sample | Reject]:
    """Make scenes.

    Args:
        records: From `list_records`.

    Yields:
        A sample for each.
    """
    for record in records:
        yield digit_scenes.make_sample(**json.loads(record.note or "{}"))
