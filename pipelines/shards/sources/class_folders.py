"""What is in a tree with one folder a class?

INPUT/CLASS/...jpg          `--split` names the shards
INPUT/SPLIT/CLASS/...jpg    where that is there; the classes are those of all splits

Without folders of splits a part of the images may be held out: split `validation` gets those.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Final

from pipelines import storage
from pipelines.errors import InputError
from pipelines.shards.config import ShardsConfig
from pipelines.shards.keys import make_keys
from pipelines.shards.records import Annotation, Listing, Record
from pipelines.shards.rejects import AnnotationError, AnnotationReason
from pipelines.shards.sources.layout import list_images, open_input
from pipelines.wording import tell_count

_HELD_OUT_SPLIT: Final = "validation"


def list_records(config: ShardsConfig, flag: str = "--input") -> Listing:
    """List the images of a tree; images in no folder will be rejected as unlabelled.

    Args:
        config: Where it is.
        flag: By which flag the user said so, for messages.

    Returns:
        Records with the label of their folder; classes are sorted by name.

    Raises:
        InputError: There is no such tree or split, or no image of it is in a folder.
    """
    root = open_input(config.input, flag)
    images = dict(list_images(root))
    _refuse_flat(f"{flag} {root}", root, list(images))
    start = _find_start(root, list(images), config.split)
    depth = start.count("/")
    classes = sorted({parts[depth] for name in images if len(parts := name.split("/")) > depth + 1})
    labels = {name: label for label, name in enumerate(classes)}
    names = [name.removeprefix(start) for name in images if name.startswith(start)]
    if config.held_out and not start:
        is_wanted = config.split == _HELD_OUT_SPLIT
        names = [name for name in names if _is_held_out(name, config.held_out) == is_wanted]
    return Listing(
        classes=tuple(classes),
        class_ids=tuple(classes),
        records=[
            Record(
                key=key,
                name=name,
                image=images[start + name],
                label=labels[name.split("/")[0]] if "/" in name else None,
            )
            for key, name in zip(make_keys(names), names, strict=True)
        ],
    )


def has_held_out(config: ShardsConfig) -> bool:
    """Find out whether a split has images that others have not.

    Args:
        config: Which split of which tree.

    Returns:
        Whether it has a folder, or a share, with images in it.
    """
    root = open_input(config.input)
    names = list(dict(list_images(root)))
    if any(name.count("/") > 1 and name.startswith(f"{config.split}/") for name in names):
        return True
    has_folders = any(name.count("/") == 1 for name in names)
    return has_folders and any(_is_held_out(name, config.held_out) for name in names)


def read_annotation(
    record: Record, _files: Sequence[bytes], _labels: Mapping[str, int]
) -> Annotation:
    """Take the label of the folder.

    Args:
        record: Of the image.

    Returns:
        The label.

    Raises:
        AnnotationError: The image lies in no folder.
    """
    if record.label is None:
        raise AnnotationError(AnnotationReason.UNLABELLED, "in no folder of a class")
    return Annotation(label=record.label)


def _is_held_out(name: str, share: float) -> bool:
    """Drawn from the name: more images later move none from one split to the other."""
    drawn = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8])
    return drawn < share * 2**64


def _refuse_flat(place: str, root: str, names: Sequence[str]) -> None:
    if not any("/" in name for name in names):
        found = tell_count(len(names), "image") if names else "no image"
        raise InputError(
            f"{place}: received {found} and no folder of a class, expected "
            f"{storage.join_uri(root, 'CLASS/image.jpg')}; put the images of each class into a "
            "folder of its own, which has the name of the class"
        )


# What the names of a split begin with: its folder if it holds folders, or nothing.
def _find_start(root: str, names: Sequence[str], split: str) -> str:
    start = f"{split}/"
    if any(name.startswith(start) and "/" in name.removeprefix(start) for name in names):
        return start
    if any(name.count("/") == 1 for name in names):
        return ""
    found = ", ".join(sorted({name.split("/")[0] for name in names if "/" in name})) or "none"
    raise InputError(f"--split: no folder {split} with folders of images in {root}, found: {found}")
