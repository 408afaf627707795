"""What do lists of URIs name, what does reading them cost, and which columns are refused?"""

from __future__ import annotations

import tracemalloc
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines import storage
from pipelines.errors import InputError
from pipelines.lists import is_list, iter_list
from pipelines.manifest import list_generations
from pipelines.selection import SelectionCounts, select_images
from pipelines.storage import ObjectInfo
from tests.pipelines.manifest.updates import begin, look_again

INVENTORY = {
    "bucket": pa.string(),
    "key": pa.string(),
    "version_id": pa.string(),
    "is_latest": pa.bool_(),
    "is_delete_marker": pa.bool_(),
    "size": pa.int64(),
    "last_modified_date": pa.timestamp("ms", "UTC"),
    "e_tag": pa.string(),
}
"""Columns of an inventory of all versions; one of the newest lacks the three in the middle."""
OF_VERSIONS = ("version_id", "is_latest", "is_delete_marker")


def put_table(folder, table, name="list.parquet"):
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    uri = storage.join_uri(str(folder), name)
    storage.write_bytes(uri, sink.getvalue().to_pybytes())
    return uri


def put_column(folder, name, values):
    image = [f"s3://b/{number}.jpg" for number in range(len(values))]
    return put_table(folder, pa.table({"image": image, name: values}))


def put_inventory(folder, *rows, without=()):
    schema = pa.schema([field for field in pa.schema(INVENTORY) if field.name not in without])
    common = {"bucket": "photos", "is_latest": True, "is_delete_marker": False, "size": 5}
    common |= {"e_tag": "abc-2", "last_modified_date": datetime(2026, 1, 1, tzinfo=UTC)}
    return put_table(folder, pa.Table.from_pylist([common | row for row in rows], schema))


def select(uri, *, output="/nowhere", suffixes=(".jpg",)):
    counts = SelectionCounts()
    found = list(select_images(uri, output=output, suffixes=suffixes, counts=counts))
    return found, counts


def keys_of(found):
    return [info.uri.removeprefix("s3://photos/") for info in found]


def refusal(uri):
    with pytest.raises(InputError) as error:
        select(uri)
    assert error.value.exit_code == 2
    return str(error.value)


def test_memory_does_not_grow_with_a_text_list(tmp_path):
    uri = str(tmp_path / "list.txt")
    storage.write_bytes(uri, b"".join(b"s3://bucket/%060d.jpg\n" % n for n in range(50_000)))
    tracemalloc.start()
    count = sum(1 for _ in iter_list(uri))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 50_000
    # One buffer of a mebibyte; the list has four.
    assert peak < 2 * 2**20


def test_a_byte_order_mark_is_no_part_of_the_first_entry(store_root):
    uri = storage.join_uri(store_root, "list.txt")
    storage.write_bytes(uri, "\ufeffs3://b/ü.jpg\r\ns3://b/a\rb.jpg".encode())
    assert [info.uri for _, info in iter_list(uri)] == ["s3://b/ü.jpg", "s3://b/a\rb.jpg"]


def test_spaces_around_a_name_are_a_part_of_it(store_root):
    names = [" a.jpg", "a.jpg", "a.jpg ", "a.jpg\u00a0", "a\u2028b.jpg"]
    for name in names:
        storage.write_bytes(storage.join_uri(store_root, "in", name), b"x")
    uris = [storage.join_uri(store_root, "in", name) for name in names]
    uri = storage.join_uri(store_root, "list.txt")
    storage.write_bytes(uri, "\r\n".join([*uris, "", "  ", ""]).encode())
    assert [info.uri for info in select(uri)[0]] == uris
    answers = storage.read_objects(select(uri)[0])
    assert [answer.data for answer in answers] == [b"x"] * 5


@pytest.mark.parametrize("name", ["  s3://b/a.jpg", "\t/data/a.jpg", " https://h/a.jpg"])
def test_an_indented_uri_or_absolute_path_is_refused_with_its_place(tmp_path, name):
    text, table = str(tmp_path / "list.txt"), str(tmp_path / "list.parquet")
    storage.write_bytes(text, f"s3://b/0.jpg\n{name}\n".encode())
    pq.write_table(pa.table({"image": ["s3://b/0.jpg", name]}), table)
    for uri in (text, table):
        with pytest.raises(InputError, match=r"entry 2: .* begins with a space, expected a URI"):
            list(iter_list(uri))


def test_a_parquet_list_with_a_column_twice_is_refused(tmp_path):
    uri, names = str(tmp_path / "list.parquet"), pa.array(["s3://b/0.jpg"])
    pq.write_table(pa.Table.from_arrays([names, names], ["image", "image"]), uri)
    with pytest.raises(InputError, match="several columns named image"):
        list(iter_list(uri))


def test_twins_in_a_list_are_found_in_little_memory(tmp_path):
    """A digest an entry, and a day of a driver's memory for a hundred million."""
    entries, count = (f"s3://b/{number * 7919 % 400_009:07d}.jpg" for number in range(400_000)), 0
    uri = str(tmp_path / "list.txt")
    storage.write_bytes(uri, "\n".join(entries).encode())
    tracemalloc.start()
    found = select_images(uri, output="/nowhere", suffixes=(), counts=SelectionCounts())
    count = sum(1 for _ in found)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert count == 400_000
    assert peak < 60 * count


@pytest.mark.parametrize("name", ["photos.txt", "spark.PARQUET"])
def test_a_local_folder_that_is_called_like_a_list_is_a_folder(tmp_path, name):
    folder = str(tmp_path / name)
    storage.write_bytes(f"{folder}/a.jpg", b"x")
    for images in (folder, f"{folder}/", f"file://{folder}"):
        found, _ = select(storage.resolve_uri(images))
        assert [info.uri for info in found] == [f"{folder}/a.jpg"]


def test_a_local_name_is_looked_at_as_the_user_wrote_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos.txt").mkdir()
    (tmp_path / "list.txt").touch()
    names = [
        "photos.txt",
        "./photos.txt",
        f"file://{tmp_path}/photos.txt",
        "list.txt",
        "absent.txt",
    ]
    assert [is_list(name) for name in names] == [False, False, False, True, True]


@pytest.mark.s3
def test_a_prefix_that_is_called_like_a_list_is_told_so(s3_bucket):
    for name in ("photos.txt", "spark.parquet"):
        folder = f"s3://{s3_bucket}/{name}"
        storage.write_bytes(storage.join_uri(folder, "a.jpg"), b"x")
        with pytest.raises(InputError, match="no such object; give a text or Parquet list, or end"):
            select(folder)
        assert [info.uri for info in select(f"{folder}/")[0]] == [f"{folder}/a.jpg"]


def put_text(folder, *keys):
    uri = storage.join_uri(str(folder), "list.txt")
    storage.write_bytes(uri, "".join(f"s3://photos/{key}\n" for key in keys).encode())
    return uri


def put_names(folder, *keys):
    return put_table(folder, pa.table({"image": [f"s3://photos/{key}" for key in keys]}))


def put_keys(folder, *keys):
    return put_inventory(folder, *({"key": key} for key in keys))


@pytest.fixture(params=[put_text, put_names, put_keys])
def changing(request, tmp_path):
    """A local list of three images, of which the first is read before one of it alone is left."""
    uri = request.param(tmp_path, "1.jpg", "2.jpg", "3.jpg")
    shorter = request.param(tmp_path / "shorter", "1.jpg")

    def read(**options):
        counts = SelectionCounts()
        found = select_images(uri, output="/nowhere", suffixes=(".jpg",), counts=counts, **options)
        yield next(found)
        # As a shell does: the same file, emptied and written anew.
        with Path(uri).open("wb") as file:
            file.write(storage.read_bytes(shorter))
        yield from found

    return read


@pytest.mark.parametrize("limit", [None, 2])
def test_a_local_list_that_is_written_over_while_it_is_read_is_refused(changing, limit):
    told = "changed while it was read, .* run the same command again once it is whole"
    with pytest.raises(InputError, match=told):
        list(changing(limit=limit))


def test_that_a_list_has_changed_is_told_before_what_is_wrong_in_it(tmp_path):
    lines = [f"s3://photos/{number:060d}.jpg" for number in range(50_000)]
    uri = put_text(tmp_path, *lines)
    found = select_images(uri, output="/nowhere", suffixes=(), counts=SelectionCounts())
    assert next(found)
    with Path(uri).open("r+b") as file:
        file.write(b"\xff\xff\n" * 2**20)
    with pytest.raises(InputError, match="changed while it was read"):
        list(found)


def test_of_a_list_that_is_written_over_an_update_writes_nothing(changing, tmp_path):
    output = str(tmp_path / "out")
    begin(output, [ObjectInfo(uri=f"s3://photos/{number}.jpg") for number in (1, 2, 3)])
    with pytest.raises(InputError, match="changed while it was read"):
        look_again(output, changing(), is_list=True)
    assert list_generations(output) == [0]


@pytest.mark.parametrize("damage", ["page", "text"])
def test_a_parquet_list_that_is_damaged_inside_is_refused(tmp_path, damage):
    names = [f"s3://b/{number}.jpg" for number in range(20_000)]
    sink = pa.BufferOutputStream()
    compression = {"page": "zstd", "text": "none"}[damage]
    pq.write_table(pa.table({"image": names}), sink, compression=compression, use_dictionary=False)
    data = bytearray(sink.getvalue().to_pybytes())
    at = {"page": 100, "text": data.find(b"s3://b/777.jpg")}[damage]
    data[at : at + 8] = b"\xff" * 8
    uri = storage.join_uri(str(tmp_path), "list.parquet")
    storage.write_bytes(uri, bytes(data))
    with pytest.raises(InputError, match=r"list .*list\.parquet: not a Parquet file"):
        list(iter_list(uri))


def test_a_line_that_is_not_utf_8_is_refused_with_its_place(store_root):
    uri = storage.join_uri(store_root, "list.txt")
    storage.write_bytes(uri, b"s3://b/a.jpg\n\ns3://b/\xfc.jpg\n")
    assert "list.txt, entry 3: not UTF-8 text; give one URI a line" in refusal(uri)


@pytest.mark.parametrize(
    "kind", ["int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"]
)
def test_a_size_is_of_any_type_of_whole_numbers(tmp_path, kind):
    found, _ = select(put_column(tmp_path, "size", pa.array([7, None], kind)))
    assert [info.size for info in found] == [7, 0]


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (["5"], "string"),
        ([float("nan")], "double"),
        ([5.0], "double"),
        ([True], "bool"),
        ([b"5"], "binary"),
    ],
)
def test_a_size_of_another_type_is_refused(tmp_path, values, kind):
    message = refusal(put_column(tmp_path, "size", pa.array(values, kind)))
    told = f"list.parquet: the column size is of the type {kind}, expected whole numbers of bytes"
    assert told in message


@pytest.mark.parametrize(("value", "kind"), [(-1, "int64"), (2**63, "uint64")])
def test_a_size_that_no_object_has_is_refused_with_its_place(tmp_path, value, kind):
    message = refusal(put_column(tmp_path, "size", pa.array([1, value], kind)))
    assert f"list.parquet, entry 2: the column size holds {value}, expected bytes" in message


@pytest.mark.parametrize("values", [[1], [1.5], [b"x"], [["x"]]])
def test_an_etag_that_is_no_text_is_refused(tmp_path, values):
    message = refusal(put_column(tmp_path, "etag", values))
    assert "list.parquet: the column etag is of the type" in message
    assert "expected text; convert it, or leave it out" in message


@pytest.mark.parametrize("kind", [pa.large_string(), pa.dictionary(pa.int8(), pa.string())])
def test_an_etag_is_any_kind_of_text(tmp_path, kind):
    found, _ = select(put_column(tmp_path, "etag", pa.array(["x", '"y"'], pa.string()).cast(kind)))
    assert [info.etag for info in found] == ["x", "y"]


@pytest.mark.parametrize("without", [(), OF_VERSIONS, (*OF_VERSIONS, "size", "e_tag")])
def test_an_inventory_gives_the_objects_with_size_and_etag(store_root, without):
    uri = put_inventory(
        store_root, {"key": "a b.jpg"}, {"key": "2/c.jpg", "size": 0}, without=without
    )
    found, _ = select(uri)
    known = {} if "size" in without else {"size": 5, "etag": "abc-2"}
    assert found == [
        ObjectInfo(uri="s3://photos/a b.jpg", **known),
        ObjectInfo(uri="s3://photos/2/c.jpg", **(known and known | {"size": 0})),
    ]


def test_of_an_inventory_only_newest_versions_are_taken(tmp_path):
    uri = put_inventory(
        tmp_path,
        {"key": "a.jpg", "e_tag": "new"},
        {"key": "a.jpg", "e_tag": "old", "is_latest": False},
        {"key": "b.jpg", "is_delete_marker": True, "size": None, "e_tag": None},
        {"key": "b.jpg", "is_latest": False},
        {"key": "c.jpg", "is_latest": None, "is_delete_marker": None},
    )
    found, counts = select(uri)
    assert [(info.uri, info.etag) for info in found] == [
        ("s3://photos/a.jpg", "new"),
        ("s3://photos/c.jpg", "abc-2"),
    ]
    assert counts.skipped == 0


def test_keys_of_an_inventory_are_literal(tmp_path):
    keys = ["a%20b+c.jpg", "what?x=1.jpg", "x.tar#y.jpg", "a::b://c::/d.jpg", "/e//f.jpg", "ü.jpg"]
    found, _ = select(put_inventory(tmp_path, *({"key": key} for key in keys)))
    assert keys_of(found) == keys


def test_an_inventory_is_a_listing_with_other_objects_in_it(tmp_path):
    keys = ["a.JPG", "notes.txt", "old.tar", "folder/", "out/images/x.jpg", "out-2/b.jpg"]
    found, counts = select(
        put_inventory(tmp_path, *({"key": key} for key in keys)), output="s3://photos/out"
    )
    assert keys_of(found) == ["a.JPG", "out-2/b.jpg"]
    assert (counts.skipped, counts.tars) == (3, 1)


def test_a_table_with_images_is_a_list_whatever_else_it_has(tmp_path):
    table = pa.table({"image": ["s3://b/x"], "bucket": ["c"], "key": ["d"]})
    assert [info.uri for info in select(put_table(tmp_path, table))[0]] == ["s3://b/x"]


def test_what_an_inventory_cannot_hold_is_refused_with_its_place(tmp_path):
    uri = put_inventory(tmp_path, {"key": "a.jpg"}, {"key": None})
    assert "entry 2: the column key holds None, expected the key of an object" in refusal(uri)
    uri = put_inventory(tmp_path, {"key": "a.jpg", "bucket": "no bucket"})
    assert "'no bucket' is not the name of a bucket" in refusal(uri)
    uri = put_table(tmp_path, pa.table({"bucket": ["b"], "key": ["a.jpg"], "is_latest": ["true"]}))
    assert "the column is_latest is of the type string, expected true or false" in refusal(uri)
    uri = put_inventory(tmp_path, {"key": "a.jpg"}, {"key": "a.jpg"})
    assert "entry 2 (s3://photos/a.jpg)" in refusal(uri)
