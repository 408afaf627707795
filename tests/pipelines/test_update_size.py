"""What does an update of a large run cost?"""

from __future__ import annotations

import tracemalloc

from pipelines import lookup
from pipelines.comparison import Changes, Comparison
from pipelines.manifest import cut_slices, open_manifest, read_summary
from pipelines.storage import ObjectInfo
from tests.pipelines.manifest.updates import begin, look_again
from tests.pipelines.manifest.written import CountedReads, WatchedWrites, write_first


def write_large(output, count):
    """The first generation of a large listing."""
    slices = cut_slices(list_many(count), slice_size=128, slice_bytes=2**40)
    return write_first(output, ([entry.info for entry in of] for of in slices))


def list_many(count, *, step=0, added=0):
    """A listing of which one image in `step` has changed and another has gone, and some are new."""
    for number in range(count + added):
        if step and number % step == 1:
            continue
        version = "b" if step and number % step == 0 and number < count else "a"
        yield ObjectInfo(
            uri=f"s3://photographs/2026/{number:09d}.jpg",
            size=300_000,
            etag=f"{number:031x}{version}",
            mtime=1.7e9 + number,
        )


def test_a_hundred_thousand_images_are_updated_in_seconds(tmp_path, monkeypatch):
    output, count, step = str(tmp_path), 100_000, 1_000
    write_large(output, count)
    watched, counted = WatchedWrites(monkeypatch), CountedReads(monkeypatch)
    changes = look_again(output, list_many(count, step=step, added=999), slice_size=128)
    assert changes == Changes(added=998, changed=100, vanished=100)
    summary = read_summary(output)
    # The changed and the gone one stand side by side.
    assert (summary.touched, summary.todo) == (100 + 8, 998 + 100)
    assert (summary.images, summary.slices) == (count + 998 - 100, 782 + 8)
    assert len(counted.opened) == 2 * 4, "each part once to compare, once for touched slices"
    assert watched.names == ["part-00000.parquet", "part-00001.parquet", "complete.json"]


def test_memory_grows_by_digests_alone(tmp_path, monkeypatch):
    monkeypatch.setattr("pipelines.comparison._CHUNK", 512)
    peaks = []
    for count in (8_000, 16_000):
        output = str(tmp_path / f"{count}")
        begin(output, list_many(count))
        tracemalloc.start()
        look_again(output, list_many(count))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    # 29 bytes an image, twice while they are sorted, and a place a slice of three; Python objects
    # would be above 500.
    assert (peaks[1] - peaks[0]) / 8_000 < 150


def test_the_memory_of_a_retry_grows_by_names_and_digests_alone(tmp_path, monkeypatch):
    monkeypatch.setattr("pipelines.comparison._CHUNK", 512)
    monkeypatch.setattr(lookup, "_look_up", {info.uri: info for info in list_many(16_000)}.get)
    peaks = []
    for count in (8_000, 16_000):
        output = str(tmp_path / f"{count}")
        begin(output, list_many(count))
        failed = {0: {info.uri for info in list_many(count)}}
        comparison = Comparison(open_manifest(output), failed, None)
        tracemalloc.start()
        comparison.take_store()
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    # Sets and lists of the names, and a digest of each; a look-up that is held is above 1,000.
    assert (peaks[1] - peaks[0]) / 8_000 < 400
