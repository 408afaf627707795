"""Is a slice's manifest that of the newest complete generation, and is it found cheaply?"""

from __future__ import annotations

import pyarrow as pa
import pytest

from pipelines import manifest, storage
from pipelines.errors import StorageError
from pipelines.manifest import (
    SLICES_PER_PART,
    SlicePlace,
    iter_slices,
    iter_tables,
    open_manifest,
    read_slice,
)
from pipelines.storage import ObjectInfo
from pipelines.tables import UPDATE_SCHEMA
from tests.pipelines.manifest.written import (
    CountedReads,
    make_slices,
    part_uri,
    read_names,
    write_first,
    write_later,
)


def write_generations(output):
    """Six slices; the second generation touches 1 and 4 and adds 6, the third 4 and 2."""
    write_first(output, make_slices(*"abcdef"))
    write_later(output, 1, list(zip((6, 1, 4), make_slices("g", "B", "E"), strict=True)))
    later = list(zip((2, 4), make_slices("C", "EE"), strict=True))
    return write_later(output, 2, later, slices_of_run=7)


def test_the_newest_complete_generation_that_lists_a_slice_counts(store_root):
    summary = write_generations(store_root)
    assert read_names(store_root) == {
        0: ["a"], 1: ["B"], 2: ["C"], 3: ["d"], 4: ["E", "E"], 5: ["f"], 6: ["g"],
    }  # fmt: skip
    opened = open_manifest(store_root)
    assert opened.summary == summary
    assert [place.generation for place in opened.places] == [0, 1, 2, 0, 2, 0, 1]
    assert opened.touched.keys() == {1, 2, 4, 6}


def test_each_place_leads_to_its_slice(store_root):
    write_generations(store_root)
    opened = open_manifest(store_root)
    for place, entries in iter_slices(opened):
        assert place == opened.place_of(place.number)
        assert read_slice(store_root, place) == entries


def test_a_generation_that_was_never_finished_changes_nothing(store_root):
    write_generations(store_root)
    storage.delete([storage.join_uri(manifest.generation_folder(store_root, 2), "complete.json")])
    assert read_names(store_root)[4] == ["E"]
    assert open_manifest(store_root).summary.generation == 1


def test_places_are_found_far_into_a_large_manifest(tmp_path):
    output = str(tmp_path)
    summary = write_first(output, make_slices(*["x"] * (SLICES_PER_PART + 3)))
    opened = open_manifest(output)
    number = SLICES_PER_PART + 1
    assert opened.place_of(number) == SlicePlace(
        number=number, generation=0, part=summary.parts[1], group=1
    )
    assert len(list(opened.places)) == SLICES_PER_PART + 3


def test_some_slices_are_read_in_the_order_of_their_places(tmp_path):
    write_generations(str(tmp_path))
    found = iter_slices(open_manifest(str(tmp_path)), [6, 4, 0, 1])
    assert [(place.generation, place.number) for place, _ in found] == [
        (0, 0), (1, 6), (1, 1), (2, 4),
    ]  # fmt: skip


def test_no_slice_wanted_is_none_read(tmp_path, monkeypatch):
    write_generations(str(tmp_path))
    opened = open_manifest(str(tmp_path))
    counted = CountedReads(monkeypatch)
    assert list(iter_slices(opened, [])) == []
    assert counted.opened == []


def test_each_part_is_opened_once(tmp_path, monkeypatch):
    output = str(tmp_path)
    write_first(output, make_slices(*["x"] * (2 * SLICES_PER_PART + 1)))
    opened = open_manifest(output)
    counted = CountedReads(monkeypatch)
    assert len(list(iter_slices(opened))) == 2 * SLICES_PER_PART + 1
    assert counted.opened == [part_uri(output, part) for part in range(3)]


def test_opening_the_first_generation_costs_one_listing_and_its_summary(tmp_path, monkeypatch):
    """The parts are not opened, however many there are: a resume is cheap."""
    write_first(str(tmp_path), make_slices(*["x"] * (SLICES_PER_PART + 1)))
    counted = CountedReads(monkeypatch)
    open_manifest(str(tmp_path))
    assert len(counted.listed) == 1
    assert [uri.rpartition("/")[2] for uri in counted.read] == ["complete.json"]
    assert counted.opened == []


def test_of_later_generations_only_the_footers_are_read(tmp_path):
    output = str(tmp_path)
    write_first(output, make_slices("a"))
    summary = write_later(output, 1, [(0, [ObjectInfo(uri=f"{n}" * 50) for n in range(5_000)])])
    uri = part_uri(output, 0, generation=1)
    data = bytearray(storage.read_bytes(uri))
    footer = 8 + int.from_bytes(data[-8:-4], "little")
    data[4:-footer] = bytes(len(data) - footer - 4)
    storage.write_bytes(uri, bytes(data))
    assert open_manifest(output).touched == {0: SlicePlace(0, 1, *summary.parts, 0)}


def test_tables_hold_the_images_of_a_part_without_the_empty_slices(tmp_path):
    output = str(tmp_path)
    write_first(output, make_slices("a", "b", "c"))
    write_later(output, 1, [(0, []), (1, make_slices("xy")[0])], todo={"y"}, slices_of_run=3)
    tables = {places[0].generation: table for places, table in iter_tables(open_manifest(output))}
    assert tables[0]["image"].to_pylist() == ["c"]
    assert tables[1].schema.equals(UPDATE_SCHEMA)
    assert tables[1].select(["slice", "image", "todo"]).to_pylist() == [
        {"slice": 1, "image": "x", "todo": False},
        {"slice": 1, "image": "y", "todo": True},
    ]
    assert isinstance(tables[1], pa.Table)


def test_a_part_that_is_missing_is_told(tmp_path):
    write_generations(str(tmp_path))
    opened = open_manifest(str(tmp_path))
    for generation in (0, 1):
        storage.delete([part_uri(str(tmp_path), 0, generation=generation)])
    with pytest.raises(StorageError, match=r"part-00000-\w+\.parquet: missing"):
        read_slice(str(tmp_path), opened.place_of(0))
    with pytest.raises(StorageError, match=r"generation-000001/part-00000-\w+\.parquet: missing"):
        open_manifest(str(tmp_path))


@pytest.mark.parametrize("damage", ["cut", "footer", "empty"])
def test_a_part_that_is_damaged_is_told(tmp_path, damage):
    write_first(str(tmp_path), make_slices("a", "b"))
    opened = open_manifest(str(tmp_path))
    uri = part_uri(str(tmp_path), 0)
    data = storage.read_bytes(uri)
    damaged = {"cut": data[: len(data) // 2], "footer": data[:-40] + b"\xff" * 32 + data[-8:]}
    storage.write_bytes(uri, damaged.get(damage, b""))
    with pytest.raises(StorageError, match="not a part of a manifest"):
        read_slice(str(tmp_path), opened.place_of(1))


def test_what_another_driver_lists_meanwhile_changes_no_manifest_that_is_open(tmp_path):
    output = str(tmp_path)
    write_first(output, make_slices("a", "b", "c"))
    write_later(output, 1, [(1, make_slices("B")[0])], slices_of_run=3)
    opened = open_manifest(output)
    storage.delete([storage.join_uri(manifest.generation_folder(output, 1), "complete.json")])
    write_later(output, 1, [(2, make_slices("C")[0])], slices_of_run=3)
    assert [entry.info.uri for entry in read_slice(output, opened.place_of(1))] == ["B"]
    assert read_names(output) == {0: ["a"], 1: ["b"], 2: ["C"]}


def test_a_part_that_lists_other_slices_is_told(tmp_path):
    output = str(tmp_path)
    write_first(output, make_slices("a", "b"))
    place = open_manifest(output).place_of(1)
    with pytest.raises(StorageError, match="other slices"):
        read_slice(output, place._replace(number=0))
