"""TIFF directories and EXIF blocks: read as far as they are whole, and never further."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pipelines.errors import ImageError, ImageReason
from pipelines.images import tags
from pipelines.images.tags import (
    Tag,
    count_directories,
    read_directory,
    read_layout,
    read_orientation,
)
from tests.pipelines.images.image_files import encode, make_exif, make_picture, make_tiff


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_orientation_is_read_in_both_byte_orders(order, orientation):
    exif = make_exif(orientation, order)
    assert read_orientation(exif) == orientation
    assert read_orientation(exif.removeprefix(b"Exif\0\0")) == orientation


@pytest.mark.parametrize("orientation", [0, 9, 300])
def test_an_orientation_that_does_not_exist_means_upright(orientation):
    assert read_orientation(make_exif(orientation)) == 1


@settings(deadline=None, max_examples=60, derandomize=True)
@given(block=st.one_of(st.binary(max_size=60), st.binary(max_size=60).map(lambda b: b"II*\0" + b)))
def test_a_damaged_exif_block_means_upright(block):
    assert read_orientation(block) in range(1, 9)


@pytest.mark.parametrize("position", [26, 27, 2**31, 2**63, 2**64 - 1])
def test_a_directory_beyond_the_end_means_upright(position):
    """Found by reading: Python has another error for positions that it does not take at all."""
    assert read_orientation(b"II+\0" + struct.pack("<HHQ", 8, 0, position) + bytes(10)) == 1


def test_pages_after_one_that_is_beyond_the_end_are_not_counted():
    directory = struct.pack("<QHHQQ", 1, Tag.WIDTH, 3, 1, 8)
    data = b"II+\0" + struct.pack("<HHQ", 8, 0, 16) + directory + struct.pack("<Q", 2**64 - 1)
    assert count_directories(read_layout(data), data, limit=100) == 1


def test_pages_are_counted_up_to_the_limit():
    first, *rest = [Image.fromarray(make_picture(8, 8)) for _ in range(5)]
    data = encode(first, "TIFF", save_all=True, append_images=rest)
    assert count_directories(read_layout(data), data, limit=100) == 5
    assert count_directories(read_layout(data), data, limit=3) == 3


def test_a_chain_of_pages_that_returns_to_its_start_is_walked_once():
    data = make_tiff(make_picture(8, 8), 2)
    data = data[:-4] + data[4:8]  # the next page is the first one
    assert count_directories(read_layout(data), data, limit=1000) == 1


def test_a_directory_that_claims_too_many_tags_is_damaged():
    with pytest.raises(ImageError, match="claims to hold 65535 tags"):
        read_directory(read_layout(b"II*\0"), b"II*\0" + struct.pack("<IH", 8, 65535))


def test_a_second_value_of_a_tag_that_has_one_is_damage():
    data = b"II*\0" + struct.pack("<IHHHIHHI", 8, 1, Tag.WIDTH, 3, 2, 8, 8, 0)
    with pytest.raises(ImageError, match="TIFF tag 256 has 2 values of type 3"):
        read_directory(read_layout(data), data)


@pytest.mark.parametrize("tag", [Tag.WIDTH, Tag.SAMPLES_PER_PIXEL, Tag.STRIP_OFFSETS])
@pytest.mark.parametrize("kind", [2, 5, 8, 9, 11])
def test_a_tag_that_is_no_integer_but_should_be_is_damage(tag, kind):
    """Found by fuzzing: Pillow read another number of samples there than was checked here."""
    data = b"II*\0" + struct.pack("<IHHHII", 8, 1, tag, kind, 1, 8) + bytes(12)
    with pytest.raises(ImageError, match=f"TIFF tag {tag} has values of type {kind}"):
        read_directory(read_layout(data), data)


def test_a_directory_whose_last_entry_is_cut_is_truncated_even_if_its_value_is_there():
    """Found by mutation: Pillow was given a directory of which a part was missing, and warned."""
    data = b"II*\0" + struct.pack("<IHHHIHH", 8, 1, Tag.WIDTH, 3, 1, 72, 0)
    assert read_directory(read_layout(data), data).first(Tag.WIDTH) == 72
    with pytest.raises(ImageError, match="its first directory ends at byte 22") as caught:
        read_directory(read_layout(data), data[:-1])
    assert caught.value.reason is ImageReason.TRUNCATED


def test_an_orientation_that_is_no_integer_means_upright():
    data = b"II*\0" + struct.pack("<IHHHII", 8, 1, Tag.ORIENTATION, 8, 1, 6) + bytes(12)
    assert read_orientation(data) == 1


def test_values_are_counted_over_all_tags_before_they_are_read(monkeypatch):
    monkeypatch.setattr(tags, "_MAX_VALUES", 10)
    for counts, is_refused in (((6, 4), False), ((6, 5), True), ((11, 1), True)):
        entries = [
            struct.pack("<HHII", tag, 3, count, 64)
            for tag, count in zip((Tag.BITS_PER_SAMPLE, Tag.STRIP_OFFSETS), counts, strict=True)
        ]
        data = b"II*\0" + struct.pack("<IH", 8, 2) + b"".join(entries) + bytes(100)
        if is_refused:
            with pytest.raises(ImageError, match="tags hold more than 10 values") as caught:
                read_directory(read_layout(data), data)
            assert caught.value.reason is ImageReason.TOO_LARGE
        else:
            read_directory(read_layout(data), data)
