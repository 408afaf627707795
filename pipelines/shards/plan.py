"""Which sample goes into which shard? Decided and written down before any shard is packed.

The records are one Parquet file with a row group a shard. plan.json is written after it: without it
the plan is made anew.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines import storage
from pipelines.errors import StorageError
from pipelines.shards.config import ShardsConfig
from pipelines.shards.places import PLAN_NAME, packing_folder, put, records_name
from pipelines.shards.records import Listing, Record
from pipelines.storage import ObjectInfo

_FIELDS: Final[list[pa.Field[Any]]] = [
    pa.field("key", pa.string(), nullable=False),
    pa.field("name", pa.string(), nullable=False),
    pa.field("image", pa.string()),
    pa.field("size", pa.int64(), nullable=False),
    pa.field("etag", pa.string(), nullable=False),
    pa.field("label", pa.int32()),
    pa.field("beside", pa.list_(pa.string()), nullable=False),
    pa.field("note", pa.string()),
]
_SCHEMA: Final = pa.schema(_FIELDS)


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """What is to be packed; small, whatever the number of samples."""

    recipe: Mapping[str, Any]
    """The settings that it was made with."""

    classes: tuple[str, ...]
    class_ids: tuple[str, ...]
    keypoints: tuple[str, ...]
    shards: int
    records: int
    digest: str
    """SHA-256 of the written records: a receipt names the plan that it was packed for."""


def make_plan(
    folder: str, config: ShardsConfig, recipe: Mapping[str, Any], listing: Listing
) -> Plan:
    """Order the records of a split, cut them into shards, and write that down.

    Args:
        folder: Of the shards.
        config: Order and cut.
        recipe: What a later invocation must agree with.
        listing: The records.

    Returns:
        The plan.

    Raises:
        StorageError: The store refused, or did not answer.
    """
    records = shuffle(listing.records, config.seed) if config.is_shuffled else listing.records
    groups = list(cut(records, samples=config.samples_per_shard, size_bytes=config.shard_bytes))
    data = _encode(groups)
    plan = Plan(
        recipe=recipe,
        classes=listing.classes,
        class_ids=listing.class_ids,
        keypoints=listing.keypoints,
        shards=len(groups),
        records=len(records),
        digest=hashlib.sha256(data).hexdigest(),
    )
    put(folder, _uri(folder, config.split, records_name(plan.digest)), data)
    text = json.dumps(asdict(plan), sort_keys=True, indent=1)
    put(folder, _uri(folder, config.split, PLAN_NAME), text.encode())
    return plan


def open_plan(folder: str, split: str) -> Plan | None:
    """Read the plan that an earlier invocation made.

    Args:
        folder: Of the shards.
        split: Whose.

    Returns:
        The plan, or None if there is no finished one.

    Raises:
        StorageError: It is damaged.
    """
    uri = _uri(folder, split, PLAN_NAME)
    try:
        values = json.loads(storage.read_bytes(uri))
        names = {name: tuple(values[name]) for name in ("classes", "class_ids", "keypoints")}
        return Plan(**{**values, **names})
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise StorageError(f"{uri}: not a plan of this program ({error}); remove it") from error


def read_records(folder: str, split: str, digest: str, shard: int) -> list[Record]:
    """Read what goes into one shard.

    Args:
        folder: Of the shards.
        split: Whose.
        digest: Of the plan.
        shard: Its number.

    Returns:
        The records, in the order of their samples.

    Raises:
        StorageError: The plan is missing or damaged.
    """
    uri = _uri(folder, split, records_name(digest))
    try:
        with storage.open_range_reader(uri) as file:
            table = pq.ParquetFile(file).read_row_group(shard)
    except FileNotFoundError:
        raise StorageError(f"{uri}: missing; something deleted a part of the plan") from None
    except (pa.ArrowException, OSError) as error:
        raise StorageError(f"{uri}: not a plan of this program ({error})") from error
    return [_decode_record(row) for row in table.to_pylist()]


def shuffle(records: Sequence[Record], seed: int) -> list[Record]:
    """Order records at random, by nothing but their keys and the seed.

    Args:
        records: In any order.
        seed: At least 0.

    Returns:
        The same records: by the SHA-256 of seed and key, equal on every machine for ever.
    """

    def draw(record: Record) -> bytes:
        return hashlib.sha256(f"{seed}/{record.key}".encode()).digest()

    return sorted(records, key=draw)


def cut(records: Sequence[Record], *, samples: int, size_bytes: int) -> Iterator[list[Record]]:
    """Cut records into the contents of shards.

    Args:
        records: In their order.
        samples: Most records in a shard, at least 1.
        size_bytes: Most bytes of encoded images in a shard, as listed; a larger image is alone.

    Yields:
        At least one record each.
    """
    group: list[Record] = []
    total = 0
    for record in records:
        size = 0 if record.image is None else record.image.size
        if group and (len(group) == samples or total + size > size_bytes):
            yield group
            group, total = [], 0
        group.append(record)
        total += size
    if group:
        yield group


def _uri(folder: str, split: str, name: str) -> str:
    return storage.join_uri(packing_folder(folder, split), name)


def _encode(groups: Sequence[Sequence[Record]]) -> bytes:
    sink = pa.BufferOutputStream()
    with pq.ParquetWriter(sink, _SCHEMA, compression="zstd") as writer:
        for group in groups:
            rows = [_encode_record(record) for record in group]
            writer.write_table(pa.Table.from_pylist(rows, _SCHEMA), row_group_size=len(rows))
    return bytes(sink.getvalue().to_pybytes())


def _encode_record(record: Record) -> dict[str, Any]:
    image = record.image
    return {
        "key": record.key,
        "name": record.name,
        "image": None if image is None else image.uri,
        "size": 0 if image is None else image.size,
        "etag": "" if image is None else image.etag,
        "label": record.label,
        "beside": list(record.beside),
        "note": record.note,
    }


def _decode_record(row: dict[str, Any]) -> Record:
    is_made = row["image"] is None
    return Record(
        key=row["key"],
        name=row["name"],
        image=None if is_made else ObjectInfo(uri=row["image"], size=row["size"], etag=row["etag"]),
        label=row["label"],
        beside=tuple(row["beside"]),
        note=row["note"],
    )
