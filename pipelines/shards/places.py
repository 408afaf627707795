"""Where does everything lie in the output?

OUTPUT/SPLIT-000000.tar                     the shards
OUTPUT/index.json, rejects.parquet          of all splits
OUTPUT/packing/SPLIT/plan.json              and the records-DIGEST.parquet that it names, written
                                            before any shard
OUTPUT/packing/SPLIT/receipt-000000.json    written after its shard
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from pipelines import storage
from pipelines.errors import StorageError
from pipelines.storage import OvertakenError

INDEX_NAME: Final = "index.json"
REJECTS_NAME: Final = "rejects.parquet"
PLAN_NAME: Final = "plan.json"
RECEIPT_START: Final = "receipt-"
_NAMING_DIGITS: Final = 16
_CHANGES_TRIED: Final = 20
"""Assumed: more splits than are ever packed at once."""


def records_name(digest: str) -> str:
    """Name the file of a plan's records by their digest.

    Two commands that plan at the same moment, while the input changes, write two.

    Args:
        digest: Of the file, in hexadecimal digits.

    Returns:
        The name.
    """
    return f"records-{digest[:_NAMING_DIGITS]}.parquet"


def packing_folder(folder: str, split: str) -> str:
    """Name the folder that holds the plan of a split, and receipts for its shards.

    Args:
        folder: Of the shards.
        split: Whose.

    Returns:
        A path or URI.
    """
    return storage.join_uri(folder, "packing", split)


def shard_name(split: str, number: int) -> str:
    """Name a shard.

    Args:
        split: First part of the name.
        number: From 0.

    Returns:
        Such as `train-000000.tar`.
    """
    return f"{split}-{number:06d}.tar"


def receipt_uri(folder: str, split: str, number: int) -> str:
    """Name the receipt of a shard.

    Args:
        folder: Of the shards.
        split: Whose.
        number: From 0.

    Returns:
        A path or URI.
    """
    return storage.join_uri(packing_folder(folder, split), f"{RECEIPT_START}{number:06d}.json")


def put(folder: str, uri: str, data: bytes) -> None:
    """Write an object of the output, whole or not at all.

    Args:
        folder: Of the shards; what a killed process leaves half written lies in its `.tmp`.
        uri: Of the object.
        data: Its bytes.

    Raises:
        InputError: The bucket does not exist.
        StorageError: The store refused, or did not answer.
    """
    storage.write_bytes(uri, data, scratch=storage.join_uri(folder, ".tmp"))


def change(folder: str, uri: str, make: Callable[[], bytes]) -> None:
    """Change an object that speaks of all splits, and lose nothing that another process puts there.

    Args:
        folder: Of the shards.
        uri: Of the object; it need not be there yet.
        make: Reads what stands there and makes the bytes to be put over it; called again if
            something else stands there by then.

    Raises:
        InputError: The bucket does not exist.
        StorageError: The store refused or did not answer, or others put there without end.
    """
    for _ in range(_CHANGES_TRIED):
        seen = storage.look(uri)
        data = make()
        try:
            storage.write_bytes(uri, data, scratch=storage.join_uri(folder, ".tmp"), seen=seen)
        except OvertakenError:
            continue
        return
    raise StorageError(f"{uri}: others change it without end; run the same command again")
