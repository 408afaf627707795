"""Packing a data set here, and reading the result as a stranger would."""

from __future__ import annotations

import gc
import hashlib
import json
import warnings
from dataclasses import dataclass

import pyarrow.parquet as pq
import webdataset

from pipelines.shards.config import ShardsConfig
from pipelines.shards.records import Listing
from pipelines.shards.rejects import Reject
from pipelines.shards.run import write_shards
from pipelines.shards.samples import Sample, decode_metadata
from pipelines.shards.sources import SOURCES


def pack(source, data, output, **settings):
    settings = {"split": "train", "workers": 1, **settings}
    config = ShardsConfig(source=source, input=str(data), output=str(output), **settings)
    return write_shards(config)


def read_with_webdataset(folder):
    with warnings.catch_warnings():
        # webdataset leaves the files it opened to the garbage collector.
        warnings.simplefilter("ignore", ResourceWarning)
        shards = sorted(str(path) for path in folder.glob("*.tar"))
        records = list(webdataset.WebDataset(shards, shardshuffle=False))
        gc.collect()
    return records


def read_metadata(folder):
    """Key -> what its JSON says."""
    return {
        record["__key__"]: decode_metadata(record["json"])
        for record in read_with_webdataset(folder)
    }


def read_rejects(folder):
    """Name -> reason, of all splits."""
    rows = pq.read_table(folder / "rejects.parquet").to_pylist()
    return {row["name"]: row["reason"] for row in rows}


def read_index(folder):
    return json.loads((folder / "index.json").read_bytes())


def digest_shards(folder):
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.glob("*.tar")
    }


@dataclass(frozen=True)
class Read:
    """What a source makes of a split, before anything is packed."""

    listing: Listing
    samples: list[Sample]
    rejects: dict[str, str]

    @property
    def found(self):
        """Key -> what its JSON will say."""
        return {sample.key: sample.metadata for sample in self.samples}


def read(source, data, **settings):
    config = ShardsConfig(source=source, input=str(data), output="unused", **settings)
    listing = SOURCES[source].list_records(config)
    made = list(SOURCES[source].make_samples(listing.records, listing.labels, config.max_side))
    return Read(
        listing=listing,
        samples=[one for one in made if isinstance(one, Sample)],
        rejects={one.name: one.reason for one in made if isinstance(one, Reject)},
    )
