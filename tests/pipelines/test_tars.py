"""Are the images of a tar found where they are, and several tars at a time?"""

from __future__ import annotations

import itertools
import logging
import tarfile
import tempfile
import threading
import tracemalloc
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pipelines import storage, tars
from pipelines.errors import InputError
from pipelines.tars import is_compressed, is_tar, read_ahead
from tests.faults.fixtures import start_proxy
from tests.pipelines.tar_files import (
    FORMATS,
    extract,
    index,
    make_tar,
    put_tar,
    refusal,
    write_shard,
)

__all__ = ["start_proxy"]

FEW = settings(max_examples=60, deadline=None, derandomize=True)
NAMES = st.text(
    st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=120
).map(lambda text: f"{text}.jpg")
FILES = st.dictionaries(NAMES, st.binary(max_size=1500), max_size=6)


def read_all(uri, **options):
    """The images of a tar, read one by one: bytes by name."""
    infos = list(index(uri, **options))
    answers = storage.read_objects(infos)
    assert all(info.object_uri == uri for info in infos)
    names = (info.uri.removeprefix(f"{uri}#") for info in infos)
    return dict(zip(names, (answer.data for answer in answers), strict=True))


@pytest.fixture
def tar_uri(tmp_path):
    return str(tmp_path / "x.tar")


def test_members_are_found_and_read_on_every_store(store_root):
    files = {"b.jpg": b"second", "a/deep.jpg": b"", "c.JPG": b"x" * 5000}
    uri = put_tar(storage.join_uri(store_root, "x.tar"), files.items())
    assert read_all(uri) == files
    tar = storage.find_object(uri)
    infos = list(index(uri))
    assert [info.size for info in infos] == [6, 0, 5000]
    assert {(info.etag, info.mtime) for info in infos} == {(tar.etag, tar.mtime)}
    assert [info.uri for info in infos] == [f"{uri}#{name}" for name in files], "the tar's order"


@FEW
@given(files=FILES, tar_format=st.sampled_from([tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]))
@example(
    files={
        f"{name}.jpg": name.encode() for name in ("#", "a b", "../..", "/etc", "a\nb", "日", "")
    },
    tar_format=tarfile.GNU_FORMAT,
)
def test_whatever_members_are_called_they_are_what_python_extracts(files, tar_format):
    data = make_tar(files.items(), tar_format=tar_format)
    expected = extract(data)
    with tempfile.TemporaryDirectory() as folder:
        uri = str(Path(folder, "x.tar"))
        Path(uri).write_bytes(data)
        assert read_all(uri) == expected
    assert expected.keys() == files.keys()


def test_names_of_ustar_with_a_prefix_are_whole(tar_uri):
    name = f"{'d' * 90}/{'e' * 60}/{'f' * 90}.jpg"
    put_tar(tar_uri, [(name, b"x")], tar_format=FORMATS["ustar"])
    assert read_all(tar_uri) == {name: b"x"}


def test_a_name_that_is_not_utf8_is_escaped_and_read(tar_uri):
    put_tar(tar_uri, [("a\udcff.jpg", b"x")], tar_format=FORMATS["gnu"])
    assert read_all(tar_uri) == {"a\\udcff.jpg": b"x"}


def test_a_shard_of_webdataset_gives_its_images_and_skips_the_rest(tmp_path):
    samples = [
        {"__key__": f"deep/{n:03d}", "jpg": b"picture %d" % n, "cls": b"3", "json": b"{}"}
        for n in range(20)
    ]
    uri = write_shard(tmp_path / "train-000000.tar", samples)
    found = index(uri)
    assert [info.uri for info in found] == [f"{uri}#deep/{n:03d}.jpg" for n in range(20)]
    assert found.skipped == 40
    assert read_all(uri)["deep/007.jpg"] == b"picture 7"


def test_what_is_no_plain_file_is_skipped_and_counted(tar_uri):
    kinds = ["DIRTYPE", "SYMTYPE", "LNKTYPE", "CHRTYPE", "BLKTYPE", "FIFOTYPE"]
    others = []
    for kind in kinds:
        member = tarfile.TarInfo(f"{kind}.jpg")
        member.type, member.linkname = getattr(tarfile, kind), "b.jpg"
        others.append(member)
    put_tar(tar_uri, [*others, ("b.jpg", b"x"), ("b.txt", b"y")])
    found = index(tar_uri)
    assert [info.uri for info in found] == [f"{tar_uri}#b.jpg"]
    assert found.skipped == len(kinds) + 1


def make_link(name, kind):
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, "b.jpg"
    return member


def make_sparse(name):
    sparse = tarfile.TarInfo(name)
    sparse.pax_headers = {"GNU.sparse.map": "0,3", "GNU.sparse.realsize": "900000"}
    sparse.pax_headers["GNU.sparse.size"] = "900000"
    return sparse


def test_links_and_sparse_files_named_like_images_are_skipped_and_counted_once(tar_uri, caplog):
    links = [make_link("1.JPG", tarfile.LNKTYPE), make_link("2.jpg", tarfile.SYMTYPE)]
    others = [make_link("1.txt", tarfile.LNKTYPE), make_sparse("2.txt")]
    put_tar(tar_uri, [*links, make_sparse("holes.jpg"), *others, ("b.jpg", b"x")])
    with caplog.at_level(logging.WARNING):
        found = index(tar_uri)
        assert [info.uri for info in found] == [f"{tar_uri}#b.jpg"]
    assert found.skipped == 5
    (message,) = caplog.messages
    assert message.startswith(f"{tar_uri}: members named like images are skipped, for their bytes")
    assert message.endswith(": 2 links and 1 sparse file")


def test_skipped_members_that_are_not_named_like_images_are_not_told(tar_uri, caplog):
    put_tar(tar_uri, [make_sparse("holes.txt"), ("b.jpg", b"x")])
    with caplog.at_level(logging.WARNING):
        assert read_all(tar_uri) == {"b.jpg": b"x"}
    assert caplog.text == ""


def test_a_tar_without_members_has_no_images(tar_uri, caplog):
    put_tar(tar_uri, [])
    assert list(index(tar_uri)) == []
    assert caplog.text == ""


def test_two_members_of_one_name_are_refused(tar_uri):
    put_tar(tar_uri, [("a.jpg", b"1"), ("b.jpg", b"2"), ("a.jpg", b"3")])
    assert "has two members named 'a.jpg'" in refusal(tar_uri)
    put_tar(tar_uri, [("a.txt", b"1"), ("a.txt", b"2"), ("a.jpg", b"3")])
    assert read_all(tar_uri) == {"a.jpg": b"3"}


def test_a_tar_that_is_not_there_is_refused(store_root):
    assert "no such object" in refusal(storage.join_uri(store_root, "absent.tar"))


def test_a_tar_whose_own_name_could_be_a_members_is_refused(tmp_path):
    assert "rename it" in refusal(put_tar(str(tmp_path / "a.tar#b.tar"), [("a.jpg", b"1")]))


def test_a_member_that_is_cut_off_after_it_was_listed_is_truncated(store_root):
    data = make_tar([("a.jpg", b"1" * 700), ("b.jpg", b"2" * 700)])
    uri = storage.join_uri(store_root, "x.tar")
    storage.write_bytes(uri, data)
    # As where a store has no etags: otherwise it is `changed`.
    listed = [replace(info, etag="") for info in index(uri)]
    for end, reason in ((3072 + 512 + 699, None), (2048 + 699, "699 of its 700")):
        storage.write_bytes(uri, data[:end])
        first, second = storage.read_objects(listed)
        assert first.data == b"1" * 700
        if reason is not None:
            assert (str(second.reason), reason in second.message) == ("truncated", True)


def test_a_known_version_is_given_itself_and_not_read(tar_uri, monkeypatch):
    put_tar(tar_uri, [("a.jpg", b"1")])
    tar = storage.find_object(tar_uri)
    assert [info.uri for info in index(tar_uri, known_etag="other")] == [f"{tar_uri}#a.jpg"]
    monkeypatch.setattr(storage, "open_range_reader", None)
    assert list(index(tar_uri, known_etag=tar.etag)) == [tar]


@pytest.mark.s3
def test_large_members_are_jumped_over(s3_bucket, start_proxy, monkeypatch):
    monkeypatch.setattr(tars, "_REMOTE_BLOCK_BYTES", 1 << 14)
    files = [("a.jpg", b"1"), ("b.jpg", b"2" * 3_000_000), ("c.jpg", b"3"), ("d.jpg", b"4")]
    uri = put_tar(f"s3://{s3_bucket}/x.tar", files)
    proxy = start_proxy()
    assert len(list(index(uri))) == 4
    spans = [request.byte_range for request in proxy.requests if request.byte_range]
    assert len(spans) == 2, "one block at the start, one behind the large member"


def test_memory_does_not_grow_with_the_members(tmp_path):
    peaks = []
    for count in (1_000, 9_000):
        uri = str(tmp_path / f"{count}.tar")
        put_tar(uri, ((f"{n:09d}.jpg", b"") for n in range(count)), tar_format=FORMATS["ustar"])
        tracemalloc.start()
        assert sum(1 for _ in index(uri)) == count
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    # A hash each against duplicates; a TarInfo would be above 1000 bytes.
    assert (peaks[1] - peaks[0]) / 8_000 < 150


@pytest.fixture
def many_tars(tmp_path):
    return [
        put_tar(str(tmp_path / f"{n:02d}.tar"), [(f"{k}.jpg", b"") for k in range(n % 5)])
        for n in range(30)
    ]


@pytest.mark.parametrize("images_ahead", [1, 2, 8192])
def test_several_tars_are_read_ahead_and_given_in_order(many_tars, monkeypatch, images_ahead):
    monkeypatch.setattr(tars, "_IMAGES_AHEAD", images_ahead)
    found = itertools.chain.from_iterable(read_ahead(index(uri) for uri in many_tars))
    expected = [f"{uri}#{k}.jpg" for n, uri in enumerate(many_tars) for k in range(n % 5)]
    assert [info.uri for info in found] == expected


def test_tars_are_read_at_the_same_time(many_tars, monkeypatch):
    together = threading.Barrier(3)
    find_object = storage.find_object

    def wait(uri):
        together.wait(30)
        return find_object(uri)

    monkeypatch.setattr(storage, "find_object", wait)
    assert len(list(itertools.chain.from_iterable(read_ahead(map(index, many_tars[:3]))))) == 3


def test_a_bad_tar_is_told_in_its_turn(many_tars):
    Path(many_tars[4]).write_bytes(b"no tar")
    with closing(read_ahead(index(uri) for uri in many_tars)) as ahead:
        found = itertools.chain.from_iterable(ahead)
        assert len(list(itertools.islice(found, 6))) == 6
        with pytest.raises(InputError, match=r"04\.tar: not a tar"):
            list(found)
        # The others are whole.
        assert [len(list(tar)) for tar in itertools.islice(ahead, 3)] == [0, 1, 2]


def test_who_wants_no_more_leaves_no_file_open_and_no_thread(many_tars):
    before = threading.active_count()
    with closing(read_ahead(index(uri) for uri in many_tars)) as ahead:
        assert [len(list(tar)) for tar in itertools.islice(ahead, 3)] == [0, 1, 2]
    assert threading.active_count() == before
    open_files = {path.resolve() for path in Path("/proc/self/fd").iterdir()}
    assert not open_files & {Path(uri) for uri in many_tars}


def test_who_wants_no_more_does_not_wait_for_what_is_read_ahead(many_tars, monkeypatch):
    member = tarfile.TarInfo("a.jpg")
    endless = (replace_name(member, f"{n}.jpg") for n in itertools.count())
    monkeypatch.setattr(tars, "iter_members", lambda file, uri: endless)
    monkeypatch.setattr(tars, "_IMAGES_AHEAD", 2**62)
    with closing(read_ahead(map(index, many_tars[:2]))) as ahead:
        next(ahead)


def replace_name(member, name):
    member.name, member.offset_data = name, 512
    return member


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a.tar", "tar"), ("A.TAR", "tar"), ("s3://b/*.tar", "tar"), (".tar", "tar"),
        ("a.tar.gz", "packed"), ("a.TGZ", "packed"), ("s3://b/*.tar.zst", "packed"),
        ("a.tar/", "no"), ("tar", "no"), ("a.tar#b.jpg", "no"), ("a.tar.gz/b", "no"),
        ("a.gz", "no"), ("holiday.tar.jpg", "no"), ("a.tar.0", "no"),
        ("a.tar.bz2", "packed"), ("a.tar.xz", "packed"), ("a.tar.Z", "packed"),
        ("a.tar.lz4", "packed"), ("a.tar.lzma", "packed"), ("a.tar.br", "packed"),
        ("a.tlz", "packed"), ("a.tar.LZO", "packed"),
    ],
)  # fmt: skip
def test_tars_are_known_by_their_names(name, kind):
    assert (is_tar(name), is_compressed(name)) == (kind == "tar", kind == "packed")
