"""The data sets that can be packed: one module a source, which lists records and reads them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Final

from pipelines.shards.config import ShardsConfig, SourceName
from pipelines.shards.reading import ReadAnnotation, read_samples
from pipelines.shards.records import Listing, Record
from pipelines.shards.rejects import Reject
from pipelines.shards.samples import Sample
from pipelines.shards.sources import (
    class_folders,
    coco,
    digit_scenes,
    imagenet_cls_loc,
    imagenet_det,
    voc,
)

ListRecords = Callable[[ShardsConfig], Listing]
"""Lists a split; raises InputError if it is not there."""

MakeSamples = Callable[[Sequence[Record], Mapping[str, int], int | None], Iterator[Sample | Reject]]
"""Makes samples of records, the labels of classes, and the longest side of an image in pixels."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """What is to be known of a data set."""

    list_records: ListRecords
    """Called once, by the driver."""

    make_samples: MakeSamples
    """Called by who packs a shard."""


def _read_files(list_records: ListRecords, read_annotation: ReadAnnotation) -> Source:
    """A source whose images are files."""
    return Source(
        list_records=list_records,
        make_samples=partial(read_samples, read_annotation=read_annotation),
    )


SOURCES: Final[Mapping[SourceName, Source]] = MappingProxyType(
    {
        "digit-scenes": Source(
            list_records=digit_scenes.list_records, make_samples=digit_scenes.make_samples
        ),
        "class-folders": _read_files(class_folders.list_records, class_folders.read_annotation),
        "ilsvrc-cls-loc": _read_files(
            imagenet_cls_loc.list_records, imagenet_cls_loc.read_annotation
        ),
        "ilsvrc-det": _read_files(imagenet_det.list_records, imagenet_det.read_annotation),
        "voc": _read_files(voc.list_records, voc.read_annotation),
        "coco": _read_files(coco.list_records, coco.read_annotation),
    }
)
