"""Updates that tests write, after a first generation, and what they ask for."""

from __future__ import annotations

from pipelines.comparison import Comparison
from pipelines.manifest import cut_slices, open_manifest
from pipelines.storage import ObjectInfo
from pipelines.update import write_update
from tests.pipelines.manifest.written import read_back, read_names, write_first

SLICE_SIZE = 3


def make_info(name, version="1", *, size=10):
    """An image; version "" is one that was listed without size and etag."""
    if not version:
        return ObjectInfo(uri=f"s3://b/{name}")
    return ObjectInfo(uri=f"s3://b/{name}", size=size, etag=f"e{version}", mtime=float(version))


def make_listing(*versions):
    """Images in the order given: `make_listing("a1", "b1")`, name then version."""
    return [make_info(text[0], text[1:]) for text in versions]


def begin(output, listing):
    """Write the first generation of a listing."""
    slices = cut_slices(listing, slice_size=SLICE_SIZE, slice_bytes=2**40)
    return write_first(output, [[entry.info for entry in entries] for entries in slices])


def look_again(output, listing, failed=None, **options):
    """Write the next generation; `listing` None retries failed images alone."""
    settings = {"slice_size": SLICE_SIZE, "slice_bytes": 2**40, "check": lambda: None}
    failed = failed or {}
    slices = sorted(failed) if listing is None else None
    asked = {name: options.pop(name) for name in ("is_list", "doubted") if name in options}
    return write_update(
        Comparison(open_manifest(output), failed, slices, **asked),
        None if listing is None else iter(listing),
        **settings | {"count_skipped": lambda: 0} | options,
    )


def read_todo(output):
    """Names of the images that the newest generation does, and the slices that it lists."""
    opened = open_manifest(output)
    newest = {
        number: entries
        for number, entries in read_back(output).items()
        if opened.place_of(number).generation == opened.summary.generation
    }
    todo = {
        entry.info.uri.rpartition("/")[2]
        for entries in newest.values()
        for entry in entries
        if entry.todo
    }
    return todo, set(newest)


def short_names(output):
    """The images of every slice, as one word a slice."""
    return ["".join(uri[-1] for uri in uris) for _, uris in sorted(read_names(output).items())]


def uris(*letters):
    return {f"s3://b/{letter}" for letter in letters}
