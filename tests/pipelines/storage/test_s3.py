"""What is special about S3: pages, folder keys, conditional puts and credentials?"""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pipelines import storage
from pipelines.errors import (
    ImageError,
    ImageReason,
    InputError,
    ObjectChangedError,
    StorageError,
    TransientStorageError,
)
from pipelines.storage.s3_client import _parse_timestamp
from tests.faults.plan import Operation
from tests.pipelines.storage.scripted_s3 import Reply, serve_script

pytestmark = pytest.mark.s3


def error_body(code):
    return f"<Error><Code>{code}</Code><Message>scripted</Message></Error>".encode()


def read_one(uri, **options):
    return storage.read_objects([storage.ObjectInfo(uri=uri)], **options)[0]


def test_a_listing_of_3000_keys_is_streamed_page_by_page(s3_server, s3_bucket, start_proxy):
    folder = s3_server.folder / s3_bucket / "many"
    folder.mkdir()
    for number in range(3000):
        (folder / f"{number:05d}.jpg").write_bytes(b"x")
    proxy = start_proxy()
    listing = storage.iter_objects(f"s3://{s3_bucket}/many/")
    uris = [next(listing).uri]
    assert len(proxy.requests) == 1
    uris += [info.uri for info in listing]
    assert uris == [f"s3://{s3_bucket}/many/{number:05d}.jpg" for number in range(3000)]
    assert [request.operation for request in proxy.requests] == [Operation.LIST] * 3
    assert len(storage.list_names(f"s3://{s3_bucket}/many")) == 3000


def test_a_prefix_may_be_an_object_and_a_folder_at_once(moto_bucket):
    root = f"s3://{moto_bucket}"
    for name in ("photos", "photos/a", "photos-old/b"):
        storage.write_bytes(f"{root}/{name}", b"x")
    found = [info.uri for info in storage.iter_objects(f"{root}/photos")]
    assert found == [f"{root}/photos", f"{root}/photos/a"]
    assert [i.uri for i in storage.iter_objects(f"{root}/photos/")] == [f"{root}/photos/a"]


def test_folder_keys_are_listed_as_such_and_are_no_names(moto_bucket):
    root = f"s3://{moto_bucket}/photos"
    for name in ("", "sub/", "sub/a", "b"):
        storage.write_bytes(f"{root}/{name}", b"")
    infos = {info.uri.removeprefix(root): info for info in storage.iter_objects(root)}
    assert {name for name, info in infos.items() if info.is_folder_key} == {"/", "/sub/"}
    assert set(infos) == {"/", "/sub/", "/sub/a", "/b"}
    assert storage.list_names(root) == {"b"}


@pytest.mark.parametrize("key", ["a//b.jpg", "a/../b.jpg", "./a.jpg", "/a.jpg"])
def test_a_key_that_is_no_path_survives(moto_bucket, key):
    root = f"s3://{moto_bucket}"
    storage.write_bytes(f"{root}/{key}", b"odd")
    storage.write_bytes(f"{root}/b.jpg", b"plain")
    assert {info.uri for info in storage.iter_objects(root)} == {f"{root}/{key}", f"{root}/b.jpg"}
    answer = read_one(f"{root}/{key}")
    assert isinstance(answer, storage.ObjectBytes)
    assert answer.data == b"odd"


def test_a_key_with_a_line_break_is_listed_and_asked_for_literally(monkeypatch):
    page = (
        b"<ListBucketResult><EncodingType>url</EncodingType>"
        b"<Contents><Key>new%0Aline%2520.jpg</Key></Contents></ListBucketResult>"
    )
    with serve_script(
        monkeypatch, Reply(body=page), Reply(body=b"odd"), Reply(status=404)
    ) as script:
        (info,) = storage.iter_objects("s3://bucket/")
        assert info.uri == "s3://bucket/new\nline%20.jpg"
        assert read_one(info.uri) == storage.ObjectBytes(data=b"odd", etag="v1")
        assert script.requests[1] == ("GET", "/bucket/new%0Aline%2520.jpg")
        assert "\n" not in str(read_one(info.uri))


def test_of_many_creators_at_once_one_succeeds_where_conditions_are_honoured(moto_bucket):
    uri, start = f"s3://{moto_bucket}/lease.json", threading.Barrier(8)

    def create(number):
        start.wait()
        return storage.create_bytes(uri, b"%d" % number)

    with ThreadPoolExecutor(8) as pool:
        wins = list(pool.map(create, range(8)))
    assert wins.count(True) == 1
    assert storage.read_bytes(uri) == b"%d" % wins.index(True)


def test_a_creation_is_refused_by_the_store_and_not_by_looking_first(moto_bucket, monkeypatch):
    from pipelines.storage.s3 import S3Store

    monkeypatch.setattr(S3Store, "find_object", lambda store, uri: None)
    assert storage.create_bytes(f"s3://{moto_bucket}/x", b"first") is True
    assert storage.create_bytes(f"s3://{moto_bucket}/x", b"second") is False
    assert storage.read_bytes(f"s3://{moto_bucket}/x") == b"first"


def test_a_store_that_honours_conditions_is_told_from_one_that_does_not(moto_bucket):
    assert storage.supports_create_if_absent(f"s3://{moto_bucket}/.tmp")


def test_a_store_that_ignores_conditions_is_found_out(s3_bucket):
    assert not storage.supports_create_if_absent(f"s3://{s3_bucket}/.tmp")


def test_a_store_that_knows_no_conditions_is_looked_at_first(monkeypatch):
    absent, unknown = Reply(status=404), Reply(status=501, body=error_body("NotImplemented"))
    with serve_script(monkeypatch, absent, unknown, Reply()) as script:
        assert storage.create_bytes("s3://bucket/x", b"data") is True
        assert [method for method, _ in script.requests] == ["HEAD", "PUT", "PUT"]


def test_a_missing_bucket_is_an_input_error_that_names_it(s3_bucket):
    uri = f"s3://{s3_bucket}-absent/photos/"
    for ask in (
        lambda: list(storage.iter_objects(uri)),
        lambda: list(storage.iter_glob(f"{uri}*")),
        lambda: storage.list_names(uri),
        lambda: storage.write_bytes(f"{uri}x", b"x"),
    ):
        with pytest.raises(InputError, match=rf"{uri}.*the bucket does not exist"):
            ask()
    assert not storage.exists(f"{uri}x")
    answer = read_one(f"{uri}x")
    assert isinstance(answer, ImageError)
    assert answer.reason is ImageReason.NOT_FOUND


@pytest.mark.parametrize("name", ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"])
def test_wrong_keys_are_a_sentence_without_the_keys(s3_bucket, monkeypatch, name):
    monkeypatch.setenv(name, "a-wrong-one")
    uri = f"s3://{s3_bucket}/x"
    for ask in (
        lambda: list(storage.iter_objects(uri)),
        lambda: storage.read_bytes(uri),
        lambda: storage.write_bytes(uri, b"x"),
        lambda: storage.create_bytes(uri, b"x"),
        lambda: storage.delete([uri]),
        lambda: read_one(uri),
    ):
        with pytest.raises(StorageError, match=r"no valid credentials|access denied") as caught:
            ask()
        assert caught.value.exit_code == 1
        for secret in (os.environ["AWS_ACCESS_KEY_ID"], os.environ["AWS_SECRET_ACCESS_KEY"]):
            assert secret not in str(caught.value)


def test_no_credentials_at_all_are_a_sentence(s3_bucket, monkeypatch):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(StorageError, match=r"no valid credentials .* set AWS_ACCESS_KEY_ID"):
        list(storage.iter_objects(f"s3://{s3_bucket}/x"))


def test_an_unreachable_server_is_transient(s3_bucket, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    with pytest.raises(TransientStorageError, match=r"check the network.*AWS_ENDPOINT_URL"):
        list(storage.iter_objects(f"s3://{s3_bucket}/x"))
    answer = read_one(f"s3://{s3_bucket}/x")
    assert isinstance(answer, ImageError)
    assert answer.reason is ImageReason.UNAVAILABLE


@pytest.mark.parametrize(
    ("name", "value", "kind"),
    [
        ("AWS_ENDPOINT_URL", "127.0.0.1:9000", InputError),
        ("AWS_PROFILE", "of-nobody", StorageError),
    ],
)
def test_a_client_that_cannot_be_made_is_a_sentence(s3_bucket, monkeypatch, name, value, kind):
    monkeypatch.setenv(name, value)
    for ask in (
        lambda: list(storage.iter_objects(f"s3://{s3_bucket}/x")),
        lambda: storage.read_bytes(f"s3://{s3_bucket}/x"),
        lambda: read_one(f"s3://{s3_bucket}/x"),
    ):
        with pytest.raises(kind, match=rf"{name}|{value}"):
            ask()


def test_a_large_object_is_refused_before_its_body_comes(monkeypatch):
    with serve_script(monkeypatch, Reply(body=b"x" * 10, length=10_000_000)):
        answer = read_one("s3://bucket/x", max_bytes=1000)
        assert isinstance(answer, ImageError)
        assert answer.reason is ImageReason.TOO_LARGE


def test_an_object_replaced_between_two_ranges_is_an_error(s3_bucket):
    uri = f"s3://{s3_bucket}/x"
    storage.write_bytes(uri, b"a" * 100)
    with storage.open_range_reader(uri, buffer_bytes=10) as file:
        assert file.read(10) == b"a" * 10
        storage.write_bytes(uri, b"b" * 100)
        with pytest.raises(ObjectChangedError, match="changed while it was read"):
            file.read(50)


def list_page(*names, token=""):
    """A page of a listing, of objects of as many bytes as their place in it."""
    entries = "".join(
        f"<Contents><Key>{name}</Key><Size>{size}</Size></Contents>"
        for size, name in enumerate(names)
    )
    cut = (
        f"<IsTruncated>true</IsTruncated><NextContinuationToken>{token}</NextContinuationToken>"
        if token
        else ""
    )
    return Reply(body=f"<ListBucketResult>{cut}{entries}</ListBucketResult>".encode())


def test_a_key_that_is_named_several_times_in_a_row_is_listed_once(monkeypatch):
    with serve_script(monkeypatch, list_page("in/a.jpg", "in/a.jpg", "in/a.jpg", "in/b.jpg")):
        listed = [(info.uri, info.size) for info in storage.iter_objects("s3://bucket/in/")]
    assert listed == [("s3://bucket/in/a.jpg", 0), ("s3://bucket/in/b.jpg", 3)]


def test_a_key_that_ends_a_page_and_begins_the_next_one_is_listed_once(monkeypatch):
    pages = (list_page("in/a", "in/b", token="on"), list_page("in/b", "in/c"))
    with serve_script(monkeypatch, *pages) as script:
        listed = [info.uri for info in storage.iter_objects("s3://bucket/in/")]
    assert listed == [f"s3://bucket/in/{name}" for name in "abc"]
    assert len(script.requests) == 2


def test_a_listing_cut_without_a_token_is_an_error(monkeypatch):
    page = (
        b"<ListBucketResult><IsTruncated>true</IsTruncated>"
        b"<Contents><Key>a</Key><Size>1</Size></Contents></ListBucketResult>"
    )
    with serve_script(monkeypatch, Reply(body=page)):
        listing = storage.iter_objects("s3://bucket/")
        assert next(listing) == storage.ObjectInfo(uri="s3://bucket/a", size=1)
        with pytest.raises(StorageError, match="no token"):
            next(listing)


def test_a_forked_process_uses_a_client_of_its_own(s3_bucket):
    uri = f"s3://{s3_bucket}/x"
    storage.write_bytes(uri, b"shared")
    context = multiprocessing.get_context("fork")
    queue = context.SimpleQueue()
    child = context.Process(target=lambda: queue.put(storage.read_bytes(uri)))
    child.start()
    child.join(20)
    assert child.exitcode == 0
    assert queue.get() == b"shared"
    assert storage.read_bytes(uri) == b"shared"


def test_a_child_process_finds_the_server_through_the_environment(s3_bucket):
    storage.write_bytes(f"s3://{s3_bucket}/x", b"for the child")
    program = f"from pipelines import storage; print(storage.read_bytes('s3://{s3_bucket}/x'))"
    ended = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, cwd=Path.cwd()
    )
    assert ended.stdout.strip() == b"b'for the child'"


@pytest.mark.parametrize(
    "text",
    [
        "2026-11-20T17:31:03.250Z",
        "2026-11-20T17:31:03.250+00:00",
        "2026-11-20T19:31:03.250+0200",
        "Fri, 20 Nov 2026 17:31:03.250 GMT",
        "1795195863.25",
    ],
)
def test_a_time_is_read_however_a_server_writes_it(text):
    assert _parse_timestamp(text).timestamp() == 1795195863.25
