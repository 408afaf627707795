"""What does `index.json` say? Which shards there are, of which classes, and how they were made."""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final

from pipelines import storage
from pipelines.errors import InputError
from pipelines.shards.packing import Receipt, list_shards
from pipelines.shards.places import INDEX_NAME, change
from pipelines.shards.plan import Plan
from pipelines.wording import tell_count

logger = logging.getLogger(__name__)

INDEX_VERSION: Final = 2


def read_index(folder: str) -> dict[str, Any] | None:
    """Read the index of a folder of shards.

    Args:
        folder: A path or URI.

    Returns:
        Version, classes, recipes by split, shards; None if there is no index.

    Raises:
        InputError: It is not an index of this version.
    """
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


def write_index(folder: str, split: str, plan: Plan, receipts: Sequence[Receipt]) -> dict[str, Any]:
    """Enter a finished split.

    Args:
        folder: Of the shards.
        split: Its name.
        plan: How it was made.
        receipts: Of all of its shards.

    Returns:
        The index as it stands now.

    Raises:
        InputError: The folder holds shards of other classes.
    """
    index: dict[str, Any] = {}

    def make() -> bytes:
        index.clear()
        index.update(_enter(folder, split, plan, receipts))
        return json.dumps(index, sort_keys=True, indent=1).encode()

    change(folder, storage.join_uri(folder, INDEX_NAME), make)
    _warn_of_leftovers(folder, index)
    return index


def _enter(folder: str, split: str, plan: Plan, receipts: Sequence[Receipt]) -> dict[str, Any]:
    """The index that stands there, with a split in place of what it said of it."""
    index = read_index(folder) or {"version": INDEX_VERSION, "recipes": {}, "shards": []}
    check_classes(index, plan, folder)
    index["classes"] = list(plan.classes)
    if plan.class_ids != plan.classes:
        index["class_ids"] = list(plan.class_ids)
    if plan.keypoints:
        index["keypoints"] = list(plan.keypoints)
    others = [shard for shard in index["shards"] if shard["split"] != split]
    entries = [_describe(receipt, split) for receipt in receipts if receipt.samples]
    index["shards"] = sorted([*others, *entries], key=lambda shard: str(shard["name"]))
    index["recipes"][split] = dict(plan.recipe)
    index.setdefault("rejects", {})[split] = dict(_count_reasons(receipts))
    return index


def is_whole(index: Mapping[str, Any], split: str, folder: str) -> bool:
    """Say whether all shards of a split stand there with the bytes that the index tells.

    Args:
        index: Of the folder.
        split: Which shards.
        folder: Where they are.

    Returns:
        Whether none is missing or of another size.
    """
    sizes = list_shards(folder)
    shards = [shard for shard in index["shards"] if shard["split"] == split]
    return all(sizes.get(shard["name"]) == shard["bytes"] for shard in shards)


def check_classes(index: Mapping[str, Any], plan: Plan, folder: str) -> None:
    """Refuse to mix classes: a label means one thing in a folder.

    Args:
        index: Of the folder, without `classes` if it is new.
        plan: Of the split that is to join it.
        folder: For the message.

    Raises:
        InputError: They differ.
    """
    found = index.get("classes")
    ids = index.get("class_ids", found)
    if found is not None and (found, ids) != (list(plan.classes), list(plan.class_ids)):
        raise InputError(
            f"{folder}: holds shards of {len(found)} other classes than the "
            f"{len(plan.classes)} of this source; choose another output"
        )


def check_recipe(found: Mapping[str, Any], wanted: Mapping[str, Any], folder: str) -> None:
    """Refuse to finish or repeat a split with other settings.

    Args:
        found: The settings it was begun with.
        wanted: Those of now.
        folder: For the message.

    Raises:
        InputError: They differ.
    """
    different = [
        f"{name} {found.get(name)!r} there, {wanted.get(name)!r} here"
        for name in {**found, **wanted}
        if found.get(name) != wanted.get(name)
    ]
    if different:
        raise InputError(
            f"{folder}: holds split {wanted['split']!r} made otherwise ({'; '.join(different)}); "
            "choose another output"
        )


def _count_reasons(receipts: Sequence[Receipt]) -> Counter[str]:
    return Counter(reject.reason for receipt in receipts for reject in receipt.rejects)


def _describe(receipt: Receipt, split: str) -> dict[str, Any]:
    return {
        "name": receipt.name,
        "split": split,
        "samples": receipt.samples,
        "objects": receipt.objects,
        "bytes": receipt.bytes,
        "sha256": receipt.sha256,
    }


def _warn_of_leftovers(folder: str, index: Mapping[str, Any]) -> None:
    """Name shards that belong to nothing: a glob would read them too."""
    left = list_shards(folder).keys() - {shard["name"] for shard in index["shards"]}
    if left:
        logger.warning(
            "%s: %s not in %s, %s for one; remove what is left over if a reader takes *.tar",
            folder,
            tell_count(len(left), "shard is", "shards are"),
            INDEX_NAME,
            min(left),
        )
