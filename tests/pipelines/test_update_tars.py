"""What do an update and a retry do with the members of tars?"""

from __future__ import annotations

from dataclasses import replace

from pipelines import storage
from pipelines.comparison import Changes, Comparison
from pipelines.manifest import open_manifest
from pipelines.storage import ObjectInfo
from pipelines.tars import TarIndex
from tests.pipelines.manifest.updates import (
    begin,
    look_again,
    make_info,
    read_todo,
    short_names,
    uris,
)
from tests.pipelines.manifest.written import read_back
from tests.pipelines.tar_files import put_tar


def make_members(*versions, tar="t.tar", size=10):
    """Members of a tar, in its order: `make_members("a1", "b1")`, name then the tar's version."""
    return [
        ObjectInfo(
            uri=f"s3://b/{tar}#{text[0]}",
            size=size,
            etag=text[1:],
            mtime=1.0,
            offset=512 + 1024 * at,
        )
        for at, text in enumerate(versions)
    ]


def compare(output):
    return Comparison(open_manifest(output), {}, None)


def test_an_unchanged_tar_stands_for_its_members(store_root):
    begin(store_root, [*make_members("a1", "b1"), *make_members("c1", tar="u.tar"), make_info("x")])
    assert compare(store_root).tars == {"s3://b/t.tar": "1", "s3://b/u.tar": "1"}
    listing = [ObjectInfo(uri="s3://b/t.tar", size=9000, etag="1"), make_info("x")]
    assert look_again(store_root, listing) == Changes(vanished=1)
    assert short_names(store_root) == ["ab", "x"]
    assert read_todo(store_root) == (set(), {0})


def test_a_changed_tar_changes_all_its_members_and_their_places(store_root):
    begin(store_root, make_members("a1", "b1", "c1"))
    listing = make_members("c2", "a2", "d2")
    assert look_again(store_root, listing) == Changes(added=1, changed=2, vanished=1)
    assert [entry.info for entry in read_back(store_root)[0]] == [listing[1], listing[0]]


def test_a_tar_whose_members_are_of_two_versions_is_never_taken_as_a_whole(tmp_path):
    begin(str(tmp_path), make_members("a1", "b2"))
    assert compare(str(tmp_path)).tars == {"s3://b/t.tar": ""}


def test_members_that_have_moved_have_changed_where_a_store_has_no_etags(tmp_path):
    begin(str(tmp_path), make_members("a", "b"))
    assert look_again(str(tmp_path), make_members("a", "b")) == Changes()
    assert look_again(str(tmp_path), make_members("b", "a")) == Changes(changed=2)


def test_a_retry_looks_up_the_tar_of_failed_members_and_takes_their_new_places(tmp_path):
    tar = str(tmp_path / "in" / "t.tar")
    put_tar(tar, [("a.jpg", b"a"), ("b.jpg", b"bb"), ("c.jpg", b"ccc")])
    listed = list(TarIndex(ObjectInfo(uri=tar), suffixes=(".jpg",)))
    output = str(tmp_path / "out")
    begin(output, listed)
    failed = {0: {listed[1].uri, listed[2].uri}}
    assert look_again(output, None, failed) == Changes(retried=2)
    put_tar(tar, [("new.jpg", bytes(5000)), ("b.jpg", b"BBBB"), ("a.jpg", b"a")])
    # Of the member that is gone, the read says why.
    assert look_again(output, None, failed) == Changes(changed=1, retried=1)
    now = list(TarIndex(ObjectInfo(uri=tar), suffixes=(".jpg",)))
    taken = replace(now[1], mtime=0.0)
    assert [entry.info for entry in read_back(output)[0]] == [listed[0], taken, listed[2]]


def test_after_a_retry_of_all_members_of_a_tar_an_update_looks_for_others(tmp_path):
    tar, output = str(tmp_path / "in" / "t.tar"), str(tmp_path / "out")
    put_tar(tar, [("a.jpg", b"a")])
    (info,) = TarIndex(ObjectInfo(uri=tar), suffixes=(".jpg",))
    begin(output, [info])
    put_tar(tar, [("a.jpg", b"b"), ("b.jpg", b"bb")])
    assert look_again(output, None, {0: {info.uri}}) == Changes(changed=1)
    comparison = compare(output)
    assert comparison.tars == {tar: ""}
    members = TarIndex(ObjectInfo(uri=tar), suffixes=(".jpg",))
    assert look_again(output, members) == Changes(added=1)


def test_a_retry_goes_on_where_a_tar_is_none_any_more(tmp_path, caplog):
    tar = str(tmp_path / "in" / "t.tar")
    put_tar(tar, [("a.jpg", b"a")])
    (info,) = TarIndex(ObjectInfo(uri=tar), suffixes=(".jpg",))
    output = str(tmp_path / "out")
    begin(output, [info])
    storage.write_bytes(tar, b"no tar" * 200)
    assert look_again(output, None, {0: {info.uri}}) == Changes(retried=1)
    assert "not a tar" in caplog.text


def test_a_retry_looks_up_each_tar_once(tmp_path, monkeypatch):
    members = make_members("a1", "b1")
    begin(str(tmp_path), [*members, make_info("x")])
    asked = []
    monkeypatch.setattr("pipelines.lookup._look_up", asked.append)
    failed = {0: {*(info.uri for info in members), *uris("x")}}
    assert look_again(str(tmp_path), None, failed) == Changes(retried=3)
    assert asked == ["s3://b/x", "s3://b/t.tar"]


def test_a_whole_object_named_like_a_member_is_no_part_of_a_tar(tmp_path):
    begin(str(tmp_path), [make_info("t.tar#a"), make_info("t.tar")])
    assert compare(str(tmp_path)).tars == {}
    listing = [make_info("t.tar")]
    assert look_again(str(tmp_path), listing) == Changes(vanished=1)
