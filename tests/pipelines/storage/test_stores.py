"""What holds on local disk and on a real S3 server alike?"""

from __future__ import annotations

import time

import pandas as pd
import pyarrow.parquet as pq
import pytest

from pipelines import storage
from pipelines.errors import ImageError, ImageReason
from pipelines.storage import OvertakenError

# Each beside a sibling that it would match, or become, if anything globbed or decoded it.
ODD_KEYS = {
    "star": ("a*.jpg", "ab.jpg"),
    "mark": ("a?.jpg", "ab.jpg"),
    "brackets": ("IMG[1].jpg", "IMG1.jpg"),
    "space": ("a b.jpg", "a+b.jpg"),
    "percent": ("a%20b.jpg", "a b.jpg"),
    "lone percent": ("100%.jpg", "100.jpg"),
    "hash": ("a#b.jpg", "a"),
    "unicode": ("ü/日本.jpg", "u/日本.jpg"),
    "version": ("a.jpg?versionId=1", "a.jpg"),
    "chain": ("a::b.jpg", "a"),
    "quotes": ('it\'s "a" & <b>.jpg', "its a & b.jpg"),
    "scheme": ("x:y.jpg", "x"),
}


def put(root, *names):
    for name in names:
        storage.write_bytes(storage.join_uri(root, name), f"bytes of {name}".encode())


def list_below(prefix, root):
    return [storage.relative_to(info.uri, root) for info in storage.iter_objects(prefix)]


def test_what_was_written_is_read(store_root):
    uri = storage.join_uri(store_root, "deep", "down", "x.bin")
    storage.write_bytes(uri, b"\0\xff" * 1000)
    assert storage.read_bytes(uri) == b"\0\xff" * 1000


def test_an_object_of_many_megabytes_and_an_empty_one_are_kept(store_root):
    large = bytes(range(256)) * 50_000
    for name, data in (("large", large), ("empty", b"")):
        storage.write_bytes(storage.join_uri(store_root, name), data)
        assert storage.read_bytes(storage.join_uri(store_root, name)) == data


def test_writing_replaces_what_stands_there(store_root):
    uri = storage.join_uri(store_root, "x")
    storage.write_bytes(uri, b"a long first version")
    storage.write_bytes(uri, b"second")
    assert storage.read_bytes(uri) == b"second"


def test_reading_what_is_not_there_is_file_not_found(store_root):
    put(store_root, "folder/x")
    for name in ("absent", "folder/x/absent"):
        with pytest.raises(FileNotFoundError, match=name):
            storage.read_bytes(storage.join_uri(store_root, name))
        with pytest.raises(FileNotFoundError, match=name):
            storage.open_range_reader(storage.join_uri(store_root, name))


def test_only_an_object_exists_not_a_folder(store_root):
    put(store_root, "folder/x")
    assert storage.exists(storage.join_uri(store_root, "folder/x"))
    assert not storage.exists(storage.join_uri(store_root, "folder"))
    assert not storage.exists(storage.join_uri(store_root, "folder/y"))
    assert not storage.exists(storage.join_uri(store_root, "folder/x/y"))


def test_names_are_of_one_level(store_root):
    put(store_root, "folder/a", "folder/b", "folder/sub/c", "folder-2/d")
    assert storage.list_names(storage.join_uri(store_root, "folder")) == {"a", "b"}
    assert storage.list_names(storage.join_uri(store_root, "folder/")) == {"a", "b"}
    assert storage.list_names(storage.join_uri(store_root, "absent")) == set()
    assert storage.list_names(storage.join_uri(store_root, "folder", "a")) == set()


@pytest.mark.parametrize("end", ["", "/"])
def test_a_prefix_is_a_folder_and_not_its_longer_named_sibling(store_root, end):
    put(store_root, "photos/a", "photos/b/c", "photos-old/d", "photos2")
    assert list_below(storage.join_uri(store_root, "photos") + end, store_root) == [
        "photos/a",
        "photos/b/c",
    ]


def test_a_prefix_may_be_a_single_object(store_root):
    put(store_root, "photos/a", "photos/ab")
    assert list_below(storage.join_uri(store_root, "photos/a"), store_root) == ["photos/a"]


def test_a_listing_is_in_the_order_of_whole_keys(store_root):
    put(store_root, "b/x", "b-1/x", "b.jpg", "a/z/1", "a/Z", "c")
    listed = list_below(store_root, store_root)
    assert listed == ["a/Z", "a/z/1", "b-1/x", "b.jpg", "b/x", "c"]
    assert list_below(store_root, store_root) == listed


def test_a_listing_tells_size_version_and_time(store_root):
    put(store_root, "x")
    (info,) = storage.iter_objects(store_root)
    (answer,) = storage.read_objects([info])
    assert isinstance(answer, storage.ObjectBytes)
    assert info.size == len(answer.data) == len("bytes of x")
    assert info.etag == answer.etag
    assert info.etag
    assert '"' not in info.etag
    assert abs(info.mtime - time.time()) < 60
    assert not info.is_folder_key


@pytest.mark.parametrize("names", ODD_KEYS.values(), ids=ODD_KEYS)
def test_an_odd_key_is_listed_and_read_literally(store_root, names):
    put(store_root, *names)
    infos = list(storage.iter_objects(store_root))
    assert {storage.relative_to(info.uri, store_root) for info in infos} == set(names)
    for name in names:
        uri = storage.join_uri(store_root, name)
        expected = f"bytes of {name}".encode()
        (answer,) = storage.read_objects([storage.ObjectInfo(uri=uri)])
        assert isinstance(answer, storage.ObjectBytes)
        assert answer.data == storage.read_bytes(uri) == expected
        with storage.open_range_reader(uri) as file:
            assert file.read() == expected
        assert storage.exists(uri)
    storage.delete([storage.join_uri(store_root, names[0])])
    assert list_below(store_root, store_root) == [names[1]]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("photos/*.jpg", ["photos/a.jpg", "photos/b[1].jpg"]),
        ("photos/**/*.jpg", ["photos/2026/c.jpg", "photos/a.jpg", "photos/b[1].jpg"]),
        ("ph*/20*/?.jpg", ["photos/2026/c.jpg"]),
        ("photos/b[[]1].jpg", ["photos/b[1].jpg"]),
        ("photos/[ab].*", ["photos/a.jpg", "photos/a.txt"]),
        ("photos/none*", []),
    ],
)
def test_a_glob_is_matched_here(store_root, pattern, expected):
    put(
        store_root,
        *(
            "photos/a.jpg",
            "photos/a.txt",
            "photos/b[1].jpg",
            "photos/2026/c.jpg",
            "p",
            "photos/d.jpg.bak",
        ),
    )
    found = storage.iter_glob(storage.join_uri(store_root, pattern))
    assert [storage.relative_to(info.uri, store_root) for info in found] == expected


def test_a_missing_object_costs_its_own_answer_alone(store_root):
    put(store_root, "a", "c")
    infos = [
        storage.ObjectInfo(uri=storage.join_uri(store_root, name))
        for name in ("c", "absent", "a", "c/below")
    ]
    answers = storage.read_objects(infos, concurrency=2)
    assert [getattr(answer, "data", None) for answer in answers] == [
        b"bytes of c",
        None,
        b"bytes of a",
        None,
    ]
    for answer in (answers[1], answers[3]):
        assert isinstance(answer, ImageError)
        assert answer.reason is ImageReason.NOT_FOUND


def test_reading_nothing_gives_nothing():
    assert storage.read_objects([]) == []


def test_objects_of_two_stores_are_answered_in_order(s3_bucket, tmp_path):
    near, far = str(tmp_path), f"s3://{s3_bucket}"
    put(near, "a", "b")
    put(far, "a", "b")
    uris = [f"{near}/b", f"{far}/b", f"{near}/a", f"{far}/a"]
    answers = storage.read_objects([storage.ObjectInfo(uri=uri) for uri in uris])
    assert [answer.data for answer in answers if isinstance(answer, storage.ObjectBytes)] == [
        b"bytes of b",
        b"bytes of b",
        b"bytes of a",
        b"bytes of a",
    ]


def test_an_object_that_changed_since_the_listing_is_changed(store_root):
    put(store_root, "x")
    (info,) = storage.iter_objects(store_root)
    storage.write_bytes(info.uri, b"another version")
    unknown = storage.ObjectInfo(uri=info.uri)
    changed, read = storage.read_objects([info, unknown])
    assert isinstance(changed, ImageError)
    assert changed.reason is ImageReason.CHANGED
    assert isinstance(read, storage.ObjectBytes)
    assert read.data == b"another version"
    assert read.etag != info.etag


def test_an_object_over_the_limit_is_too_large(store_root):
    put(store_root, "x")
    size = len("bytes of x")
    uri = storage.join_uri(store_root, "x")
    infos = [storage.ObjectInfo(uri=uri)]
    (refused,) = storage.read_objects(infos, max_bytes=size - 1)
    (read,) = storage.read_objects(infos, max_bytes=size)
    assert isinstance(refused, ImageError)
    assert refused.reason is ImageReason.TOO_LARGE
    assert isinstance(read, storage.ObjectBytes)


@pytest.mark.parametrize("buffer_bytes", [7, 1 << 20])
def test_ranges_are_those_of_the_object(store_root, buffer_bytes):
    uri, data = storage.join_uri(store_root, "x"), bytes(range(200))
    storage.write_bytes(uri, data)
    with storage.open_range_reader(uri, buffer_bytes=buffer_bytes) as file:
        assert file.seekable()
        for start, length in [(0, 1), (190, 50), (3, 20), (100, 0), (200, 5), (0, 200)]:
            assert file.seek(start) == start
            assert file.read(length) == data[start : start + length]
        assert file.seek(-4, 2) == 196
        assert file.read() == data[-4:]
        assert file.tell() == 200


def test_pyarrow_reads_columns_through_the_range_reader(store_root):
    uri = storage.join_uri(store_root, "x.parquet")
    frame = pd.DataFrame({"image": [f"i{n}" for n in range(5000)], "score": range(5000)})
    storage.write_bytes(uri, frame.to_parquet())
    with storage.open_range_reader(uri) as file:
        table = pq.read_table(file, columns=["score"])
    assert table.column_names == ["score"]
    assert table["score"].to_pylist() == list(range(5000))


def test_creation_leaves_what_stands_there(store_root):
    uri = storage.join_uri(store_root, "deep", "lease.json")
    assert storage.create_bytes(uri, b"first") is True
    assert storage.create_bytes(uri, b"second") is False
    assert storage.read_bytes(uri) == b"first"


def test_a_probe_for_atomic_creation_leaves_nothing(store_root):
    put(store_root, "x")
    storage.supports_create_if_absent(storage.join_uri(store_root, ".tmp"))
    assert list_below(store_root, store_root) == ["x"]


def test_deleting_what_is_not_there_is_no_error(store_root):
    put(store_root, "a", "b")
    storage.delete([storage.join_uri(store_root, name) for name in ("a", "absent")])
    storage.delete([])
    assert list_below(store_root, store_root) == ["b"]


@pytest.fixture(params=["local", pytest.param("moto", marks=pytest.mark.s3)])
def strict_root(request, tmp_path):
    """Stores that decide at the put, or right before it, what it may replace."""
    if request.param == "local":
        return str(tmp_path)
    return f"s3://{request.getfixturevalue('moto_bucket')}/in"


@pytest.mark.parametrize("before", [None, b"old"])
def test_a_put_over_what_was_seen_replaces_it(strict_root, before):
    uri = storage.join_uri(strict_root, "x")
    if before is not None:
        storage.write_bytes(uri, before)
    storage.write_bytes(uri, b"new", seen=storage.look(uri))
    assert storage.read_bytes(uri) == b"new"


@pytest.mark.parametrize(
    ("before", "after"), [(None, b"newer"), (b"old", b"newer"), (b"old", None)]
)
def test_a_put_that_comes_late_leaves_what_stands_there(strict_root, before, after):
    uri = storage.join_uri(strict_root, "x")
    if before is not None:
        storage.write_bytes(uri, before)
    seen = storage.look(uri)
    if after is None:
        storage.delete([uri])
    else:
        storage.write_bytes(uri, after)
    with pytest.raises(OvertakenError, match="something else was put there"):
        storage.write_bytes(uri, b"late", seen=seen)
    assert storage.look(uri) != seen
    assert not storage.exists(uri) if after is None else storage.read_bytes(uri) == after


@pytest.mark.parametrize("before", [None, b"old"])
def test_a_put_whose_answer_got_lost_is_not_overtaken_by_itself(strict_root, before):
    uri = storage.join_uri(strict_root, "x")
    if before is not None:
        storage.write_bytes(uri, before)
    seen = storage.look(uri)
    for _ in range(2):
        storage.write_bytes(uri, b"new", seen=seen)
    assert storage.read_bytes(uri) == b"new"


def test_a_store_of_any_kind_takes_a_put_over_what_was_seen(store_root):
    uri = storage.join_uri(store_root, "x")
    for data in (b"first", b"second"):
        storage.write_bytes(uri, data, seen=storage.look(uri))
    assert storage.read_bytes(uri) == b"second"
