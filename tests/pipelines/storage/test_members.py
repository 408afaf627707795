"""Is a member of a tar read by its range alone, of the version that was listed, on every store?"""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines import storage
from pipelines.errors import ImageError, ImageReason
from pipelines.storage import ObjectInfo
from tests.faults.plan import Fault, FaultRates, Operation
from tests.pipelines.storage.scripted_s3 import Reply, serve_script
from tests.pipelines.storage.test_remote import memory, put, read_one, web

__all__ = ["memory", "web"]

DATA = bytes(range(256)) * 8
TAR = "x.tar"


def put_tar(root, data=DATA):
    """Put an object that is called a tar: nothing here looks at its headers."""
    uri = storage.join_uri(root, TAR)
    storage.write_bytes(uri, data)
    return storage.find_object(uri)


def member_of(tar, offset, size, name="a.jpg"):
    return replace(tar, uri=storage.join_member(tar.uri, name), size=size, offset=offset)


def reason_of(answer):
    assert isinstance(answer, ImageError), answer
    return answer.reason


def test_an_object_is_described_as_a_listing_shows_it(store_root):
    found, (listed,) = put_tar(store_root), storage.iter_objects(store_root)
    # HTTP tells the time of a single object in whole seconds.
    assert abs(found.mtime - listed.mtime) < 1
    assert replace(found, mtime=listed.mtime) == listed
    assert storage.find_object(store_root) is None, "a folder is none"
    assert storage.find_object(storage.join_uri(store_root, "absent")) is None


def test_members_are_the_bytes_of_their_ranges(store_root):
    tar = put_tar(store_root)
    spans = [(512, 100), (700, 1), (1024, 1024), (512, 0), (2048, 0), (1, 511)]
    answers = storage.read_objects([member_of(tar, *span) for span in spans])
    assert [answer.data for answer in answers] == [DATA[at : at + size] for at, size in spans]
    assert {answer.etag for answer in answers} == {tar.etag}


@pytest.mark.parametrize(
    "name", ["", "a b#c.jpg", "../../etc/x.jpg", "/x.jpg", "a\nb", "日", "?*["]
)
def test_the_name_of_a_member_is_text_alone(store_root, name):
    tar = put_tar(store_root)
    (answer,) = storage.read_objects([member_of(tar, 600, 10, name)])
    assert answer.data == DATA[600:610]


def test_a_whole_object_may_be_named_like_a_member(store_root):
    uri = storage.join_uri(store_root, f"{TAR}#a.jpg")
    storage.write_bytes(uri, b"whole")
    put_tar(store_root)
    (answer,) = storage.read_objects([ObjectInfo(uri=uri)])
    assert answer.data == b"whole"


@pytest.mark.parametrize("data", [DATA[::-1], DATA[:600], b""], ids=["same", "shorter", "empty"])
def test_a_member_of_a_tar_that_changed_is_changed(store_root, data):
    tar = put_tar(store_root)
    put_tar(store_root, data)
    infos = [member_of(tar, 512, 100), member_of(tar, 1024, 0), member_of(tar, 1024, 9)]
    answers = storage.read_objects(infos)
    assert {reason_of(answer) for answer in answers} == {ImageReason.CHANGED}


def test_a_member_of_a_tar_that_is_gone_is_not_found(store_root):
    tar = put_tar(store_root)
    storage.delete([tar.uri])
    (answer,) = storage.read_objects([member_of(tar, 512, 100)])
    assert reason_of(answer) is ImageReason.NOT_FOUND


@pytest.mark.parametrize(("offset", "size"), [(1948, 101), (2048, 1), (512, 2**62)])
def test_a_member_beyond_the_end_of_its_tar_is_truncated(store_root, offset, size):
    (answer,) = storage.read_objects([member_of(put_tar(store_root), offset, size)])
    assert reason_of(answer) is ImageReason.TRUNCATED
    assert f"after {2048 - offset} of its {size} bytes" in answer.message


def test_a_member_over_the_limit_is_too_large_and_its_neighbours_are_not(store_root):
    tar = put_tar(store_root)
    infos = [member_of(tar, 512, 101), member_of(tar, 512, 100)]
    large, read = storage.read_objects(infos, max_bytes=100)
    assert reason_of(large) is ImageReason.TOO_LARGE
    assert read.data == DATA[512:612]


@pytest.mark.s3
def test_a_range_and_no_more_is_asked_for(s3_bucket, start_proxy):
    tar, proxy = put_tar(f"s3://{s3_bucket}"), start_proxy()
    storage.read_objects([member_of(tar, 512, 100)])
    assert [(r.operation, r.byte_range) for r in proxy.requests] == [
        (Operation.GET, "bytes=511-611")
    ]


@pytest.mark.s3
def test_a_range_survives_every_fault_at_the_price_of_one_more_request(
    s3_bucket, start_proxy, monkeypatch
):
    monkeypatch.setattr("pipelines.storage.retries._FIRST_PAUSE_S", 0.0)
    tar, proxy = put_tar(f"s3://{s3_bucket}"), start_proxy(FaultRates(stall_s=0.02))
    for fault in set(Fault) - {Fault.EXPIRED_TOKEN}:
        before = len(proxy.requests)
        proxy.fail_next(Operation.GET, fault)
        (answer,) = storage.read_objects([member_of(tar, 512, 1000)])
        assert answer.data == DATA[512:1512]
        assert len(proxy.requests) - before == 1 + (fault is not Fault.STALL)


@pytest.mark.s3
def test_a_server_that_gives_the_whole_object_is_not_believed(monkeypatch):
    with serve_script(monkeypatch, Reply(body=DATA)) as script:
        info = ObjectInfo(uri="s3://bucket/x.tar#a.jpg", size=100, etag="v1", offset=512)
        (answer,) = storage.read_objects([info])
        assert reason_of(answer) is ImageReason.UNAVAILABLE
        assert "whole object" in answer.message
        assert len(script.requests) == 1


def test_members_are_read_from_other_stores(memory):
    store, root = memory
    put(store, root, TAR)
    uri = f"{root}/{TAR}#m.jpg"
    assert read_one(store, uri, offset=3, size=5).data == f"bytes of {TAR}".encode()[3:8]
    assert reason_of(read_one(store, uri, offset=3, size=99)) is ImageReason.TRUNCATED
    assert reason_of(read_one(store, uri, max_bytes=3, offset=3, size=4)) is ImageReason.TOO_LARGE
    assert reason_of(read_one(store, f"{root}/y.tar#m", offset=3, size=1)) is ImageReason.NOT_FOUND


def test_an_empty_member_of_other_stores_is_not_asked_for(memory, monkeypatch):
    """A server takes a range without bytes for none at all, and gives the whole object."""
    store, root = memory
    put(store, root, TAR)
    monkeypatch.setattr(store._locate(root)[0], "cat_file", None)
    assert read_one(store, f"{root}/{TAR}#m.jpg", offset=3, size=0).data == b""


def test_members_are_read_over_https(web):
    store, root = web
    assert store.find_object(f"{root}/{TAR}").etag == "v1"
    found = read_one(store, f"{root}/{TAR}#m.jpg", offset=1, size=2, etag="v1")
    assert found == storage.ObjectBytes(data=b"at", etag="v1")
    changed = read_one(store, f"{root}/{TAR}#m.jpg", offset=1, size=2, etag="v0")
    assert reason_of(changed) is ImageReason.CHANGED


def test_a_range_that_comes_short_is_asked_for_again(memory, monkeypatch):
    store, root = memory
    put(store, root, TAR)
    filesystem, _ = store._locate(root)
    cat_file, calls = filesystem.cat_file, []

    def cut_once(path, **options):
        calls.append(path)
        return cat_file(path, **options)[: 1 if len(calls) == 1 else None]

    monkeypatch.setattr("pipelines.storage.retries._FIRST_PAUSE_S", 0.0)
    monkeypatch.setattr(filesystem, "cat_file", cut_once)
    assert read_one(store, f"{root}/{TAR}#m.jpg", offset=0, size=5).data == b"bytes"
    assert len(calls) == 2


@settings(max_examples=50, deadline=None, derandomize=True)
@given(tar=st.sampled_from(["/a/b.tar", "s3://b/x#y/c.TAR", "https://h/.tar"]), member=st.text())
def test_tar_and_member_are_told_apart_whatever_the_member_is_called(tar, member):
    assert storage.split_member(storage.join_member(tar, member)) == (tar, member)
    assert storage.split_member(tar) is None
