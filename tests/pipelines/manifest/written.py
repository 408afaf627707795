"""Manifests that tests write and read back, and writes that are watched or made to fail."""

from __future__ import annotations

import re

from pipelines import manifest, storage
from pipelines.manifest import ManifestEntry, ManifestSummary, iter_slices, open_manifest
from pipelines.storage import ObjectInfo


def make_infos(*sizes):
    return [
        ObjectInfo(uri=f"s3://b/{n:05d}.jpg", size=size, etag=f"e{n}", mtime=n + 0.25)
        for n, size in enumerate(sizes)
    ]


def make_slices(*names):
    """Slices of images by name, without size and etag: `make_slices("ab", "c")`."""
    return [[ObjectInfo(uri=name) for name in of_slice] for of_slice in names]


def write_first(output, slices, *, skipped=0, check=lambda: None):
    """Write the first generation, as a run's first command does."""
    entries = ([ManifestEntry(info) for info in infos] for infos in slices)
    return write_numbered(output, 0, enumerate(entries), skipped=skipped, check=check)


def write_later(output, generation, slices, *, todo=(), slices_of_run=None, check=lambda: None):
    """Write a later generation: images by slice, of which some are to be done."""
    entries = (
        (number, [ManifestEntry(info, todo=info.uri in todo) for info in infos])
        for number, infos in slices
    )
    return write_numbered(output, generation, entries, slices_of_run=slices_of_run, check=check)


def write_numbered(output, generation, slices, *, skipped=0, slices_of_run=None, check):
    """Write a generation whose summary counts what it lists."""

    def sum_up(counts):
        return ManifestSummary(
            generation=generation,
            slices=slices_of_run or counts.slices,
            images=counts.images,
            size_bytes=counts.size_bytes,
            skipped=skipped,
            touched=counts.touched,
            todo=counts.todo,
            parts=tuple(counts.parts),
        )

    return manifest.write_generation(output, generation, slices, sum_up=sum_up, check=check)


def read_back(output):
    """Everything that a manifest says: entries by slice."""
    opened = open_manifest(output)
    return {place.number: entries for place, entries in iter_slices(opened)} if opened else None


def read_names(output):
    """The images of every slice."""
    return {n: [entry.info.uri for entry in entries] for n, entries in read_back(output).items()}


def part_uri(output, part, *, generation=0):
    """Where the part of a number stands; it is named by its content, too."""
    folder = manifest.generation_folder(output, generation)
    start = f"part-{part:05d}-"
    (name,) = (name for name in storage.list_names(folder) if name.startswith(start))
    return storage.join_uri(folder, name)


def without_digest(name):
    """The name of a part as it were without its content."""
    return re.sub(r"^(part-\d{5})-[0-9a-f]{16}", r"\1", name)


class WatchedWrites:
    """Every write passes here first; it may be held back or made to fail."""

    def __init__(self, monkeypatch, before=lambda uri, data: None, *, hold_back=False):
        self.uris, self.sizes, self.options = [], [], []
        for name in ("write_bytes", "create_bytes"):
            monkeypatch.setattr(
                storage, name, self._watch(getattr(storage, name), before, hold_back)
            )

    @property
    def names(self):
        """Without folders and digests."""
        return [without_digest(uri.rpartition("/")[2]) for uri in self.uris]

    def _watch(self, write, before, hold_back):
        def watched(uri, data, **options):
            before(uri, data)
            self.uris.append(uri)
            self.sizes.append(len(data))
            self.options.append(options)
            return True if hold_back else write(uri, data, **options)

        return watched


class CountedReads:
    """Counts what is asked of a store: listings, objects opened, objects read whole."""

    def __init__(self, monkeypatch):
        self.listed, self.opened, self.read = [], [], []
        for name, asked in (
            ("list_names", self.listed),
            ("iter_objects", self.listed),
            ("open_range_reader", self.opened),
            ("read_bytes", self.read),
        ):
            monkeypatch.setattr(storage, name, self._count(getattr(storage, name), asked))

    @staticmethod
    def _count(function, asked):
        def counted(uri, **options):
            asked.append(uri)
            return function(uri, **options)

        return counted
