"""TIFF directories and EXIF blocks: read as far as they are whole, and never further."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pipelines.errors import ImageError
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
