"""Which slices are done, and what do their receipts add up to?"""

from __future__ import annotations

from collections import Counter

import pyarrow as pa

from pipelines import storage
from pipelines.receipts import RowCounts, count_rows, list_committed
from pipelines.tables import slice_name
from tests.builders import put_receipt


def test_a_slice_is_committed_once_its_receipt_is_there(store_root):
    for number in (0, 3):
        put_receipt(store_root, number, RowCounts())
    boxes = storage.join_uri(store_root, "boxes", slice_name(1))
    storage.write_bytes(boxes, b"ahead of its receipt")
    for name in ("slice-000005.parquet.tmp", "notes.txt"):
        storage.write_bytes(storage.join_uri(store_root, "images", name), b"")
    assert list_committed(store_root) == {0, 3}


def test_nothing_is_committed_before_the_start(store_root):
    assert list_committed(store_root) == set()
    assert count_rows(store_root, []) == RowCounts()


def test_receipts_add_up(store_root):
    put_receipt(store_root, 0, RowCounts(images=4, boxes=9, errors=Counter(corrupt=1)))
    put_receipt(store_root, 1, RowCounts(images=4, guesses=20, features=7))
    put_receipt(store_root, 2, RowCounts(images=2, boxes=1, errors=Counter(corrupt=1, changed=1)))
    total = count_rows(store_root, [0, 1, 2])
    assert (total.images, total.boxes, total.failed) == (10, 10, 3)
    assert (total.guesses, total.features) == (20, 7)
    assert total.errors == {"corrupt": 2, "changed": 1}
    assert count_rows(store_root, [1]) == RowCounts(images=4, guesses=20, features=7)


def test_counts_are_read_as_they_were_written():
    counts = RowCounts(images=5, boxes=2, errors=Counter(timeout=2))
    assert RowCounts.decode(counts.encode()) == counts


def test_the_rows_of_a_receipt_are_not_read(tmp_path):
    rows = pa.table({"x": list(range(100_000))})
    metadata = {"counts": RowCounts(images=1).encode()}
    sink = pa.BufferOutputStream()
    with pa.parquet.ParquetWriter(sink, rows.schema.with_metadata(metadata)) as writer:
        writer.write_table(rows)
    data = bytearray(sink.getvalue().to_pybytes())
    data[4 : len(data) // 2] = bytes(len(data) // 2 - 4)
    storage.write_bytes(str(tmp_path / "images" / slice_name(0)), bytes(data))
    assert count_rows(str(tmp_path), [0]).images == 1
