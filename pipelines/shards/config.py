"""What does a user say of a data set that is to become shards?"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final, Literal

from pipelines.errors import InputError
from pipelines.shards import digit_scenes

SourceName = Literal["digit-scenes", "class-folders", "ilsvrc-cls-loc", "ilsvrc-det", "voc", "coco"]
ImageSet = Literal["Main", "Segmentation", "Action", "Layout"]

DEFAULT_SCENES: Final = 1000
_SPLIT_PATTERN: Final = re.compile(r"[A-Za-z0-9_-]+")


@dataclass(frozen=True, kw_only=True, slots=True)
class ShardsConfig:
    """Which samples to pack, and where."""

    output: str
    """Folder, local or in a bucket. It may hold other splits of the same classes. The same command
    goes on where it stood."""

    source: SourceName = "digit-scenes"
    """What the data set is, by the layout of its files; digit scenes are made here."""

    input: str | None = None
    """Folder of the data set as it was unpacked, local or in a bucket: for voc VOCdevkit or one of
    its years, for coco what holds annotations/, for class-folders what holds the folders of classes
    or, one a split, what holds those."""

    split: str = "train"
    """Such as train, val (ILSVRC, VOC), trainval (VOC), train2017 (COCO), validation (digit
    scenes). Splits that begin with `train` are packed in a shuffled order."""

    image_set: ImageSet = "Main"
    """Folder of lists that the split is taken from (voc)."""

    seed: int = digit_scenes.TEST_SEED
    """Of the shuffled order, and of the digit scenes, whose published test set is split `test`, 500
    scenes, the default seed."""

    samples_per_shard: int = 1000
    """Samples in each shard at most."""

    shard_bytes: int = 512 * 2**20
    """Encoded images in each shard at most, in bytes as listed; a packing task holds about three
    times as much in memory. Digit scenes are cut by count alone."""

    max_side: int | None = None
    """Shrink images whose longer side exceeds this many pixels, as JPEG; else bytes are kept."""

    count: int | None = None
    """Scenes to make (digit-scenes); 1000 if not given."""

    augment: float = 0.0
    """Part of the scenes whose background, handwriting and image quality vary beyond the frozen
    rules, 0 to 1 (digit-scenes, split `train`)."""

    held_out: float = 0.0
    """Part of the images that split `validation` gets and others do not, 0 to below 1: by their
    names, so that both agree; where folders of classes are in no folders of splits
    (class-folders)."""

    workers: int | None = None
    """Packing tasks at a time, one CPU each: as many as the cluster has if not given; 1 packs in
    this process, without Ray, as it does a single shard."""

    address: str | None = None
    """Of a Ray cluster; the job's own or RAY_ADDRESS if not given, else one is started here."""

    def __post_init__(self) -> None:
        for name, least in _LEAST.items():
            value = getattr(self, name)
            if value is not None and value < least:
                flag = name.replace("_", "-")
                raise InputError(f"--{flag}: received {value}, expected at least {least}")
        if _SPLIT_PATTERN.fullmatch(self.split) is None:
            raise InputError(
                f"--split: received {self.split!r}, expected ASCII letters, digits, '_' and '-'"
            )
        if self.source == "digit-scenes":
            self._check_scenes()
        elif self.input is None:
            raise InputError("--input: received none, expected the folder of the data set")
        if not 0 <= self.held_out < 1:
            raise InputError(f"--held-out: received {self.held_out}, expected 0 to below 1")
        self._check_unused()

    def _check_scenes(self) -> None:
        if self.split not in digit_scenes.SOURCES:
            known = ", ".join(digit_scenes.SOURCES)
            raise InputError(f"--split: received {self.split!r}, expected one of {known}")
        if not 0 <= self.augment <= 1:
            raise InputError(f"--augment: received {self.augment}, expected from 0 to 1")
        if self.augment and self.split != "train":
            raise InputError(
                f"--augment: received {self.augment} for split {self.split!r}, expected 'train'; "
                "leave it out: validation and test scenes keep to the frozen rules"
            )

    # Refuses flags that say nothing here, so that none is quietly ignored.
    def _check_unused(self) -> None:
        is_made = self.source == "digit-scenes"
        wrong = {
            "input": is_made and self.input is not None,
            "max-side": is_made and self.max_side is not None,
            "count": not is_made and self.count is not None,
            "augment": not is_made and self.augment != 0,
            "held-out": self.source != "class-folders" and self.held_out != 0,
            "image-set": self.source != "voc" and self.image_set != "Main",
        }
        for flag, is_wrong in wrong.items():
            if is_wrong:
                raise InputError(f"--{flag}: says nothing for --source {self.source}; leave it out")

    @property
    def scenes(self) -> int:
        """Digit scenes to make."""
        return DEFAULT_SCENES if self.count is None else self.count

    @property
    def is_shuffled(self) -> bool:
        """Whether the order in the shards is random; that of digit scenes is so already."""
        return self.split.startswith("train") and self.source != "digit-scenes"

    def describe_recipe(self) -> dict[str, Any]:
        """Name every setting that decides the bytes of the shards.

        Returns:
            Flags and their values, fit for JSON.
        """
        recipe: dict[str, Any] = {
            "source": self.source,
            "split": self.split,
            "samples_per_shard": self.samples_per_shard,
        }
        if self.source == "digit-scenes":
            return recipe | {"seed": self.seed, "count": self.scenes, "augment": self.augment}
        recipe |= {
            "input": self.input,
            "shard_bytes": self.shard_bytes,
            "max_side": self.max_side,
        }
        if self.source == "voc":
            recipe["image_set"] = self.image_set
        if self.held_out:
            recipe["held_out"] = self.held_out
        return recipe | {"seed": self.seed} if self.is_shuffled else recipe


_LEAST: Final = {
    "seed": 0,
    "samples_per_shard": 1,
    "shard_bytes": 1,
    "max_side": 1,
    "count": 1,
    "workers": 1,
}
