"""Is a generation of the manifest whole or absent, and what does it cost to write?"""

from __future__ import annotations

import errno
import io
import itertools
import json
import re

import pyarrow.parquet as pq
import pytest

from pipelines import manifest, storage
from pipelines.errors import PipelineError, StorageError
from pipelines.manifest import (
    SLICES_PER_PART,
    ManifestEntry,
    list_generations,
    open_manifest,
    read_slice,
    read_summary,
)
from pipelines.storage import ObjectInfo
from pipelines.tables import MANIFEST_SCHEMA, UPDATE_SCHEMA
from tests.pipelines.manifest.written import (
    WatchedWrites,
    make_infos,
    make_slices,
    part_uri,
    read_back,
    read_names,
    without_digest,
    write_first,
    write_later,
    write_numbered,
)


def number_slices(count):
    return [[ObjectInfo(uri=f"{number:04d}")] for number in range(count)]


def test_what_was_written_is_read(store_root):
    slices = [make_infos(1, 2), make_infos(3), make_infos(4, 5, 6)]
    summary = write_first(store_root, slices, skipped=9)
    assert read_back(store_root) == {
        number: [ManifestEntry(info, todo=True) for info in infos]
        for number, infos in enumerate(slices)
    }
    assert (summary.slices, summary.images, summary.size_bytes) == (3, 6, 21)
    assert (summary.touched, summary.todo, len(summary.parts)) == (3, 6, 1)
    assert (summary.generation, summary.skipped) == (0, 9)
    assert read_summary(store_root) == summary


def test_a_later_generation_says_which_images_are_to_be_done(store_root):
    slices = [make_infos(1, 2), make_infos(*[5] * 4)[2:]]
    write_first(store_root, slices)
    summary = write_later(store_root, 1, [(1, slices[1])], todo={"s3://b/00003.jpg"})
    assert (summary.generation, summary.touched, summary.todo) == (1, 1, 1)
    assert read_summary(store_root) == summary
    assert read_back(store_root) == {
        0: [ManifestEntry(info) for info in slices[0]],
        1: [ManifestEntry(slices[1][0], todo=False), ManifestEntry(slices[1][1], todo=True)],
    }


def test_without_complete_json_there_is_no_manifest(store_root):
    assert read_summary(store_root) is None
    write_first(store_root, [make_infos(1)])
    folder = manifest.generation_folder(store_root, 0)
    assert folder.endswith("/manifest/generation-000000")
    names = set(map(without_digest, storage.list_names(folder)))
    assert names == {"part-00000.parquet", "complete.json"}
    storage.delete([storage.join_uri(folder, "complete.json")])
    assert read_summary(store_root) is None
    assert open_manifest(store_root) is None


def test_generations_are_listed_once_they_are_complete(store_root):
    assert list_generations(store_root) == []
    for generation in range(3):
        write_later(store_root, generation, [(0, make_infos(1))])
    complete = storage.join_uri(manifest.generation_folder(store_root, 2), manifest.COMPLETE)
    storage.delete([complete])
    assert list_generations(store_root) == [0, 1]


def test_a_generation_without_slices_is_not_written(tmp_path):
    assert write_later(str(tmp_path), 1, []) is None
    assert list(tmp_path.iterdir()) == []


def test_a_slice_that_has_lost_all_its_images_is_still_a_slice(store_root):
    write_first(store_root, make_slices("ab", "c", "d"))
    write_later(store_root, 1, [(0, []), (1, make_slices("c")[0]), (2, [])], slices_of_run=3)
    assert read_names(store_root) == {0: [], 1: ["c"], 2: []}
    opened = open_manifest(store_root)
    assert [read_slice(store_root, opened.place_of(n)) for n in (0, 2)] == [[], []]


def test_slices_on_both_sides_of_a_part_boundary_are_read(tmp_path):
    slices = number_slices(2 * SLICES_PER_PART + 1)
    summary = write_first(str(tmp_path), slices)
    assert (summary.slices, len(summary.parts)) == (len(slices), 3)
    opened = open_manifest(str(tmp_path))
    edges = [0, SLICES_PER_PART - 1, SLICES_PER_PART, 2 * SLICES_PER_PART - 1, 2 * SLICES_PER_PART]
    for number in edges:
        (entry,) = read_slice(str(tmp_path), opened.place_of(number))
        assert entry.info == slices[number][0]
    names = {path.name for path in tmp_path.glob("manifest/*/*.parquet")}
    assert names == set(summary.parts)
    assert set(map(without_digest, names)) == {
        "part-00000.parquet",
        "part-00001.parquet",
        "part-00002.parquet",
    }


def test_a_part_ends_where_a_number_falls(tmp_path):
    """New slices, with the highest numbers, come first; readers rely on ascending parts."""
    write_first(str(tmp_path), make_slices(*"abcdef"))
    later = [(6, "x"), (7, "y"), (1, "b"), (4, "e"), (3, "d")]
    summary = write_later(str(tmp_path), 1, [(n, make_slices(x)[0]) for n, x in later])
    numbers = [
        pq.read_table(part_uri(str(tmp_path), part, generation=1))["slice"].to_pylist()
        for part in range(len(summary.parts))
    ]
    assert numbers == [[6, 7], [1, 4], [3]]
    assert read_names(str(tmp_path)) == {n: [x] for n, x in enumerate("abcdefxy")}


@pytest.mark.parametrize(
    ("generation", "schema"), [(0, MANIFEST_SCHEMA), (1, UPDATE_SCHEMA)], ids=["first", "later"]
)
def test_a_part_is_a_file_of_the_contract_with_a_row_group_for_each_slice(
    tmp_path, generation, schema
):
    slices = [make_infos(1, 2), make_infos(3), make_infos(4)]
    write_later(str(tmp_path), generation, enumerate(slices))
    file = pq.ParquetFile(part_uri(str(tmp_path), 0, generation=generation))
    assert file.schema_arrow.equals(schema)
    todo = ["todo"] if generation else []
    assert file.schema_arrow.names == ["slice", "image", "size", "etag", "mtime", "offset", *todo]
    assert file.num_row_groups == 3
    assert [file.read_row_group(n)["slice"].to_pylist() for n in range(3)] == [[0, 0], [1], [2]]


def test_the_place_of_a_member_is_kept_and_a_whole_object_has_none(tmp_path):
    member = ObjectInfo(uri="s3://b/t.tar#a.jpg", size=5, etag="e", mtime=1.5, offset=2**40)
    write_first(str(tmp_path), [[*make_infos(1), member]])
    assert [entry.info for entry in read_back(str(tmp_path))[0]] == [*make_infos(1), member]


def test_a_part_without_a_column_is_refused_with_its_name(tmp_path):
    write_first(str(tmp_path), [make_infos(1)])
    uri = part_uri(str(tmp_path), 0)
    pq.write_table(pq.read_table(uri).drop_columns("offset"), uri)
    with pytest.raises(StorageError, match=r"part-00000-\w+\.parquet: has no column offset; start"):
        read_back(str(tmp_path))


def test_a_slice_is_read_without_the_rest_of_its_part(tmp_path):
    write_first(str(tmp_path), [make_infos(*range(50)), make_infos(1, 2), make_infos(*range(50))])
    uri = part_uri(str(tmp_path), 0)
    data = bytearray(storage.read_bytes(uri))
    metadata = pq.ParquetFile(io.BytesIO(data)).metadata
    for group in (0, 2):
        for column in range(metadata.num_columns):
            chunk = metadata.row_group(group).column(column)
            start = chunk.dictionary_page_offset or chunk.data_page_offset
            data[start : start + chunk.total_compressed_size] = bytes(chunk.total_compressed_size)
    storage.write_bytes(uri, bytes(data))
    entries = read_slice(str(tmp_path), open_manifest(str(tmp_path)).place_of(1))
    assert [entry.info for entry in entries] == make_infos(1, 2)


@pytest.mark.parametrize("failing", [0, 1, 2])
@pytest.mark.parametrize("generation", [0, 1])
def test_a_write_that_fails_leaves_no_generation_and_the_next_call_writes_it(
    tmp_path, monkeypatch, failing, generation
):
    output = str(tmp_path)
    if generation:
        write_first(output, make_slices("z"))
    before = read_summary(output)
    slices = number_slices(SLICES_PER_PART + 1)
    calls = itertools.count()

    def fail_once(*_):
        if next(calls) == failing:
            raise StorageError("the disk is full")

    WatchedWrites(monkeypatch, fail_once)
    with pytest.raises(StorageError):
        write_later(output, generation, enumerate([[ObjectInfo(uri="other")], *slices]))
    assert read_summary(output) == before
    summary = write_later(output, generation, enumerate(slices))
    assert read_summary(output) == summary
    assert read_names(output) == {n: [f"{n:04d}"] for n in range(len(slices))}


def test_parts_of_an_abandoned_attempt_beyond_the_last_one_do_not_count(store_root):
    write_first(store_root, make_slices("a", "b", "c"))
    # A part for each, because the numbers fall.
    abandoned = [(2, "x"), (1, "y"), (0, "z")]
    write_later(store_root, 1, [(n, make_slices(x)[0]) for n, x in abandoned])
    folder = manifest.generation_folder(store_root, 1)
    storage.delete([storage.join_uri(folder, manifest.COMPLETE)])
    assert read_names(store_root) == {0: ["a"], 1: ["b"], 2: ["c"]}
    write_later(store_root, 1, [(2, make_slices("C")[0])])
    assert storage.exists(part_uri(store_root, 2, generation=1))
    assert read_names(store_root) == {0: ["a"], 1: ["b"], 2: ["C"]}


def test_a_disk_that_is_full_at_the_last_write_is_told(tmp_path, monkeypatch):
    def fail(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("pathlib.Path.hardlink_to", fail)
    with pytest.raises(StorageError, match="full"):
        write_first(str(tmp_path), [make_infos(1)])
    assert read_summary(str(tmp_path)) is None


def test_complete_json_is_written_last(tmp_path, monkeypatch):
    watched = WatchedWrites(monkeypatch)
    write_first(str(tmp_path), number_slices(SLICES_PER_PART + 1))
    assert watched.names == ["part-00000.parquet", "part-00001.parquet", "complete.json"]


def test_the_lease_is_looked_at_before_each_object(tmp_path, monkeypatch):
    said = []
    WatchedWrites(monkeypatch, lambda uri, _: said.append(without_digest(uri.rpartition("/")[2])))
    slices = number_slices(SLICES_PER_PART + 1)
    write_first(str(tmp_path), slices, check=lambda: said.append("check"))
    assert said[::2] == ["check"] * 3
    assert said[1::2] == ["part-00000.parquet", "part-00001.parquet", "complete.json"]


@pytest.mark.parametrize("lost_at", [0, 1, 2])
def test_a_driver_that_has_lost_its_lease_writes_no_more(tmp_path, monkeypatch, lost_at):
    watched = WatchedWrites(monkeypatch)
    checks = itertools.count()

    def check():
        if next(checks) == lost_at:
            raise PipelineError("taken over")

    with pytest.raises(PipelineError, match="taken over"):
        write_first(str(tmp_path), number_slices(SLICES_PER_PART + 1), check=check)
    assert len(watched.uris) == lost_at
    assert read_summary(str(tmp_path)) is None


def test_who_completes_a_generation_first_decides_what_it_holds(store_root):
    """Two drivers at once: the slower one takes over what the other listed."""
    first = write_first(store_root, [make_infos(1, 2)])
    assert write_first(store_root, [make_infos(1, 2), make_infos(3)]) == first
    assert read_summary(store_root) == first


@pytest.mark.parametrize("names", ["abc", "abcdefgh"], ids=["fewer", "more"])
@pytest.mark.parametrize("generation", [0, 1])
def test_a_driver_that_slept_before_complete_json_leaves_its_own_listing_whole(
    store_root, monkeypatch, names, generation
):
    """The other one has put some parts of its own, and was killed, or is still at work."""
    if generation:
        write_first(store_root, make_slices(*"uvwxyz"))
    monkeypatch.setattr(manifest.generations, "SLICES_PER_PART", 2)
    monkeypatch.setattr(
        manifest.places, "SLICES_PER_PART", 2 if not generation else SLICES_PER_PART
    )

    def list_as(names, check):
        slices = [(n, make_slices(name)[0]) for n, name in enumerate(names)]
        return write_later(store_root, generation, slices, slices_of_run=6, check=check)

    def wake_the_first_at_the_second_part():
        if next(checks) == 1:
            put_late()

    create, checks, late = storage.create_bytes, itertools.count(), []

    def put_late():
        for arguments, options in late:
            assert create(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(storage, "create_bytes", lambda *a, **o: late.append((a, o)) or True)
        first = list_as("ABCDEF", lambda: None)
    assert list_as(names, wake_the_first_at_the_second_part) == first
    assert read_summary(store_root) == first
    assert read_names(store_root) == {number: [name] for number, name in enumerate("ABCDEF")}


def test_a_part_that_comes_late_changes_no_manifest(store_root, monkeypatch):
    """A store that takes everything: another listing's part is put once more."""
    watched = []
    WatchedWrites(monkeypatch, lambda uri, data: watched.append((uri, bytes(data))))
    write_first(store_root, make_slices("x", "y"))
    storage.delete([watched[-1][0]])
    write_first(store_root, make_slices("a", "b", "c"))
    storage.write_bytes(*watched[0])
    assert read_names(store_root) == {0: ["a"], 1: ["b"], 2: ["c"]}


def test_no_more_than_one_part_is_held_in_memory(tmp_path, monkeypatch):
    drawn = 0
    drawn_before_write = []

    def draw():
        nonlocal drawn
        for drawn in range(1, 3 * SLICES_PER_PART + 1):
            yield [ObjectInfo(uri=f"{drawn:04d}")]

    WatchedWrites(monkeypatch, lambda *_: drawn_before_write.append(drawn), hold_back=True)
    write_first(str(tmp_path), draw())
    ends = [SLICES_PER_PART * part for part in (1, 2, 3)]
    # The slice after the end is looked at, to see whether its number falls.
    assert drawn_before_write == [ends[0] + 1, ends[1] + 1, ends[2], ends[2]]


def test_twice_the_slices_cost_twice_the_bytes(tmp_path, monkeypatch):
    watched = WatchedWrites(monkeypatch, hold_back=True)
    costs = []
    for count in (2 * SLICES_PER_PART, 4 * SLICES_PER_PART):
        watched.sizes.clear()
        write_first(str(tmp_path), number_slices(count))
        costs.append(sum(watched.sizes))
    assert 1.9 < costs[1] / costs[0] < 2.1


def test_an_image_takes_a_few_dozen_bytes(tmp_path, monkeypatch):
    watched = WatchedWrites(monkeypatch, hold_back=True)
    write_first(str(tmp_path), [make_infos(*range(128)) for _ in range(32)])
    assert sum(watched.sizes) < 32 * 128 * 20


def test_temporary_files_do_not_lie_in_the_manifest(tmp_path, monkeypatch):
    watched = WatchedWrites(monkeypatch)
    write_first(str(tmp_path), [make_infos(1)])
    assert [options["scratch"] for options in watched.options] == [str(tmp_path / ".tmp")] * 2


def test_the_summary_is_readable_json(tmp_path):
    write_first(str(tmp_path), [make_infos(1, 2)], skipped=3)
    path = tmp_path / "manifest" / "generation-000000" / "complete.json"
    assert json.loads(re.sub("-[0-9a-f]{16}", "-DIGEST", path.read_text())) == {
        "generation": 0, "slices": 1, "images": 2, "size_bytes": 3, "skipped": 3,
        "touched": 1, "todo": 2, "parts": ["part-00000-DIGEST.parquet"],
    }  # fmt: skip


@pytest.mark.parametrize("content", ["", "{", "[]", "null", "{}", '{"generation": 0}'])
def test_a_summary_of_another_program_is_refused(tmp_path, content):
    write_first(str(tmp_path), [make_infos(1)])
    (tmp_path / "manifest" / "generation-000000" / "complete.json").write_text(content)
    with pytest.raises(StorageError, match=r"complete\.json: not a manifest of this program"):
        open_manifest(str(tmp_path))


def test_a_slice_is_counted_however_the_numbers_come(tmp_path):
    entries = [(number, [ManifestEntry(info)]) for number, info in enumerate(make_infos(1, 2, 4))]
    summary = write_numbered(str(tmp_path), 1, entries[::-1], check=lambda: None)
    assert (summary.slices, summary.images, summary.size_bytes) == (3, 3, 7)
