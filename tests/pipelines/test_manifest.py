"""How is a listing cut into slices, and is the manifest whole or absent?"""

from __future__ import annotations

import errno
import io
import itertools
import json

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines import manifest, storage
from pipelines.errors import StorageError
from pipelines.manifest import SLICES_PER_PART, cut_slices, read_slice, read_summary, write_manifest
from pipelines.storage import ObjectInfo
from pipelines.tables import MANIFEST_SCHEMA

FEW = settings(max_examples=50, deadline=None, derandomize=True)


def make_infos(*sizes):
    return [
        ObjectInfo(uri=f"s3://b/{n:05d}.jpg", size=size, etag=f"e{n}", mtime=n + 0.25)
        for n, size in enumerate(sizes)
    ]


def cut_sizes(sizes, **limits):
    slices = cut_slices(make_infos(*sizes), **{"slice_size": 1000, "slice_bytes": 1000} | limits)
    return [[info.size for info in infos] for infos in slices]


def write(output, slices, skipped=0):
    return write_manifest(output, slices, count_skipped=lambda: skipped)


def part_uri(output, part):
    return storage.join_uri(manifest.generation_folder(output, 0), manifest.part_name(part))


def test_slices_are_cut_by_count():
    assert cut_sizes([1] * 7, slice_size=3) == [[1] * 3, [1] * 3, [1]]


def test_slices_are_cut_by_bytes():
    assert cut_sizes([40, 60, 1, 99, 2], slice_bytes=100) == [[40, 60], [1, 99], [2]]


def test_whichever_limit_comes_first_cuts():
    assert cut_sizes([1, 1, 1, 9, 9], slice_size=2, slice_bytes=10) == [[1, 1], [1, 9], [9]]


def test_an_image_above_the_limit_is_a_slice_of_its_own():
    assert cut_sizes([5, 500, 5], slice_bytes=100) == [[5], [500], [5]]


def test_unknown_sizes_are_cut_by_count_alone():
    assert cut_sizes([0] * 5, slice_size=2, slice_bytes=1) == [[0, 0], [0, 0], [0]]


def test_nothing_gives_no_slice():
    assert cut_sizes([]) == []


def test_a_slice_is_sorted_by_uri_and_the_slices_keep_the_listing_order():
    infos = [ObjectInfo(uri=uri) for uri in ("d", "b", "c", "a")]
    slices = cut_slices(infos, slice_size=2, slice_bytes=1)
    assert [[info.uri for info in infos] for infos in slices] == [["b", "d"], ["a", "c"]]


@FEW
@given(
    sizes=st.lists(st.integers(0, 120), max_size=40),
    slice_size=st.integers(1, 6),
    slice_bytes=st.integers(1, 200),
)
def test_cutting_loses_nothing_and_keeps_the_limits(sizes, slice_size, slice_bytes):
    slices = cut_sizes(sizes, slice_size=slice_size, slice_bytes=slice_bytes)
    assert list(itertools.chain(*slices)) == sizes
    assert all(len(one) <= slice_size for one in slices)
    assert all(sum(one) <= slice_bytes or len(one) == 1 for one in slices)
    # Nothing is cut that both limits would let pass.
    for one, other in itertools.pairwise(slices):
        assert len(one) == slice_size or sum(one) + other[0] > slice_bytes


def test_what_was_written_is_read(store_root):
    slices = [make_infos(1, 2), make_infos(3), make_infos(4, 5, 6)]
    summary = write(store_root, slices, skipped=9)
    assert [read_slice(store_root, number) for number in range(3)] == slices
    assert (summary.slices, summary.images, summary.size_bytes) == (3, 6, 21)
    assert (summary.generation, summary.skipped) == (0, 9)
    assert read_summary(store_root) == summary


def test_without_complete_json_there_is_no_manifest(store_root):
    assert read_summary(store_root) is None
    write(store_root, [make_infos(1)])
    folder = manifest.generation_folder(store_root, 0)
    assert folder.endswith("/manifest/generation-000000")
    assert storage.list_names(folder) == {"part-00000.parquet", "complete.json"}
    storage.delete([storage.join_uri(folder, "complete.json")])
    assert read_summary(store_root) is None


def test_slices_on_both_sides_of_a_part_boundary_are_read(tmp_path):
    slices = [[ObjectInfo(uri=f"{number:04d}")] for number in range(2 * SLICES_PER_PART + 1)]
    summary = write(str(tmp_path), slices)
    assert summary.slices == len(slices)
    edges = [0, SLICES_PER_PART - 1, SLICES_PER_PART, 2 * SLICES_PER_PART - 1, 2 * SLICES_PER_PART]
    for number in edges:
        assert read_slice(str(tmp_path), number) == slices[number]
    names = {path.name for path in tmp_path.glob("manifest/*/*.parquet")}
    assert names == {"part-00000.parquet", "part-00001.parquet", "part-00002.parquet"}


def test_a_part_is_a_file_of_the_contract_with_a_row_group_for_each_slice(tmp_path):
    write(str(tmp_path), [make_infos(1, 2), make_infos(3), make_infos(4)])
    file = pq.ParquetFile(part_uri(str(tmp_path), 0))
    assert file.schema_arrow.equals(MANIFEST_SCHEMA)
    assert file.schema_arrow.names == ["slice", "image", "size", "etag", "mtime"]
    assert file.num_row_groups == 3
    assert [file.read_row_group(n)["slice"].to_pylist() for n in range(3)] == [[0, 0], [1], [2]]


def test_a_slice_is_read_without_the_rest_of_its_part(tmp_path):
    write(str(tmp_path), [make_infos(*range(50)), make_infos(1, 2), make_infos(*range(50))])
    uri = part_uri(str(tmp_path), 0)
    data = bytearray(storage.read_bytes(uri))
    metadata = pq.ParquetFile(io.BytesIO(data)).metadata
    for group in (0, 2):
        for column in range(metadata.num_columns):
            chunk = metadata.row_group(group).column(column)
            start = chunk.dictionary_page_offset or chunk.data_page_offset
            data[start : start + chunk.total_compressed_size] = bytes(chunk.total_compressed_size)
    storage.write_bytes(uri, bytes(data))
    assert read_slice(str(tmp_path), 1) == make_infos(1, 2)


class WatchedWrites:
    """Every write passes here first; it may be held back or made to fail."""

    def __init__(self, monkeypatch, before=lambda uri, data: None, *, hold_back=False):
        self.uris, self.sizes, self.options = [], [], []
        for name in ("write_bytes", "create_bytes"):
            monkeypatch.setattr(
                storage, name, self._watch(getattr(storage, name), before, hold_back)
            )

    def _watch(self, write, before, hold_back):
        def watched(uri, data, **options):
            before(uri, data)
            self.uris.append(uri)
            self.sizes.append(len(data))
            self.options.append(options)
            return None if hold_back else write(uri, data, **options)

        return watched


@pytest.mark.parametrize("failing", [0, 1, 2])
def test_a_write_that_fails_leaves_no_manifest_and_the_next_call_writes_it(
    tmp_path, monkeypatch, failing
):
    output = str(tmp_path)
    slices = [[ObjectInfo(uri=f"{number:04d}")] for number in range(SLICES_PER_PART + 1)]
    calls = itertools.count()

    def fail_once(*_):
        if next(calls) == failing:
            raise StorageError("the disk is full")

    WatchedWrites(monkeypatch, fail_once)
    with pytest.raises(StorageError):
        write(output, [[ObjectInfo(uri="other")], *slices])
    assert read_summary(output) is None
    assert write(output, slices).slices == len(slices)
    assert read_slice(output, 0) == slices[0]
    assert read_slice(output, SLICES_PER_PART) == slices[SLICES_PER_PART]


def test_a_disk_that_is_full_at_the_last_write_is_told(tmp_path, monkeypatch):
    def fail(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("pathlib.Path.hardlink_to", fail)
    with pytest.raises(StorageError, match="full"):
        write(str(tmp_path), [make_infos(1)])
    assert read_summary(str(tmp_path)) is None


def test_complete_json_is_written_last(tmp_path, monkeypatch):
    watched = WatchedWrites(monkeypatch)
    write(str(tmp_path), [[ObjectInfo(uri=str(n))] for n in range(SLICES_PER_PART + 1)])
    names = [uri.rpartition("/")[2] for uri in watched.uris]
    assert names == ["part-00000.parquet", "part-00001.parquet", "complete.json"]


def test_who_completes_a_manifest_first_decides_what_it_holds(tmp_path, monkeypatch):
    """Two drivers at once: the slower one takes over what the other listed."""
    first = write(str(tmp_path), [make_infos(1, 2)])
    assert write(str(tmp_path), [make_infos(1, 2), make_infos(3)]) == first


def test_no_more_than_one_part_is_held_in_memory(tmp_path, monkeypatch):
    drawn = 0
    drawn_before_write = []

    def draw():
        nonlocal drawn
        for drawn in range(1, 3 * SLICES_PER_PART + 1):
            yield [ObjectInfo(uri=f"{drawn:04d}")]

    WatchedWrites(monkeypatch, lambda *_: drawn_before_write.append(drawn), hold_back=True)
    write(str(tmp_path), draw())
    assert drawn_before_write == [SLICES_PER_PART * part for part in (1, 2, 3, 3)]


def test_twice_the_slices_cost_twice_the_bytes(tmp_path, monkeypatch):
    watched = WatchedWrites(monkeypatch, hold_back=True)
    costs = []
    for count in (2 * SLICES_PER_PART, 4 * SLICES_PER_PART):
        watched.sizes.clear()
        write(str(tmp_path), ([ObjectInfo(uri=f"{number:05d}")] for number in range(count)))
        costs.append(sum(watched.sizes))
    assert 1.9 < costs[1] / costs[0] < 2.1


def test_temporary_files_do_not_lie_in_the_manifest(tmp_path, monkeypatch):
    watched = WatchedWrites(monkeypatch)
    write(str(tmp_path), [make_infos(1)])
    assert watched.options == [{"scratch": str(tmp_path / ".tmp")}] * 2


def test_the_summary_is_readable_json(tmp_path):
    write(str(tmp_path), [make_infos(1, 2)], skipped=3)
    path = tmp_path / "manifest" / "generation-000000" / "complete.json"
    assert json.loads(path.read_text()) == {
        "generation": 0, "slices": 1, "images": 2, "size_bytes": 3, "skipped": 3,
    }  # fmt: skip
