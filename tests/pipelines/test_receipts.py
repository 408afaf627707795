"""Which slices are done, and what do their receipts add up to?"""

from __future__ import annotations

import json
from collections import Counter

import pyarrow as pa

from pipelines import storage
from pipelines.manifest import note_contested, open_manifest
from pipelines.receipts import (
    RowCounts,
    find_committed,
    list_failed,
    list_receipts,
)
from pipelines.tables import Provenance, decode_notes, encode_table, slice_name
from tests.builders import count_rows, put_receipt
from tests.pipelines.manifest.written import (
    CountedReads,
    make_slices,
    write_first,
    write_later,
)
from tests.pipelines.written_receipts import commit


def committed(root):
    return find_committed(open_manifest(root))


def test_a_slice_is_committed_once_its_receipt_is_there(store_root):
    for number in (0, 3):
        put_receipt(store_root, number, RowCounts())
    boxes = storage.join_uri(store_root, "boxes", slice_name(1))
    storage.write_bytes(boxes, b"ahead of its receipt")
    for name in ("slice-000005.parquet.tmp", "notes.txt"):
        storage.write_bytes(storage.join_uri(store_root, "images", name), b"")
    assert list_receipts(store_root) == {0, 3}


def test_nothing_is_committed_before_the_start(store_root):
    write_first(store_root, make_slices("a", "b"))
    assert list_receipts(store_root) == set()
    assert committed(store_root) == set()


def test_of_the_first_generation_a_receipt_is_enough(store_root):
    write_first(store_root, make_slices("a", "b", "c"))
    for number in (0, 2):
        commit(store_root, number, generation=0)
    assert committed(store_root) == {0, 2}


def test_of_a_slice_that_was_contested_the_tables_must_be_the_receipts(store_root):
    """Two attempts of the first generation differ, and one put its receipt late."""
    write_first(store_root, make_slices("a", "b"))
    for number in range(2):
        digest = put_table(store_root, number, generation=0, images="new")
        commit(store_root, number, generation=0, tables=json.dumps({"boxes": digest}))
    put_table(store_root, 0, generation=0, images="old")
    note_contested(store_root, 0)
    assert open_manifest(store_root).contested == {0}
    assert committed(store_root) == {1}
    put_table(store_root, 0, generation=0, images="new")
    assert committed(store_root) == {0, 1}


def test_a_slice_that_an_update_touched_needs_a_receipt_of_that_update(store_root):
    write_first(store_root, make_slices("a", "b", "c", "d"))
    write_later(store_root, 1, enumerate(make_slices("a", "b", "c")), slices_of_run=4)
    write_later(store_root, 2, enumerate(make_slices("a", "b")), slices_of_run=4)
    for number, generation in enumerate((1, 2, 1, 0)):
        commit(store_root, number, generation=generation)
    assert committed(store_root) == {1, 2, 3}


def test_a_slice_that_an_update_added_is_committed_by_its_receipt(store_root):
    write_first(store_root, make_slices("a"))
    commit(store_root, 0, generation=0)
    write_later(store_root, 1, [(1, make_slices("b")[0])])
    assert committed(store_root) == {0}
    commit(store_root, 1, generation=1)
    assert committed(store_root) == {0, 1}


def test_receipts_of_slices_that_the_manifest_does_not_have_are_named_and_left_out(
    store_root, caplog
):
    write_first(store_root, make_slices("a", "b", "c"))
    for number in (0, 2, 3, *range(10, 16)):
        commit(store_root, number, generation=0)
    assert committed(store_root) == {0, 2}
    assert "images: 7 receipts of no slice are there" in caplog.text
    assert "move slice-000003.parquet, slice-000010.parquet," in caplog.text
    assert "slice-000013.parquet and 2 more and the tables of the same name away" in caplog.text


def test_an_update_that_was_never_finished_undoes_nothing(store_root):
    write_first(store_root, make_slices("a"))
    commit(store_root, 0, generation=0)
    write_later(store_root, 1, enumerate(make_slices("a")))
    complete = storage.join_uri(store_root, "manifest", "generation-000001", "complete.json")
    storage.delete([complete])
    assert committed(store_root) == {0}


def test_a_resume_costs_one_listing_and_opens_no_receipt(tmp_path, monkeypatch):
    root = str(tmp_path)
    write_first(root, make_slices(*"abcdefgh"))
    for number in range(8):
        commit(root, number, generation=0)
    manifest = open_manifest(root)
    counted = CountedReads(monkeypatch)
    assert find_committed(manifest) == set(range(8))
    assert [uri.rpartition("/")[2] for uri in counted.listed] == ["images"]
    assert (counted.opened, counted.read) == ([], [])


def test_after_an_update_the_receipts_of_the_touched_slices_alone_are_opened(tmp_path, monkeypatch):
    root = str(tmp_path)
    write_first(root, make_slices(*"abcdefgh"))
    write_later(root, 1, list(enumerate(make_slices(*"abcdefgh")))[2:4], slices_of_run=9)
    for number in range(8):
        commit(root, number, generation=0)
    manifest = open_manifest(root)
    counted = CountedReads(monkeypatch)
    assert find_committed(manifest) == {0, 1, 4, 5, 6, 7}
    assert len(counted.listed) == 1
    assert sorted(uri.rpartition("/")[2] for uri in counted.opened) == [
        slice_name(2), slice_name(3),
    ]  # fmt: skip
    assert counted.read == []


def put_table(root, number, *, generation, images, name="boxes", **notes):
    """Write a table of a slice; returns the digest of its rows."""
    table = pa.table({"image": list(images)}, pa.schema([("image", pa.string())]))
    provenance = Provenance(fingerprint="f", generation=generation)
    data = encode_table(table, table.schema, provenance, **notes)
    storage.write_bytes(storage.join_uri(root, name, slice_name(number)), data)
    return decode_notes(name, data)["rows"]


def test_a_touched_slice_whose_table_is_not_the_receipts_is_not_committed(store_root):
    """A put came late: the table is an older one, though the receipt is the newest."""
    write_first(store_root, make_slices("a", "b", "c"))
    write_later(store_root, 1, list(enumerate(make_slices("a", "b"))), slices_of_run=3)
    for number in range(3):
        digest = put_table(store_root, number, generation=1, images="new")
        commit(store_root, number, generation=1, tables=json.dumps({"boxes": digest}))
    assert committed(store_root) == {0, 1, 2}
    put_table(store_root, 1, generation=0, images="old")
    assert committed(store_root) == {0, 2}
    put_table(store_root, 1, generation=0, images="new")
    assert committed(store_root) == {0, 1, 2}, "the rows are the same"


def test_counts_add_up():
    one = RowCounts(images=4, boxes=9, errors=Counter(corrupt=1))
    other = RowCounts(images=6, guesses=20, features=7, errors=Counter(corrupt=1, changed=1))
    total = sum([one, other], RowCounts())
    assert (total.images, total.boxes, total.failed) == (10, 9, 3)
    assert (total.guesses, total.features) == (20, 7)
    assert total.errors == {"corrupt": 2, "changed": 1}


def test_failed_images_are_named_by_slice(store_root):
    commit(store_root, 0, generation=0, images="ab", failed="cd")
    commit(store_root, 1, generation=0, images="e")
    commit(store_root, 2, generation=1, failed="f")
    counts = count_rows(store_root, range(3))
    assert list_failed(store_root, counts) == {0: {"c", "d"}, 2: {"f"}}


def test_receipts_without_failed_images_are_not_read_for_names(tmp_path, monkeypatch):
    root = str(tmp_path)
    for number, failed in enumerate(("", "x", "")):
        commit(root, number, generation=0, images="a", failed=failed)
    counts = count_rows(root, range(3))
    counted = CountedReads(monkeypatch)
    assert list_failed(root, counts) == {1: {"x"}}
    assert [uri.rpartition("/")[2] for uri in counted.read] == [slice_name(1)]


def test_counts_are_read_as_they_were_written():
    counts = RowCounts(images=5, boxes=2, errors=Counter(timeout=2))
    assert RowCounts.decode(counts.encode()) == counts


def test_the_rows_of_a_receipt_are_not_read(tmp_path):
    rows = pa.table({"x": list(range(100_000))})
    metadata = {"counts": RowCounts(images=1).encode(), "generation": "0"}
    sink = pa.BufferOutputStream()
    with pa.parquet.ParquetWriter(sink, rows.schema.with_metadata(metadata)) as writer:
        writer.write_table(rows)
    data = bytearray(sink.getvalue().to_pybytes())
    data[4 : len(data) // 2] = bytes(len(data) // 2 - 4)
    storage.write_bytes(str(tmp_path / "images" / slice_name(0)), bytes(data))
    assert count_rows(str(tmp_path), [0])[0].images == 1
