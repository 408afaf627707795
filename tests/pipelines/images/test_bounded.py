"""Decoding in bounded time: the same pixels and reasons, in this process or in a child."""

from __future__ import annotations

import numpy as np
import pytest

from pipelines.errors import ImageError, ImageReason
from pipelines.images import (
    ImageLimits,
    bounded,
    decode_image,
    decode_image_apart,
    decode_image_within,
)
from tests.hostile.bombs import make_flat_png
from tests.hostile.jpeg_scans import make_jpeg_of_scans
from tests.pipelines.images.image_files import encode, every_kind_of_file, make_picture

FILES = every_kind_of_file()
LIMITS = ImageLimits(max_pixels=10_000_000, max_bytes=2**20)
SECONDS = 60.0
WAYS = [decode_image_within, decode_image_apart]


@pytest.fixture(scope="module", autouse=True)
def _end_children():
    yield
    bounded._open_decoder.cache_clear()


@pytest.fixture
def no_child(monkeypatch):
    """A child would be asked at the cost of a failed test."""
    monkeypatch.setattr(bounded, "decode_image_apart", None)


@pytest.fixture
def sent_to_a_child(monkeypatch):
    """What is sent to a child, which does not exist."""
    sent = []
    monkeypatch.setattr(bounded, "decode_image_apart", lambda data, *_: sent.append(data))
    return sent


@pytest.mark.parametrize("decode", WAYS)
@pytest.mark.parametrize("name", FILES)
def test_pixels_are_the_same_wherever_they_are_decoded(decode, name):
    pixels = decode(FILES[name], LIMITS, SECONDS)
    assert (pixels == decode_image(FILES[name], LIMITS)).all()
    assert pixels.flags.writeable
    assert pixels.flags.c_contiguous


@pytest.mark.parametrize("decode", WAYS)
@pytest.mark.parametrize(
    "data",
    [b"", b"<html>", FILES["png"][:90], FILES["jpeg"][:90], FILES["webp"] + bytes(2**20)],
    ids=["empty", "html", "cut png", "cut jpeg", "too many bytes"],
)
def test_reasons_are_the_same_wherever_they_are_found(decode, data):
    with pytest.raises(ImageError) as here:
        decode_image(data, LIMITS)
    with pytest.raises(ImageError) as there:
        decode(data, LIMITS, SECONDS)
    assert str(there.value) == str(here.value)


@pytest.mark.usefixtures("no_child")
@pytest.mark.parametrize("name", [name for name in FILES if name.startswith("jpeg")])
def test_an_ordinary_jpeg_is_decoded_in_this_process(name):
    decode_image_within(FILES[name], LIMITS, SECONDS)


@pytest.mark.usefixtures("no_child")
def test_what_a_header_refuses_is_refused_in_this_process():
    large = make_jpeg_of_scans(1, 8000, 6000)
    refused = (b"<html>", FILES["jpeg"][:90], FILES["png"] + bytes(2**20), large)
    for file in refused:
        with pytest.raises(ImageError):
            decode_image_within(file, LIMITS, SECONDS)


@pytest.mark.parametrize("name", [name for name in FILES if not name.startswith("jpeg")])
def test_other_formats_are_decoded_in_a_child(name, sent_to_a_child):
    decode_image_within(FILES[name], LIMITS, SECONDS)
    assert sent_to_a_child == [FILES[name]]


def test_a_jpeg_goes_to_a_child_for_its_pixels_times_its_scans(sent_to_a_child, monkeypatch):
    monkeypatch.setattr(bounded, "_PLAIN_PIXELS", 80 * 60 * 3)
    cheap, dear = make_jpeg_of_scans(3, 80, 60), make_jpeg_of_scans(4, 80, 60)
    assert decode_image_within(cheap, LIMITS, SECONDS).shape == (60, 80, 3)
    assert not sent_to_a_child
    decode_image_within(dear, LIMITS, SECONDS)
    assert sent_to_a_child == [dear]


def test_a_jpeg_of_arithmetic_coding_goes_to_a_child(sent_to_a_child):
    decode_image_within(FILES["jpeg"].replace(b"\xff\xc0", b"\xff\xc9", 1), LIMITS, SECONDS)
    assert len(sent_to_a_child) == 1


def test_a_header_that_cannot_be_read_for_an_unknown_reason_is_judged_in_a_child(
    sent_to_a_child, monkeypatch
):
    def fail(*_):
        raise OverflowError("Python int too large to convert to C ssize_t")

    monkeypatch.setattr(bounded, "read_header", fail)
    decode_image_within(FILES["jpeg"], LIMITS, SECONDS)
    assert sent_to_a_child == [FILES["jpeg"]]


@pytest.mark.parametrize("decode", WAYS)
def test_an_image_that_takes_too_long_has_its_reason(decode):
    data = encode(np.zeros((1500, 2000, 3), np.uint8), "WEBP")
    with pytest.raises(ImageError, match=r"took longer than 0\.001 s") as caught:
        decode(data, LIMITS, 0.001)
    assert caught.value.reason is ImageReason.TIMEOUT


def test_an_image_that_takes_too_much_memory_is_too_large(monkeypatch):
    monkeypatch.setattr(bounded, "_BYTES_PER_PIXEL", 0)
    monkeypatch.setattr(bounded, "_SPARE_BYTES", 2**24)
    limits = ImageLimits(max_bytes=100_000)
    data = make_flat_png(4000, 4000)
    with pytest.raises(ImageError, match="MemoryError") as caught:
        decode_image_apart(data, limits, SECONDS)
    assert caught.value.reason is ImageReason.TOO_LARGE
    small = encode(make_picture(8, 8), "WEBP")
    assert decode_image_apart(small, limits, SECONDS).shape == (8, 8, 3)
