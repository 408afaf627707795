"""Is a tar that is damaged, cut off or joined refused, and read in little memory until then?"""

from __future__ import annotations

import logging
import tarfile
import tracemalloc
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines import storage
from pipelines.errors import InputError
from tests.pipelines.tar_files import (
    FORMATS,
    change_header,
    headers,
    index,
    make_tar,
    refusal,
)

FEW = settings(max_examples=60, deadline=None, derandomize=True)
MEBIBYTE = 2**20


@pytest.fixture
def tar_uri(tmp_path):
    return str(tmp_path / "x.tar")


@pytest.mark.parametrize("data", [b"", b"short", b"\x1f\x8b" + b"z" * 2000, b"no tar" * 500])
def test_what_is_no_tar_is_refused(tar_uri, data):
    Path(tar_uri).write_bytes(data)
    assert "not a tar" in refusal(tar_uri)


def test_damage_between_members_is_refused_with_its_place(tar_uri):
    data = make_tar([("a.jpg", b"1" * 512), ("b.jpg", b"2"), ("c.jpg", b"3")])
    Path(tar_uri).write_bytes(data[:1024] + b"garbage!" * 64 + data[1536:])
    assert "no header of a tar at byte 1024, after 1 members" in refusal(tar_uri)


@pytest.mark.parametrize("size", [-1, -512, -1024, -1536])
def test_sizes_below_zero_do_not_go_round_for_ever(size):
    data = make_tar([("a.jpg", b"1"), ("b.jpg", b"2")])
    data = change_header(data, 1024, size=size.to_bytes(12, "big", signed=True))
    with pytest.raises(InputError, match=f"at byte 1024, after 1 members .a size of {size} bytes"):
        headers(data)


def test_a_tar_that_ends_in_a_member_is_refused(store_root):
    data = make_tar([("a.jpg", b"1" * 700), ("b.jpg", b"2" * 700)])
    uri = storage.join_uri(store_root, "x.tar")
    for end in (2048 + 699, 2048):
        storage.write_bytes(uri, data[:end])
        assert "ends in the middle, after 2 members" in refusal(uri)


def test_a_tar_that_ends_in_a_header_is_refused():
    data = make_tar([("a.jpg", b"1"), ("n" * 200 + ".jpg", b"2")])
    for end in (1024 + 100, 1024 + 600, 1024 + 1100):
        with pytest.raises(InputError, match="ends in the middle, after 1 members"):
            headers(data[:end])


@pytest.mark.parametrize("end", [2048, 2048 + 100, 2048 + 512, 2048 + 700])
def test_a_tar_without_its_end_is_whole(end):
    data = make_tar([("a.jpg", b"1"), ("b.jpg", b"2")])
    assert headers(data[:end]) == ["a.jpg", "b.jpg"]


def test_a_header_of_many_megabytes_is_not_read():
    data = make_tar([("a.jpg", b"1"), ("b.jpg", b"2" * 4_000_000)])
    data = change_header(data, 1024, type=b"x")
    with pytest.raises(InputError, match="a header of 4000256 bytes"):
        headers(data)


def test_headers_without_end_are_refused():
    """Each says that the name of the next one follows: Python goes one call deeper for each."""
    link = make_tar([("a" * 101, b"")], tar_format=FORMATS["gnu"])[:1024]
    with pytest.raises(InputError, match="recursion"):
        headers(make_tar([("a.jpg", b"")], ends=False) + link * 2000)


@FEW
@given(
    changes=st.lists(st.tuples(st.integers(0, 10_239), st.integers(0, 255)), max_size=8),
    end=st.integers(0, 10_240),
)
def test_random_damage_is_refused_or_survived(changes, end):
    data = bytearray(make_tar([("n" * 200, b"1" * 600), ("b.jpg", b"2")]))
    for at, value in changes:
        data[at] = value
    with suppress(InputError):
        assert len(headers(bytes(data[:end]))) <= 3


@pytest.mark.parametrize("end", [2048, 1536 + 1])
def test_a_tar_without_the_mark_of_an_end_is_told_once(tar_uri, caplog, end):
    data = make_tar([("a.jpg", b"1"), ("b.jpg", b"2")])
    Path(tar_uri).write_bytes(data[:end])
    with caplog.at_level(logging.WARNING):
        assert len(list(index(tar_uri))) == 2
    told = f"{tar_uri}: ends after 2 members without the mark of an end: if it was cut off there"
    assert [message.startswith(told) for message in caplog.messages] == [True]


def test_joined_tars_are_refused_with_the_place_of_the_second(store_root):
    first, second = make_tar([("a.jpg", b"1")]), make_tar([("b.jpg", b"2")])
    uri = storage.join_uri(store_root, "x.tar")
    storage.write_bytes(uri, first + second)
    message = refusal(uri)
    assert f"byte {len(first)} is not zero, though the zeros at byte 1024, after 1 mem" in message
    assert "write it anew, or join them by tar --concatenate" in message


@pytest.mark.parametrize(("member", "found"), [(0, 512), (1, 1024 + 512), (2, 2048 + 512)])
def test_a_header_that_is_zeros_is_refused(tar_uri, member, found):
    data = make_tar([("a.jpg", b"1"), ("b.jpg", b"2"), ("c.jpg", b"3")])
    at = 1024 * member
    Path(tar_uri).write_bytes(data[:at] + bytes(512) + data[at + 512 :])
    message = refusal(tar_uri)
    assert f"byte {found} is not zero, though the zeros at byte {at}, after {member} mem" in message


def test_a_hole_in_a_tar_is_refused(tar_uri):
    data = make_tar([("a.jpg", b"1"), ("b.jpg", b"2"), *(("c.jpg", b"3" * 9000),)])
    Path(tar_uri).write_bytes(data[:1024] + bytes(4096) + data[5120:])
    assert "byte 5120 is not zero, though the zeros at byte 1024" in refusal(tar_uri)


def test_a_tar_may_end_in_so_many_zeros_as_the_records_of_tapes_have_and_in_no_more(tar_uri):
    data = make_tar([("a.jpg", b"1")], ends=False)
    Path(tar_uri).write_bytes(data + bytes(16 * MEBIBYTE))
    assert len(list(index(tar_uri))) == 1
    Path(tar_uri).write_bytes(data + bytes(16 * MEBIBYTE + 1))
    assert "more than 16777216 zeros from byte 1024 on, after 1 members" in refusal(tar_uri)


def test_a_download_that_has_not_ended_is_refused_without_reading_all_its_zeros(tar_uri):
    """Its whole size was reserved on the disk: to read 64 GiB would take minutes."""
    with Path(tar_uri).open("wb") as file:
        file.write(make_tar([("a.jpg", b"1")], ends=False))
        file.truncate(2**36)
    assert "a download that has not ended: fetch it again" in refusal(tar_uri)


def test_a_sparse_member_that_is_cut_off_is_refused():
    data = make_tar([("a.jpg", b"1"), ("holes.bin", b"2" * 4096), ("b.jpg", b"3")])
    data = change_header(data, 1024, type=tarfile.GNUTYPE_SPARSE)
    assert headers(data) == ["a.jpg", "holes.bin", "b.jpg"]
    with pytest.raises(InputError, match="ends in the middle, after 2 members"):
        headers(data[:2048])


def make_pax_map(size):
    """A member whose map of holes has no end."""
    sparse = tarfile.TarInfo("a.jpg")
    sparse.pax_headers = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0"}
    return make_tar([sparse], ends=False) + b"99999999\n" + b"1\n" * (size // 2)


def make_gnu_map(size):
    """The same, as GNU wrote it before."""
    header = make_tar([("a.jpg", b"")], tar_format=FORMATS["gnu"], ends=False)
    header = change_header(header, 0, type=tarfile.GNUTYPE_SPARSE, extended=b"\1")
    block = (b"%011o\0%011o\0" % (8**10, 8**10)) * 21 + b"\1" * 8
    return header + block * (size // 512)


def make_global_headers(size):
    """What is said of all members that follow, and more before each of them."""
    member = make_tar([("a.jpg", b"")], ends=False)
    parts, made = [], 0
    while made < size:
        keys = {f"key.{len(parts)}.{number}": "" for number in range(2_000)}
        parts.append(tarfile.TarInfo.create_pax_global_header(keys) + member)
        made += len(parts[-1])
    return b"".join(parts)


def make_global_copies(size):
    """The same before one member, whose many own headers take a copy of it each."""
    keys = {f"{number:x}": "" for number in range(min(size // 10, 25_000))}
    own = tarfile.TarInfo("a.jpg")
    own.pax_headers = {"own": "1"}
    one = make_tar([own], ends=False)
    return tarfile.TarInfo.create_pax_global_header(keys) + one[:1024] * 200 + one


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (make_pax_map, "headers of more than 1048576 bytes for one member"),
        (make_gnu_map, "headers of more than 1048576 bytes for one member"),
        (make_global_headers, "global headers of more than 65536 bytes"),
        (make_global_copies, "global headers of more than 65536 bytes"),
    ],
)
def test_headers_that_go_on_are_refused_in_little_memory(make, reason):
    data = make(8 * MEBIBYTE)
    tracemalloc.start()
    try:
        with pytest.raises(InputError, match=reason):
            headers(data)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 16 * MEBIBYTE


def test_what_global_headers_keep_is_counted_and_not_how_often_they_stand():
    member = make_tar([("a.jpg", b"")], ends=False)
    comments = [
        tarfile.TarInfo.create_pax_global_header({"comment": f"{number:0200d}"}) + member
        for number in range(500)
    ]
    data = b"".join(comments)
    assert headers(data) == ["a.jpg"] * 500
    other = tarfile.TarInfo.create_pax_global_header({f"key{n}": "" for n in range(700)})
    with pytest.raises(InputError, match=r"after 500 members .global headers of more than"):
        headers(data + other + member)
