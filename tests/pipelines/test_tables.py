"""Are the files of the tables those of the contract, readable without us?"""

from __future__ import annotations

import random
import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines import storage, tables
from pipelines.errors import ObjectChangedError, StorageError
from pipelines.tables import (
    BOXES_SCHEMA,
    GUESSES_SCHEMA,
    IMAGES_SCHEMA,
    KEYS,
    MANIFEST_SCHEMA,
    TABLES,
    UPDATE_SCHEMA,
    Provenance,
    check_rows,
    decode_notes,
    encode_table,
    features_schema,
    read_notes,
    read_table,
    slice_name,
    slice_number,
)

# The contract, column by column: name, type, whether it may be null.
IMAGES_CONTRACT = """
image string, slice int32, etag string, size int64, width int32?, height int32?, status string,
error_type string?, error string?, n_boxes int32, truncated_boxes bool,
labels list<element: string>, scores list<element: float>, fingerprint string
"""
BOXES_CONTRACT = """
image string, box int32, label_id int32, label string, score float, evidence float, x_min float,
y_min float, x_max float, y_max float, n_windows int32
"""
GUESSES_CONTRACT = """
image string, rank int32, label_id int32, label string, score float, x_min float, y_min float,
x_max float, y_max float
"""
FEATURES_CONTRACT = """
image string, scale int32, row int32, col int32, vector fixed_size_list<element: float>[128]
"""
MANIFEST_CONTRACT = (
    "slice int32, image string, size int64, etag string, mtime double, offset int64?"
)
UPDATE_CONTRACT = f"{MANIFEST_CONTRACT}, todo bool"
PROVENANCE = Provenance(fingerprint="0123456789abcdef", generation=7)
BOX = {
    "image": "s3://b/x.jpg", "box": 0, "label_id": 1, "label": "bee", "score": 0.5, "evidence": 2.5,
    "x_min": 1.0, "y_min": 2.0, "x_max": 3.0, "y_max": 4.0, "n_windows": 3,
}  # fmt: skip


def describe(schema):
    words = [f"{field.name} {field.type}{'?' * field.nullable}" for field in schema]
    return ", ".join(words).replace("item", "element")


def make_boxes(*rows):
    return pa.Table.from_pylist(list(rows), BOXES_SCHEMA)


@pytest.mark.parametrize(
    ("schema", "contract"),
    [
        (IMAGES_SCHEMA, IMAGES_CONTRACT),
        (BOXES_SCHEMA, BOXES_CONTRACT),
        (GUESSES_SCHEMA, GUESSES_CONTRACT),
        (features_schema(128), FEATURES_CONTRACT),
        (MANIFEST_SCHEMA, MANIFEST_CONTRACT),
        (UPDATE_SCHEMA, UPDATE_CONTRACT),
    ],
)
@pytest.mark.parametrize("source", ["code", "file"])
def test_columns_are_those_of_the_contract(schema, contract, source):
    if source == "file":
        empty = schema.empty_table()
        schema = pq.read_schema(pa.BufferReader(encode_table(empty, schema, PROVENANCE)))
    assert describe(schema) == " ".join(contract.split())


def test_the_receipt_is_the_last_of_the_tables():
    """Readers take a slice for done once it is there."""
    assert TABLES[-1] == "images"
    assert sorted(TABLES) == sorted(KEYS)


@pytest.mark.parametrize(
    ("table", "schema"),
    [
        ("images", IMAGES_SCHEMA),
        ("boxes", BOXES_SCHEMA),
        ("guesses", GUESSES_SCHEMA),
        ("features", features_schema(8)),
    ],
)
def test_every_table_is_keyed_by_its_first_columns_and_the_image_comes_first(table, schema):
    assert KEYS[table][0] == "image"
    assert tuple(schema.names[: len(KEYS[table])]) == KEYS[table]


def test_a_file_is_compressed_with_zstd():
    file = pq.ParquetFile(pa.BufferReader(encode_table(make_boxes(BOX), BOXES_SCHEMA, PROVENANCE)))
    group = file.metadata.row_group(0)
    kinds = {group.column(number).compression for number in range(file.metadata.num_columns)}
    assert kinds == {"ZSTD"}


def test_the_same_rows_give_the_same_bytes():
    one, other = (encode_table(make_boxes(BOX), BOXES_SCHEMA, PROVENANCE) for _ in range(2))
    assert one == other


def make_features(count, *, channels=64):
    values = np.random.default_rng(1).normal(size=(count, channels)).astype(np.float32)
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), channels)
    cells = [pa.array([number] * count, pa.int32()) for number in range(3)]
    images = pa.array(["s3://b/x.jpg"] * count)
    return pa.Table.from_arrays([images, *cells, vectors], schema=features_schema(channels))


def test_vectors_are_written_without_a_dictionary_and_read_as_they_were():
    rows = make_features(100)
    data = encode_table(rows, rows.schema, PROVENANCE)
    group = pq.ParquetFile(pa.BufferReader(data)).metadata.row_group(0)
    columns = {
        column.path_in_schema.split(".")[0]: column for column in map(group.column, range(5))
    }
    assert "RLE_DICTIONARY" in columns["image"].encodings
    assert "RLE_DICTIONARY" not in columns["vector"].encodings
    assert pq.read_table(pa.BufferReader(data)).equals(rows)


def test_a_large_table_is_cut_into_row_groups_and_a_small_one_is_not(monkeypatch):
    rows = make_features(100)
    counts = []
    for limit in (rows.nbytes, rows.nbytes // 4):
        monkeypatch.setattr(tables, "_GROUP_BYTES", limit)
        file = pq.ParquetFile(pa.BufferReader(encode_table(rows, rows.schema, PROVENANCE)))
        counts.append(file.num_row_groups)
        assert file.read().equals(rows)
    assert counts[0] == 1
    assert counts[1] in {4, 5}


def test_the_metadata_say_where_a_file_belongs(store_root):
    uri = storage.join_uri(store_root, "x.parquet")
    storage.write_bytes(uri, encode_table(make_boxes(), BOXES_SCHEMA, PROVENANCE, counts="{}"))
    notes = dict(read_notes(uri))
    assert (len(notes.pop("rows")), len(notes.pop("file"))) == (32, 32)
    assert notes == {
        "schema_version": "1", "fingerprint": "0123456789abcdef", "generation": "7", "counts": "{}",
    }  # fmt: skip


def test_the_metadata_hold_a_digest_of_the_rows_alone(store_root):
    def digest(generation, *rows):
        provenance = replace(PROVENANCE, generation=generation)
        data = encode_table(make_boxes(*rows), BOXES_SCHEMA, provenance)
        return decode_notes("x", data)["rows"]

    assert digest(1, BOX) == digest(2, BOX)
    assert digest(1, BOX) != digest(1, BOX | {"score": 0.25})
    assert digest(1, BOX) != digest(1)


def test_a_table_is_read_as_it_was_written(store_root):
    uri = storage.join_uri(store_root, "x.parquet")
    storage.write_bytes(uri, encode_table(make_boxes(BOX), BOXES_SCHEMA, PROVENANCE))
    table = read_table(uri)
    assert table.to_pylist() == [BOX]
    assert table.schema.equals(BOXES_SCHEMA)
    assert table.schema.metadata[b"generation"] == b"7"


@pytest.mark.parametrize("times", [1, 3, 4])
def test_notes_of_a_table_that_is_replaced_while_it_is_read_are_read_again(
    tmp_path, monkeypatch, times
):
    uri = str(tmp_path / "boxes" / slice_name(0))
    storage.write_bytes(uri, encode_table(BOXES_SCHEMA.empty_table(), BOXES_SCHEMA, PROVENANCE))
    open_range_reader, left = storage.open_range_reader, times

    def open_or_miss(uri):
        nonlocal left
        left -= 1
        if left >= 0:
            raise ObjectChangedError(f"{uri}: it changed while it was read; run again")
        return open_range_reader(uri)

    monkeypatch.setattr(storage, "open_range_reader", open_or_miss)
    if times > 3:
        with pytest.raises(ObjectChangedError):
            read_notes(uri)
    else:
        assert read_notes(uri)["fingerprint"] == PROVENANCE.fingerprint


@pytest.mark.parametrize("read", [read_table, read_notes])
def test_a_table_that_is_missing_is_named(store_root, read):
    with pytest.raises(StorageError, match=r"x\.parquet: missing"):
        read(storage.join_uri(store_root, "x.parquet"))


@pytest.mark.parametrize("read", [read_table, read_notes])
@pytest.mark.parametrize("damage", ["empty", "cut", "footer", "magic", "text"])
def test_a_table_that_is_damaged_is_named(tmp_path, read, damage):
    data = encode_table(make_boxes(BOX), BOXES_SCHEMA, PROVENANCE)
    footer = int.from_bytes(data[-8:-4], "little")
    damaged = {
        "empty": b"",
        "cut": data[: len(data) // 2],
        "footer": data[: -8 - footer] + b"\xff" * footer + data[-8:],
        "magic": data[:-4] + b"RAP1",
        # Names of columns and of notes: a whole footer whose words are no UTF-8.
        "text": data.replace(b"score", b"sco\xffe").replace(b"fingerprint", b"finger\xffrint"),
    }
    path = tmp_path / "x.parquet"
    path.write_bytes(damaged[damage])
    with pytest.raises(StorageError, match=r"x\.parquet: not a table of this program"):
        read(str(path))


def test_one_flipped_bit_anywhere_in_a_table_is_seen():
    data = encode_table(make_boxes(BOX), BOXES_SCHEMA, PROVENANCE)
    check_rows("x", data)
    bits = random.Random(0)
    for place in range(len(data)):
        damaged = bytearray(data)
        damaged[place] ^= 1 << bits.randrange(8)
        with pytest.raises(StorageError, match=r"^x: "):
            check_rows("x", bytes(damaged))


def test_a_table_whose_rows_are_damaged_is_named(tmp_path):
    data = bytearray(encode_table(make_boxes(BOX), BOXES_SCHEMA, PROVENANCE))
    data[4:200] = bytes(196)
    path = tmp_path / "x.parquet"
    path.write_bytes(data)
    with pytest.raises(StorageError, match=r"x\.parquet: not a table of this program"):
        read_table(str(path))


def test_columns_come_in_the_order_of_the_contract_and_no_others():
    turned = make_boxes(BOX).select(BOXES_SCHEMA.names[::-1]).append_column("x", pa.array([1]))
    table = pq.read_table(pa.BufferReader(encode_table(turned, BOXES_SCHEMA, PROVENANCE)))
    assert table.column_names == BOXES_SCHEMA.names
    assert table.to_pylist() == [BOX]


@pytest.mark.parametrize(
    ("column", "value"), [("label", None), ("n_windows", 2**40), ("label_id", "bee")]
)
def test_a_value_that_does_not_fit_is_an_error(column, value):
    types = {"n_windows": pa.int64(), "label_id": pa.string()}
    position = BOXES_SCHEMA.get_field_index(column)
    wrong = pa.array([value], types.get(column, pa.string()))
    table = make_boxes(BOX).set_column(position, column, wrong)
    with pytest.raises((pa.ArrowInvalid, ValueError)):
        encode_table(table, BOXES_SCHEMA, PROVENANCE)


def test_a_file_without_rows_is_read_together_with_others(tmp_path):
    for number, rows in enumerate(([], [BOX], [])):
        data = encode_table(make_boxes(*rows), BOXES_SCHEMA, PROVENANCE)
        (tmp_path / slice_name(number)).write_bytes(data)
    frame = pd.read_parquet(tmp_path)
    assert frame.to_dict("records") == [BOX]
    assert str(frame["n_windows"].dtype).lower().startswith("int32")


@pytest.mark.parametrize("number", [0, 7, 999_999, 1_000_000])
def test_the_number_of_a_slice_is_read_from_its_name(number):
    assert re.fullmatch(r"slice-\d{6,}\.parquet", slice_name(number))
    assert slice_number(slice_name(number)) == number


@pytest.mark.parametrize(
    "name",
    [
        "slice-1.parquet",
        "slice-000001.parquet.tmp",
        "slice--00001.parquet",
        "slice-.parquet",
        "part-000001.parquet",
        "slice-0000001.parquet",
        "000001",
        "slice-\u0660\u0660\u0660\u0660\u0660\u0661.parquet",
        "",
    ],
)
def test_other_names_are_no_slices(name):
    assert slice_number(name) is None
