"""How is one shard packed, and how is it known to be? The tar first, then its receipt.

A plain function of the plan's shard and what it is told; where it runs is not said here.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field

from pipelines import storage
from pipelines.errors import ImageError, StorageError
from pipelines.shards.config import SourceName
from pipelines.shards.places import (
    RECEIPT_START,
    packing_folder,
    put,
    receipt_uri,
    shard_name,
)
from pipelines.shards.plan import Plan, read_records
from pipelines.shards.rejects import Reject
from pipelines.shards.samples import Sample
from pipelines.shards.sources import SOURCES
from pipelines.shards.writer import pack_tar
from pipelines.storage import ObjectInfo
from pipelines.wording import tell_count

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class PackingConfig:
    """What packing a shard is told; small, for it travels with every task."""

    output: str
    """Folder of the shards."""

    split: str
    source: SourceName
    labels: Mapping[str, int]
    """Label of each of the source's words for a class."""

    max_side: int | None
    """Longest side of an image in pixels; None to keep all bytes."""

    plan: str
    """Its digest."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Receipt:
    """What became of a shard's records."""

    shard: int
    name: str
    samples: int
    """If none, there is no tar."""

    objects: int
    """In these samples: none of them can teach where objects are if there are none."""

    bytes: int
    sha256: str
    records: int
    """Of the plan, packed or left out."""

    rejects: tuple[Reject, ...]
    plan: str
    """Digest of the plan that it was packed for."""


def pack_shard(number: int, config: PackingConfig) -> Receipt:
    """Pack one shard of a plan: the tar first, then its receipt.

    Args:
        number: Of the shard.
        config: What is packed, and where to.

    Returns:
        What became of its records.

    Raises:
        StorageError: A store refused, an image too, or did not answer.
    """
    records = read_records(config.output, config.split, config.plan, number)
    made = SOURCES[config.source].make_samples(records, config.labels, config.max_side)
    contents = _Contents()
    data = pack_tar(contents.take(made))
    receipt = Receipt(
        shard=number,
        name=shard_name(config.split, number),
        samples=contents.samples,
        objects=contents.objects,
        bytes=len(data),
        sha256=hashlib.sha256(data).hexdigest(),
        records=len(records),
        rejects=tuple(contents.rejects),
        plan=config.plan,
    )
    if receipt.samples:
        put(config.output, storage.join_uri(config.output, receipt.name), data)
    text = json.dumps(asdict(receipt), sort_keys=True, indent=1)
    put(config.output, receipt_uri(config.output, config.split, number), text.encode())
    logger.info(
        "packed %s: %s, %s, %s",
        receipt.name,
        tell_count(receipt.samples, "sample"),
        tell_count(receipt.bytes, "byte"),
        tell_count(len(receipt.rejects), "reject"),
    )
    return receipt


def find_packed(folder: str, split: str, plan: Plan) -> dict[int, Receipt]:
    """Find the shards that need no packing: a receipt of this plan, and the tar that it tells of.

    Args:
        folder: Of the shards.
        split: Whose.
        plan: What is to be packed.

    Returns:
        Receipts by the number of the shard.

    Raises:
        StorageError: The store refused, or a receipt is damaged.
    """
    receipts = {receipt.shard: receipt for receipt in _read_receipts(folder, split)}
    sizes = list_shards(folder)
    return {
        number: receipt
        for number, receipt in sorted(receipts.items())
        if receipt.plan == plan.digest
        and (not receipt.samples or sizes.get(receipt.name) == receipt.bytes)
    }


def list_shards(folder: str) -> dict[str, int]:
    """Find the tars of a folder.

    Args:
        folder: It need not exist.

    Returns:
        Their names and sizes in bytes.
    """
    if not storage.list_names(folder):
        return {}
    found = {storage.relative_to(one.uri, folder): one.size for one in storage.iter_objects(folder)}
    return {name: size for name, size in found.items() if name.endswith(".tar")}


def decode_receipt(data: bytes) -> Receipt:
    """Read a receipt: the inverse of what `pack_shard` writes.

    Args:
        data: JSON.

    Returns:
        The receipt.

    Raises:
        StorageError: It is none.
    """
    try:
        values = json.loads(data)
        rejects = tuple(Reject(**one) for one in values["rejects"])
        return Receipt(**{**values, "rejects": rejects})
    except (ValueError, KeyError, TypeError) as error:
        raise StorageError(f"not a receipt of this program ({error}); remove it") from error


def _read_receipts(folder: str, split: str) -> Iterator[Receipt]:
    place = packing_folder(folder, split)
    names = sorted(name for name in storage.list_names(place) if name.startswith(RECEIPT_START))
    infos = [ObjectInfo(uri=storage.join_uri(place, name)) for name in names]
    for info, answer in zip(infos, storage.read_objects(infos), strict=True):
        if isinstance(answer, ImageError):
            raise StorageError(f"{info.uri}: {answer.message}")
        try:
            yield decode_receipt(answer.data)
        except StorageError as error:
            raise StorageError(f"{info.uri}: {error}") from error


@dataclass(kw_only=True, slots=True)
class _Contents:
    """What passed on the way into a tar, and what did not."""

    samples: int = 0
    objects: int = 0
    rejects: list[Reject] = field(default_factory=list)

    def take(self, made: Iterable[Sample | Reject]) -> Iterator[Sample]:
        for one in made:
            if isinstance(one, Reject):
                self.rejects.append(one)
                continue
            self.samples += 1
            self.objects += len(one.metadata.objects)
            yield one
