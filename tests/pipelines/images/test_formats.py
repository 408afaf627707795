"""What is an image, what is one that is not decoded, and what is none: from content alone."""

from __future__ import annotations

import numpy as np
import pytest

from pipelines.errors import ImageError, ImageReason
from pipelines.images.formats import ImageFormat, identify_format
from tests.pipelines.images.image_files import decode, every_kind_of_file

NOT_IMAGES = {
    "empty": b"",
    "html": b"<!DOCTYPE html><html><body><svg width='1'></svg></body></html>",
    "xhtml": b"<?xml version='1.0'?><html><svg></svg></html>",
    "an error of a bucket": b"<?xml version='1.0'?><Error><Code>NoSuchKey</Code></Error>",
    "json": b'{"image": "a.jpg"}',
    "text": b"BMW is a maker of cars, as everyone knows.",
    "random": np.random.default_rng(0).bytes(1000),
    "zip": b"PK\x03\x04" + bytes(100),
    "video": b"\0\0\0\x20ftypisom\0\0\2\0isomiso2avc1mp41",
    "sound": b"RIFF\x24\0\0\0WAVEfmt ",
    "one byte": b"\xff",
}

UNSUPPORTED = {
    "HEIC": b"\0\0\0\x18ftypheic\0\0\0\0mif1heic",
    "AVIF": b"\0\0\0\x1cftypavif\0\0\0\0avifmif1",
    "Photoshop (PSD)": b"8BPS\0\1" + bytes(20),
    "PDF": b"%PDF-1.7\n",
    "JPEG XL": b"\xff\x0a" + bytes(20),
    "JPEG 2000": b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(20),
    "Windows icon": b"\0\0\1\0\1\0\x10\x10",
    "OpenEXR": b"\x76\x2f\x31\x01\2\0\0\0",
    "Netpbm": b"P6\n3 2\n255\n" + bytes(18),
    "SVG": b"<svg xmlns='http://www.w3.org/2000/svg'/>",
}

DRAWINGS = [
    b"<?xml version='1.0'?>\n<!-- made by hand -->\n<svg width='3'></svg>",
    b"\xef\xbb\xbf  <svg\nviewBox='0 0 1 1'/>",
    b"<?xml version='1.0'?><!DOCTYPE svg PUBLIC '-//W3C//DTD SVG 1.1//EN' [<!ENTITY a 'b'>]><svg/>",
]


@pytest.mark.parametrize("name", NOT_IMAGES)
def test_what_is_no_image_is_called_that(name):
    with pytest.raises(ImageError) as caught:
        decode(NOT_IMAGES[name])
    assert caught.value.reason is ImageReason.NOT_AN_IMAGE


@pytest.mark.parametrize("name", UNSUPPORTED)
def test_an_image_of_a_format_that_is_not_decoded_is_unsupported_by_name(name):
    with pytest.raises(ImageError) as caught:
        decode(UNSUPPORTED[name])
    assert caught.value.reason is ImageReason.UNSUPPORTED
    assert caught.value.message.startswith(f"{name} is not decoded")


@pytest.mark.parametrize("data", DRAWINGS)
def test_a_drawing_is_known_behind_declarations_and_comments(data):
    with pytest.raises(ImageError, match="SVG is not decoded"):
        identify_format(data)


@pytest.mark.timeout(10)
def test_a_prolog_built_to_confuse_a_pattern_is_told_apart_at_once():
    with pytest.raises(ImageError, match="not_an_image"):
        identify_format(b"<!---->" * 600 + b"<html>")


def test_the_message_shows_how_the_file_begins():
    with pytest.raises(ImageError, match="starts with b'<html><body>404 '"):
        identify_format(b"<html><body>404 Not Found</body></html>")


def test_every_format_is_known_by_its_content():
    found = {name: identify_format(data) for name, data in every_kind_of_file().items()}
    assert {name: str(image_format).lower() for name, image_format in found.items()} == {
        name: name.split()[0] for name in found
    }
    assert set(found.values()) == set(ImageFormat)
