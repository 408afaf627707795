"""How a JPEG is put together: which segments count, and what scans cost."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from PIL import Image

from pipelines.errors import ImageError, ImageReason
from pipelines.images.jpeg import read_frame
from tests.hostile.jpeg_scans import make_jpeg_of_scans
from tests.pipelines.images.image_files import (
    decode,
    encode,
    insert_jpeg_segment,
    make_exif,
    make_picture,
)

PLAIN = encode(make_picture())
PROGRESSIVE = encode(make_picture(), progressive=True)


def test_a_sequential_jpeg_has_one_scan_and_a_progressive_one_what_it_has():
    assert read_frame(PLAIN).scans == 1
    assert read_frame(PROGRESSIVE).scans == PROGRESSIVE.count(b"\xff\xda") == 10


def test_scans_behind_the_end_of_the_picture_do_not_count():
    assert read_frame(PROGRESSIVE + PROGRESSIVE * 20).scans == 10


def test_scans_of_a_thumbnail_do_not_count():
    data = insert_jpeg_segment(PROGRESSIVE, 0xE1, make_exif(1) + PROGRESSIVE)
    assert read_frame(data).scans == 10


@pytest.mark.parametrize("n_scans", [1, 2, 64, 100])
def test_a_picture_of_many_scans_is_decoded(n_scans):
    data = make_jpeg_of_scans(n_scans, 30, 20)
    assert read_frame(data).scans == n_scans
    assert (decode(data) == np.full((20, 30, 3), 128)).all()


def test_a_picture_of_too_many_scans_is_refused():
    with pytest.raises(ImageError, match="JPEG of 101 scans, expected at most 100") as caught:
        decode(make_jpeg_of_scans(101, 30, 20))
    assert caught.value.reason is ImageReason.TOO_LARGE


def test_scans_are_not_hidden_by_an_end_inside_a_comment():
    comment = b"\xff\xfe\0\6\xff\xd9\xff\xd9"
    data = make_jpeg_of_scans(101, 30, 20)
    second = data.index(b"\xff\xda", data.index(b"\xff\xda") + 2)
    with pytest.raises(ImageError, match="JPEG of 101 scans"):
        decode(data[:second] + comment + data[second:])


def test_a_jpeg_of_too_many_segments_is_refused():
    with pytest.raises(ImageError, match="more than 65536 segments") as caught:
        decode(PLAIN[:2] + b"\xff\xe5\0\2" * 70_000 + PLAIN[2:])
    assert caught.value.reason is ImageReason.TOO_LARGE


def test_padding_and_noise_between_segments_are_skipped():
    end = 2 + 2 + struct.unpack_from(">H", PLAIN, 4)[0]
    data = PLAIN[:end] + b"noise\xff\0\xff\xd3" + b"\xff" * 100 + PLAIN[end:]
    frame = read_frame(data)
    assert (frame.width, frame.height, frame.components, frame.scans) == (72, 48, 3, 1)


def test_a_jpeg_without_a_scan_is_damage_and_what_follows_its_end_is_not_read():
    """Found by fuzzing: Pillow, asked next, warned of a damaged EXIF block behind the end."""
    end = PLAIN.index(b"\xff\xda")
    exif = insert_jpeg_segment(PLAIN[:2], 0xE1, make_exif(1)[:-4] + b"\xff\xff")[2:]
    with pytest.raises(ImageError, match="JPEG ends before its first scan") as caught:
        decode(PLAIN[:end] + b"\xff\xd9" + exif + PLAIN[end:])
    assert caught.value.reason is ImageReason.CORRUPT


def test_stripping_leaves_the_pixels_and_what_tells_the_colours():
    cmyk = encode(Image.fromarray(make_picture(channels=4), "CMYK"))
    data = insert_jpeg_segment(insert_jpeg_segment(cmyk, 0xFE, b"hello"), 0xE1, make_exif(1))
    assert read_frame(data).encoded == cmyk
    assert b"Adobe" in cmyk


def test_stripping_nothing_copies_nothing():
    assert read_frame(PLAIN).encoded is PLAIN


@pytest.mark.parametrize(
    "profile",
    [
        b"ICC_PROFILE\0\0\0" + bytes(200),
        b"ICC_PROFILE\0\5\2" + bytes(200),
        b"ICC_PROFILE\0",
        b"ICC_PROFILE\0\1\3" + bytes(9),
    ],
    ids=["numbered from 0", "part 5 of 2", "empty", "part of 3"],
)
def test_a_colour_profile_in_disorder_is_ignored(profile):
    """Found by the hostile corpus: libjpeg warned of the profile, and the picture was refused."""
    data = insert_jpeg_segment(PLAIN, 0xE2, profile)
    assert (decode(insert_jpeg_segment(data, 0xE2, profile)) == decode(PLAIN)).all()


@pytest.mark.parametrize(
    ("marker", "content"),
    [(0xE1, b"Exif\0\0II*\0\xff\xff\xff\xff"), (0xE1, b"http://ns.adobe.com/xap/1.0/\0<x"),
     (0xED, b"Photoshop 3.0\08BIM\4\4"), (0xE2, b"MPF\0II*\0"), (0xFE, b"\xff\xd9\xff\xda")],
    ids=["EXIF", "XMP", "Photoshop", "MPF", "comment"],
)  # fmt: skip
def test_damaged_metadata_does_no_harm(marker, content):
    assert (decode(insert_jpeg_segment(PLAIN, marker, content)) == decode(PLAIN)).all()
