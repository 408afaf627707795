"""Which objects does a run take, and which inputs does it refuse?"""

from __future__ import annotations

import itertools

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines import storage
from pipelines.errors import InputError
from pipelines.images import IMAGE_SUFFIXES
from pipelines.selection import SelectionCounts, select_images
from pipelines.storage import ObjectInfo
from pipelines.storage.local import LocalStore
from tests.pipelines.tar_files import make_tar, put_tar


def put(root, *names):
    for name in names:
        storage.write_bytes(storage.join_uri(root, name), b"any bytes")


def select(images, *, output="/nowhere", suffixes=IMAGE_SUFFIXES, limit=None):
    """URIs of the images, and how many objects were skipped."""
    counts = SelectionCounts()
    found = select_images(
        storage.resolve_uri(images), output=output, suffixes=suffixes, counts=counts, limit=limit
    )
    return [info.uri for info in found], counts.skipped


def select_names(root, images, **options):
    uris, skipped = select(storage.join_uri(root, images), **options)
    return [storage.relative_to(uri, root) for uri in uris], skipped


def put_list(root, name, text):
    uri = storage.join_uri(root, name)
    storage.write_bytes(uri, text.encode() if isinstance(text, str) else text)
    return uri


def encode_parquet(**columns):
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(columns), sink)
    return sink.getvalue().to_pybytes()


def refusal(images, **options):
    with pytest.raises(InputError) as error:
        select(images, **options)
    message = str(error.value)
    assert "\n" not in message
    return message


def test_a_prefix_gives_the_images_below_it_in_key_order(store_root):
    put(store_root, "in/b.jpg", "in/a/z.png", "in/a.jpg", "in-old/c.jpg")
    assert select_names(store_root, "in") == (["in/a.jpg", "in/a/z.png", "in/b.jpg"], 0)


def test_suffixes_match_in_any_case_and_the_rest_is_counted(store_root):
    put(store_root, "in/a.JPG", "in/b.JpEg", "in/c.txt", "in/d.jpg.bak", "in/jpg", "in/e.TIFF")
    assert select_names(store_root, "in") == (["in/a.JPG", "in/b.JpEg", "in/e.TIFF"], 3)


def test_other_suffixes_may_be_asked_for_in_any_case(store_root):
    put(store_root, "in/a.JPG", "in/b.dat")
    assert select_names(store_root, "in", suffixes=(".DAT",)) == (["in/b.dat"], 1)


def test_a_glob_gives_what_it_matches(store_root):
    put(store_root, "in/1/a.jpg", "in/2/b.jpg", "in/2/c/d.jpg", "in/2/e.txt")
    assert select_names(store_root, "in/*/*") == (["in/1/a.jpg", "in/2/b.jpg"], 1)
    assert select_names(store_root, "in/**/*.jpg")[0] == [
        "in/1/a.jpg",
        "in/2/b.jpg",
        "in/2/c/d.jpg",
    ]


def test_a_folder_with_brackets_in_its_name_is_no_glob(store_root):
    put(store_root, "trip[1]/a.jpg", "trip1/b.jpg")
    assert select_names(store_root, "trip[1]") == (["trip[1]/a.jpg"], 0)


def test_brackets_are_a_glob_where_no_folder_has_that_name(store_root):
    put(store_root, "trip1/a.jpg", "trip2/b.jpg", "trip3/c.jpg")
    assert select_names(store_root, "trip[12]/*") == (["trip1/a.jpg", "trip2/b.jpg"], 0)


def test_a_glob_whose_range_goes_down_is_refused(store_root):
    put(store_root, "in/a.jpg")
    assert "[z-a]*.jpg: the range z-a" in refusal(storage.join_uri(store_root, "in/[z-a]*.jpg"))


def test_one_image_may_be_named(store_root):
    put(store_root, "in/a.jpg", "in/a.jpg.png")
    assert select_names(store_root, "in/a.jpg") == (["in/a.jpg"], 0)


def test_the_output_inside_the_images_is_left_out_and_its_namesake_is_not(store_root):
    put(store_root, "in/a.jpg", "in/out/images/b.jpg", "in/out-2/c.jpg", "in/out.jpg")
    for end in ("", "/"):
        output = storage.join_uri(store_root, "in", "out") + end
        found, skipped = select_names(store_root, "in", output=output)
        assert found == ["in/a.jpg", "in/out-2/c.jpg", "in/out.jpg"]
        assert skipped == 0


@pytest.mark.parametrize("images", ["", "/in", "/in/*.jpg"])
def test_images_inside_the_output_are_refused(store_root, images):
    put(store_root, "in/a.jpg")
    assert "choose another output" in refusal(store_root + images, output=store_root)


@pytest.mark.parametrize("pattern", ["in", "in/*.jpg"])
def test_an_object_that_a_store_lists_twice_out_of_order_is_one_image(
    tmp_path, monkeypatch, pattern
):
    listed = [ObjectInfo(uri=f"{tmp_path}/in/{name}.jpg") for name in "cabcdab"]
    monkeypatch.setattr(LocalStore, "iter_objects", lambda *_: iter(listed))
    monkeypatch.setattr("pipelines.selection._is_folder", lambda _: False)
    assert select_names(str(tmp_path), pattern) == ([f"in/{name}.jpg" for name in "cabd"], 0)


def test_a_missing_folder_is_refused(tmp_path):
    assert str(tmp_path / "absent") in refusal(str(tmp_path / "absent"))
    assert "does not exist" in refusal(str(tmp_path / "absent" / "*.jpg"))


@pytest.mark.s3
def test_a_missing_bucket_is_refused(s3_bucket):
    for images in ("s3://no-such-bucket/in", "s3://no-such-bucket/*.jpg"):
        assert "no-such-bucket" in refusal(images)


@pytest.mark.s3
def test_a_folder_key_is_skipped(moto_bucket):
    root = f"s3://{moto_bucket}"
    put(root, "in/", "in/sub.jpg/", "in/sub.jpg/a.jpg")
    assert select_names(root, "in") == (["in/sub.jpg/a.jpg"], 2)


def test_a_selection_is_streamed(store_root):
    put(store_root, *(f"in/{number}.jpg" for number in range(5)), "in/z.txt")
    counts = SelectionCounts()
    uri = storage.resolve_uri(storage.join_uri(store_root, "in"))
    found = select_images(uri, output="/nowhere", suffixes=IMAGE_SUFFIXES, counts=counts)
    assert len(list(itertools.islice(found, 2))) == 2
    assert counts.skipped == 0
    assert len(list(found)) == 3
    assert counts.skipped == 1


@pytest.mark.parametrize("name", ["list.txt", "LIST.TXT"])
def test_a_text_list_is_taken_as_it_stands(store_root, name):
    entries = ["s3://bucket/b.jpg", "s3://bucket/no-suffix", "s3://bucket/ a.jpg"]
    uri = put_list(store_root, name, "\r\n".join(entries) + "\n\n")
    assert select(uri) == (entries, 0)


def test_a_parquet_list_may_tell_size_and_etag(store_root):
    entries = ["s3://bucket/b.jpg", "s3://bucket/a.jpg"]
    data = encode_parquet(image=entries, size=[5, None], etag=["x", None], other=[1, 2])
    uri = put_list(store_root, "list.parquet", data)
    found = select_images(uri, output="/nowhere", suffixes=(), counts=SelectionCounts())
    assert [(info.uri, info.size, info.etag) for info in found] == [
        ("s3://bucket/b.jpg", 5, "x"),
        ("s3://bucket/a.jpg", 0, ""),
    ]


def test_local_entries_of_a_local_list_become_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    uri = put_list(str(tmp_path), "list.txt", "photos/a.jpg\nfile:///b.jpg\n/what?.jpg\n")
    assert select(uri)[0] == [str(tmp_path / "photos" / "a.jpg"), "/b.jpg", "/what?.jpg"]


def test_a_duplicate_in_a_list_is_refused_with_its_place(store_root):
    uri = put_list(store_root, "list.txt", "s3://b/x.jpg\ns3://b/y.jpg\nS3://b/x.jpg\n")
    message = refusal(uri)
    assert "entries that are in it twice, 1 in all: entry 3 (s3://b/x.jpg)" in message


def test_all_duplicates_in_a_list_are_told_at_once_by_their_lines(store_root):
    lines = ["s3://b/x.jpg", "", "s3://b/x.jpg", "s3://b/y.jpg", "  ", *["s3://b/y.jpg"] * 9]
    message = refusal(put_list(store_root, "list.txt", "\n".join(lines)))
    assert "10 in all: entry 3 (s3://b/x.jpg), entry 6 (s3://b/y.jpg), entry 7" in message
    assert "and 5 more" in message


@pytest.mark.parametrize("null", [None, 7])
def test_a_row_of_a_parquet_list_without_a_uri_is_refused_with_its_place(store_root, null):
    names = [None, None, None] if null is None else [null] * 3
    names = ["s3://b/x.jpg", None] if null is None else names
    message = refusal(put_list(store_root, "list.parquet", encode_parquet(image=names)))
    assert (
        f"list.parquet, entry {2 if null is None else 1}: the column image holds {null!r}"
        in message
    )


@pytest.mark.parametrize("entry", ["s3://b/x.jpg?", "s3://b/x.jpg?hunter2"])
def test_a_query_string_in_a_list_is_refused_and_not_repeated(store_root, entry):
    message = refusal(put_list(store_root, "list.txt", f"s3://b/a.jpg\n{entry}\n"))
    assert "entry 2" in message
    assert "query string" in message
    assert "hunter2" not in message


@pytest.mark.parametrize(
    "entry",
    [
        "https://h/x.jpg?X-Amz-Signature=hunter2",
        "s3://b/x.jpg?versionId=hunter2",
        "s3://u:hunter2@b/x",
    ],
)
def test_a_signed_uri_in_a_list_is_refused_and_not_repeated(store_root, entry):
    assert "hunter2" not in refusal(put_list(store_root, "list.txt", f"{entry}\n"))


@pytest.mark.s3
def test_a_local_path_in_a_remote_list_is_refused(s3_bucket):
    for entry in ("/etc/secret.jpg", "file:///etc/secret.jpg", "secret.jpg"):
        uri = put_list(f"s3://{s3_bucket}", "list.txt", f"s3://b/x.jpg\n{entry}\n")
        message = refusal(uri)
        assert "entry 2" in message
        assert "local path" in message


def test_a_missing_list_is_refused(store_root):
    for name in ("absent.txt", "absent.parquet"):
        assert "no such object" in refusal(storage.join_uri(store_root, name))


def test_a_list_that_is_no_list_is_refused(store_root):
    other = encode_parquet(uri=["s3://b/x.jpg"])
    assert "expected one named image" in refusal(put_list(store_root, "a.parquet", other))
    assert "not a Parquet file" in refusal(put_list(store_root, "b.parquet", "text"))
    assert "not UTF-8" in refusal(put_list(store_root, "c.txt", b"\xff\xfe"))


def test_an_empty_list_gives_nothing(store_root):
    assert select(put_list(store_root, "list.txt", "\n\n")) == ([], 0)


def put_shards(root):
    """Two tars of two images and a label each, among other objects."""
    put(root, "in/photo.jpg", "in/notes.txt")
    for number in range(2):
        files = [(name, b"any") for name in ("b.jpg", "a.PNG", "b.cls")]
        put_tar(storage.join_uri(root, "in", f"t-{number}.tar"), files)


IN_SHARDS = [f"in/t-{number}.tar#{name}" for number in range(2) for name in ("b.jpg", "a.PNG")]


def test_a_named_tar_is_opened(store_root):
    put_shards(store_root)
    assert select_names(store_root, "in/t-0.tar") == (IN_SHARDS[:2], 1)


@pytest.mark.parametrize("pattern", ["in/*.tar", "in/t-?.tar", "**/*-[01].tar", "*/**.tar"])
def test_a_glob_that_ends_in_tar_opens_what_it_matches(store_root, pattern):
    put_shards(store_root)
    assert select_names(store_root, pattern) == (IN_SHARDS, 2)


@pytest.mark.parametrize("pattern", ["in", "in/", "in/*", "in/t*"])
def test_a_tar_that_is_not_named_is_an_object_like_others(store_root, pattern):
    put_shards(store_root)
    counts = SelectionCounts()
    uri = storage.resolve_uri(storage.join_uri(store_root, pattern))
    found = select_images(uri, output="/nowhere", suffixes=IMAGE_SUFFIXES, counts=counts)
    assert [info.uri for info in found] == [f"{store_root}/in/photo.jpg"] * (pattern != "in/t*")
    assert (counts.tars, counts.skipped) == (2, 2 if pattern == "in/t*" else 3)


def test_tars_in_a_list_are_opened_among_images(store_root):
    put_shards(store_root)
    names = ["in/t-1.tar", "in/photo.jpg", "in/t-0.tar"]
    text = "\n".join(storage.join_uri(store_root, name) for name in names)
    uris, skipped = select(put_list(store_root, "list.txt", text))
    expected = [*IN_SHARDS[2:], "in/photo.jpg", *IN_SHARDS[:2]]
    assert [storage.relative_to(uri, store_root) for uri in uris] == expected
    assert skipped == 2


def test_suffixes_are_asked_of_members(store_root):
    put_shards(store_root)
    found = select_names(store_root, "in/*.tar", suffixes=(".CLS",))
    assert found == (["in/t-0.tar#b.cls", "in/t-1.tar#b.cls"], 4)


def test_a_known_tar_stands_for_its_members(store_root):
    put_shards(store_root)
    first, second = storage.iter_glob(storage.join_uri(store_root, "in/*.tar"))
    found = select_images(
        storage.resolve_uri(storage.join_uri(store_root, "in/*.tar")),
        output="/nowhere",
        suffixes=IMAGE_SUFFIXES,
        counts=SelectionCounts(),
        known_tars={first.uri: first.etag, second.uri: "another"},
    )
    uris = [storage.relative_to(info.uri, store_root) for info in found]
    assert uris == ["in/t-0.tar", *IN_SHARDS[2:]]


def test_a_folder_may_be_called_like_a_tar(store_root):
    put(store_root, "in.tar/a.jpg", "in.tgz/b.jpg")
    assert select_names(store_root, "in.tar") == (["in.tar/a.jpg"], 0)
    assert select_names(store_root, "in.tgz") == (["in.tgz/b.jpg"], 0)


def test_tars_of_the_output_are_left_out(store_root):
    put_shards(store_root)
    put_tar(storage.join_uri(store_root, "in", "out", "x.tar"), [("x.jpg", b"any")])
    output = storage.join_uri(store_root, "in", "out")
    assert select_names(store_root, "in/**.tar", output=output) == (IN_SHARDS, 2)


@pytest.mark.parametrize("name", ["a.tar.gz", "a.tgz", "A.TAR.ZST"])
def test_a_compressed_tar_is_refused_where_it_is_named(store_root, name):
    put(store_root, f"in/{name}", "in/a.jpg")
    uri = storage.join_uri(store_root, "in", name)
    pattern = storage.join_uri(store_root, "in", f"*{name[1:]}")
    for images in (uri, pattern, put_list(store_root, "list.txt", uri)):
        assert "unpack it" in refusal(images)
    assert select_names(store_root, "in") == (["in/a.jpg"], 1)


def test_an_image_that_is_called_like_a_tar_before_its_ending_is_an_image(store_root):
    put(store_root, "in/holiday.tar.jpg")
    uri = storage.join_uri(store_root, "in", "holiday.tar.jpg")
    for images in (uri, put_list(store_root, "list.txt", uri)):
        assert select(images) == ([uri], 0)


def test_a_tar_that_is_missing_or_none_is_refused(store_root):
    absent = storage.join_uri(store_root, "absent.tar")
    assert "no such object" in refusal(put_list(store_root, "list.txt", absent))
    put(store_root, "in/bad.tar")
    assert "not a tar" in refusal(storage.join_uri(store_root, "in", "*.tar"))


def test_all_damaged_tars_are_told_at_once_and_none_is_left_out(store_root):
    whole = make_tar([("a.jpg", b"1" * 600), ("b.jpg", b"2" * 600)])
    damaged = bytearray(whole)
    damaged[1536:1700] = b"x" * 164
    contents = {"a": whole, "b": b"no tar", "c": whole[:2000], "d": bytes(damaged), "e": whole}
    for name, data in contents.items():
        storage.write_bytes(storage.join_uri(store_root, "in", f"{name}.tar"), data)
    message = refusal(storage.join_uri(store_root, "in", "*.tar"))
    bad = ", ".join(storage.join_uri(store_root, "in", f"{name}.tar") for name in "bcd")
    assert (
        f"tars that cannot be read to their end, for none is left out in silence, 3 in all: {bad}"
        in message
    )
    assert "(the first: not a tar" in message


def test_a_damaged_tar_is_told_though_a_limit_ends_the_listing_behind_it(store_root):
    put_tar(storage.join_uri(store_root, "in", "b.tar"), [("a.jpg", b"1"), ("b.jpg", b"2")])
    put(store_root, "in/a.tar")
    assert "a.tar (not a tar" in refusal(storage.join_uri(store_root, "in", "*.tar"), limit=1)


def test_a_member_in_a_list_is_refused_and_a_key_with_a_hash_is_not(store_root):
    text = "s3://b/a#b.jpg\ns3://b/x.tar#a.jpg"
    message = refusal(put_list(store_root, "list.txt", text))
    assert "entry 2: s3://b/x.tar#a.jpg is a member of a tar; list the tar" in message
