"""The decoder: any bytes give the right pixels or one of five reasons, never anything else."""

from __future__ import annotations

import pickle
import struct
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pipelines.errors import ImageError, ImageReason, InputError
from pipelines.images import IMAGE_SUFFIXES, ImageLimits
from tests.pipelines.images.image_files import (
    PNG_START,
    decode,
    encode,
    every_kind_of_file,
    insert_jpeg_segment,
    largest_difference,
    make_exif,
    make_picture,
    make_png,
    make_png_chunk,
    make_png_header,
    make_tiff,
    read_by_pillow,
)

FILES = every_kind_of_file()
A_TILE_OF_10_GB = {322: 60000, 323: 60000, 324: 8, 325: 100}
LOSSLESS = ["PNG", "BMP", "TIFF", "WEBP"]


def find_reason(data, **limits):
    with pytest.raises(ImageError) as caught:
        decode(data, **limits)
    return caught.value.reason


def decode_or_refuse(data):
    """Decode; None if there is a reason not to. Any other exception escapes."""
    try:
        return decode(data)
    except ImageError:
        return None


@pytest.mark.parametrize("image_format", LOSSLESS)
def test_a_lossless_format_gives_back_the_pixels(image_format):
    options = {"lossless": True} if image_format == "WEBP" else {}
    pixels = decode(encode(make_picture(), image_format, **options))
    assert (pixels == make_picture()).all()


@pytest.mark.parametrize("name", FILES)
def test_the_result_is_rgb_contiguous_writable_and_the_same_every_time(name):
    pixels = decode(FILES[name])
    assert pixels.dtype == np.uint8
    assert pixels.ndim == 3
    assert pixels.shape[2] == 3
    assert pixels.flags.c_contiguous
    assert pixels.flags.writeable
    assert (pixels == decode(FILES[name])).all()


@pytest.mark.parametrize(
    "options",
    [
        {"subsampling": "4:4:4"},
        {"subsampling": "4:2:0"},
        {"subsampling": "4:2:2"},
        {"progressive": True},
        {"restart_marker_blocks": 2},
        {"quality": 30},
    ],
    ids=str,
)
def test_a_jpeg_is_decoded_as_by_pillow(options):
    data = encode(make_picture(101, 67), **options)
    assert largest_difference(decode(data), read_by_pillow(data)) <= 1


def test_a_grayscale_jpeg_becomes_three_equal_channels():
    data = encode(Image.fromarray(make_picture()).convert("L"))
    pixels = decode(data)
    assert (pixels == pixels[..., :1]).all()
    assert largest_difference(pixels, read_by_pillow(data)) <= 1


def turn(picture, orientation):
    """Turn stored pixels upright, by the definition of the EXIF orientation."""
    upright = picture.transpose(1, 0, 2) if orientation >= 5 else picture
    if orientation in {3, 4, 7, 8}:
        upright = upright[::-1]
    if orientation in {2, 3, 6, 7}:
        upright = upright[:, ::-1]
    return upright


@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_exif_orientation_is_applied(image_format, orientation):
    options = {"lossless": True} if image_format == "WEBP" else {}
    upright = decode(encode(make_picture(), image_format, **options))
    data = encode(make_picture(), image_format, exif=make_exif(orientation), **options)
    assert (decode(data) == turn(upright, orientation)).all()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_orientation_of_a_tiff_is_applied_once(orientation, dtype):
    samples = make_picture().astype(dtype) * (257 if dtype == np.uint16 else 1)
    data = make_tiff(samples, 2, tags={274: orientation})
    assert (decode(data) == turn(make_picture(), orientation)).all()


def test_a_damaged_exif_block_costs_the_orientation_alone():
    plain = encode(make_picture())
    data = insert_jpeg_segment(plain, 0xE1, make_exif(6)[:-8] + b"\xff\xff\xff\xff")
    assert (decode(data) == decode(plain)).all()


def test_the_name_of_a_file_has_no_say_and_every_format_has_a_suffix():
    assert set(IMAGE_SUFFIXES) == {s.lower() for s in IMAGE_SUFFIXES}
    registered = {Image.registered_extensions()[suffix] for suffix in IMAGE_SUFFIXES}
    assert registered == {"JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"}


@pytest.mark.parametrize("name", FILES)
def test_an_image_at_the_limit_of_pixels_passes_and_one_above_it_does_not(name):
    height, width, _ = decode(FILES[name]).shape
    decode(FILES[name], max_pixels=height * width)
    assert find_reason(FILES[name], max_pixels=height * width - 1) is ImageReason.TOO_LARGE


def test_an_image_with_too_many_bytes_is_too_large():
    data = FILES["jpeg"]
    decode(data, max_bytes=len(data))
    assert find_reason(data, max_bytes=len(data) - 1) is ImageReason.TOO_LARGE
    assert find_reason(b"no image" * 10, max_bytes=10) is ImageReason.TOO_LARGE


@pytest.mark.parametrize("name", ["gif animated", "png animated", "webp animated", "tiff pages"])
def test_an_image_with_too_many_frames_is_too_large(name):
    decode(FILES[name], max_frames=2)
    assert find_reason(FILES[name], max_frames=1) is ImageReason.TOO_LARGE


def claim_size(name, side):
    """Change the size in the header of a small file, which then is a bomb."""
    data = bytearray(FILES[name])
    kind = name.split()[0]
    if kind == "jpeg":
        start = data.index(b"\xff\xc0") + 5
        data[start : start + 4] = struct.pack(">HH", side, side)
    elif kind == "png":
        data[8:33] = make_png_header(side, side)
    elif kind == "gif":
        data[6:10] = struct.pack("<HH", side, side)
    elif kind == "bmp":
        data[18:26] = struct.pack("<ii", side, side)
    elif kind == "webp":
        data[24:30] = struct.pack("<HBHB", side - 1, 0, side - 1, 0)
    return bytes(data)


@pytest.mark.parametrize("name", ["jpeg", "png", "gif", "bmp", "webp animated"])
def test_a_bomb_is_refused_by_its_header(name):
    with pytest.raises(ImageError, match="image of 900000000 pixels, expected at most 200000000"):
        decode(claim_size(name, 30000))


def test_a_tiff_bomb_is_refused_by_its_header():
    data = make_tiff(make_picture(), 2, tags={256: 30000, 257: 30000, 278: 30000})
    assert find_reason(data) is ImageReason.TOO_LARGE


def test_a_second_header_does_not_smuggle_a_bomb_past_the_first():
    bomb = make_png_header(30000, 30000)
    data = make_png(make_picture(), 8, 2, extra=bomb)
    with pytest.raises(ImageError, match=r"\(72, 48\) pixels would be decoded as \(30000, 30000\)"):
        decode(data)


@pytest.mark.parametrize("field", ["max_pixels", "max_bytes", "max_frames"])
def test_a_limit_below_one_is_refused(field):
    with pytest.raises(InputError, match=f"{field} is 0, expected at least 1"):
        ImageLimits(**{field: 0})


@pytest.mark.parametrize("name", ["jpeg", "jpeg progressive", "jpeg turned", "jpeg gray"])
def test_every_prefix_of_a_jpeg_is_truncated(name):
    reasons = {find_reason(FILES[name][:end]) for end in range(3, len(FILES[name]))}
    assert reasons == {ImageReason.TRUNCATED}


def test_a_truncated_jpeg_is_not_saved_by_the_end_of_its_thumbnail():
    thumbnail = encode(make_picture(8, 8))
    data = insert_jpeg_segment(FILES["jpeg progressive"], 0xE1, make_exif(1) + thumbnail)
    start = data.rindex(b"\xff\xda", 0, len(data) // 2 + len(thumbnail))
    reasons = {find_reason(data[:end]) for end in range(start, len(data))}
    assert reasons == {ImageReason.TRUNCATED}


@pytest.mark.parametrize("name", [n for n in FILES if n.startswith(("png", "webp", "bmp"))])
def test_a_prefix_of_a_file_with_a_length_is_truncated(name):
    data = FILES[name]
    ends = [*range(40, len(data), 97), *range(len(data) - 20, len(data))]
    assert {find_reason(data[:end]) for end in ends} == {ImageReason.TRUNCATED}


@pytest.mark.parametrize("name", [n for n in FILES if n.startswith(("gif", "tiff"))])
def test_a_prefix_is_truncated_or_holds_the_whole_first_picture(name):
    data, whole = FILES[name], decode(FILES[name])
    ends = [*range(6, len(data), 97), *range(len(data) - 20, len(data))]
    for end in ends:
        pixels = decode_or_refuse(data[:end])
        assert pixels is None or (pixels == whole).all()
    assert find_reason(data[: len(data) // 4]) is ImageReason.TRUNCATED


@settings(deadline=None, max_examples=300, derandomize=True)
@given(data=st.data())
def test_no_mutation_lets_another_exception_escape(data):
    encoded = bytearray(FILES[data.draw(st.sampled_from(sorted(FILES)))])
    for _ in range(data.draw(st.integers(1, 4))):
        reach = data.draw(st.sampled_from([64, len(encoded)]))  # half of them in the header
        place = data.draw(st.integers(0, min(reach, len(encoded)) - 1))
        encoded[place] = data.draw(st.integers(0, 255))
    end = data.draw(st.sampled_from([len(encoded), data.draw(st.integers(0, len(encoded)))]))
    decode_or_refuse(bytes(encoded[:end]))


def test_an_end_in_the_middle_of_a_jpeg_is_damage():
    data = bytearray(FILES["jpeg"])
    middle = (data.index(b"\xff\xda") + len(data)) // 2
    data[middle : middle + 2] = b"\xff\xd9"
    assert find_reason(bytes(data)) is ImageReason.CORRUPT


def test_restart_markers_out_of_order_are_damage():
    data = encode(make_picture(), restart_marker_blocks=2)
    assert find_reason(data.replace(b"\xff\xd2", b"\xff\xd5", 1)) is ImageReason.CORRUPT


@pytest.mark.parametrize("name", ["png", "png 16 bit", "png palette"])
def test_any_changed_bit_in_the_pixels_of_a_png_is_damage(name):
    data = FILES[name]
    start = data.index(b"IDAT") + 4
    for place in range(start, len(data) - 16, 61):
        changed = data[:place] + bytes([data[place] ^ 16]) + data[place + 1 :]
        assert find_reason(changed) is ImageReason.CORRUPT


@pytest.mark.parametrize("name", ["tiff tiff_adobe_deflate", "tiff tiff_lzw", "tiff group4"])
def test_a_damaged_tiff_prints_nothing(name, capfd):
    for place in range(20, len(FILES[name]), 53):
        data = FILES[name][:place] + bytes(8) + FILES[name][place + 8 :]
        decode_or_refuse(data)
    assert capfd.readouterr() == ("", "")


def test_bytes_behind_the_end_of_a_picture_do_no_harm():
    for name in ("jpeg", "png", "webp", "gif", "bmp"):
        assert (decode(FILES[name] + b"\xff\xda and a video") == decode(FILES[name])).all()


def test_sloppy_scan_parameters_are_no_damage():
    data = bytearray(FILES["jpeg"])
    end_of_spectrum = data.index(b"\xff\xda") + 2 + 12 - 2
    assert data[end_of_spectrum] == 63
    data[end_of_spectrum] = 0  # as some telephones write it
    damaged_exif = b"Exif\0\0II*\0\x08\0\0\0\xff\xff"
    data = insert_jpeg_segment(bytes(data), 0xE1, damaged_exif)  # of which Pillow would warn
    assert (decode(data) == decode(FILES["jpeg"])).all()


def make_oddly_subsampled_jpeg():
    """Write a uniform picture with luminance at three times the width of colour."""
    data = encode(np.full((32, 48, 3), 128, np.uint8), subsampling=0)
    scan = data.index(b"\xff\xda") + 14
    header = bytearray(data[:scan])
    header[header.index(b"\xff\xc0") + 11] = 0x31
    bits = ("001010" * 3 + "0000" * 2) * 8  # no difference, end of block: three times, then twice
    return bytes(header) + int(bits, 2).to_bytes(len(bits) // 8, "big") + b"\xff\xd9"


def test_unusual_subsampling_is_decoded():
    pixels = decode(make_oddly_subsampled_jpeg())
    assert pixels.shape == (32, 48, 3)
    assert (pixels == 128).all()


def test_a_jpeg_process_that_libjpeg_lacks_is_unsupported():
    for process in (b"\xff\xc3", b"\xff\xc5"):  # lossless, hierarchical
        assert find_reason(FILES["jpeg"].replace(b"\xff\xc0", process, 1)) == "unsupported"
    without_height = claim_size("jpeg", 0)
    assert find_reason(without_height) is ImageReason.UNSUPPORTED
    twelve_bits = FILES["jpeg"].replace(b"\xff\xc0\0\x11\x08", b"\xff\xc0\0\x11\x0c", 1)
    assert find_reason(twelve_bits) is ImageReason.UNSUPPORTED


def test_a_marker_that_does_not_exist_is_damage():
    head, _, tail = FILES["jpeg progressive"].rpartition(b"\xff\xc4")
    assert find_reason(head + b"\xff\x02" + tail) is ImageReason.CORRUPT


@pytest.mark.parametrize("name", ["gif animated", "tiff pages"])
def test_damage_behind_the_first_picture_does_no_harm(name):
    data = FILES[name]
    assert (decode(data[: -len(data) // 4]) == decode(data)).all()


def test_a_picture_without_area_is_corrupt():
    assert (
        find_reason(PNG_START + make_png_header(0, 5) + make_png_chunk(b"IEND", b"")) == "corrupt"
    )


@pytest.mark.parametrize(
    ("tags", "reason"),
    [
        ({278: 16}, ImageReason.CORRUPT),  # three strips, of which one is named
        ({273: None, **A_TILE_OF_10_GB}, ImageReason.CORRUPT),
        (A_TILE_OF_10_GB, ImageReason.CORRUPT),
        ({277: 7}, ImageReason.UNSUPPORTED),
        ({259: 6}, ImageReason.UNSUPPORTED),
        ({259: 777}, ImageReason.CORRUPT),
        ({273: 60000}, ImageReason.TRUNCATED),
    ],
    ids=str,
)
def test_a_tiff_with_impossible_tags_is_refused_quietly(tags, reason, caplog):
    assert find_reason(make_tiff(make_picture(), 2, tags=tags)) is reason
    assert not caplog.records


def test_damaged_metadata_does_no_harm():
    start = FILES["png"][:33]
    broken = make_png_chunk(b"iCCP", b"x\0\0" + b"no zlib") + make_png_chunk(b"acTL", bytes(8))
    data = start + broken + FILES["png"][33:]
    assert (decode(data) == make_picture()).all()


def test_an_error_travels_between_processes():
    with pytest.raises(ImageError) as caught:
        decode(FILES["png"][:100])
    copy = pickle.loads(pickle.dumps(caught.value))
    assert (copy.reason, copy.message) == (caught.value.reason, caught.value.message)


def test_threads_do_not_disturb_each_other():
    expected = {name: decode(data) for name, data in FILES.items()}
    names = sorted(FILES) * 4
    with ThreadPoolExecutor(8) as pool:
        for name, pixels in zip(names, pool.map(lambda n: decode(FILES[n]), names), strict=True):
            assert (pixels == expected[name]).all()


@pytest.mark.parametrize("name", [n for n in FILES if not n.startswith("webp")])
def test_the_limit_of_pillow_has_no_say(name, monkeypatch):
    expected = decode(FILES[name])
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    assert (decode(FILES[name]) == expected).all()


def test_the_globals_of_pillow_are_left_alone():
    program = """
from PIL import Image, ImageFile, GifImagePlugin, TiffImagePlugin
def look():
    return (ImageFile.LOAD_TRUNCATED_IMAGES, Image.MAX_IMAGE_PIXELS, ImageFile.MAXBLOCK,
            GifImagePlugin.LOADING_STRATEGY, TiffImagePlugin.READ_LIBTIFF)
before = look()
from pipelines.images import ImageLimits, decode_image
from tests.pipelines.images.image_files import every_kind_of_file
for data in every_kind_of_file().values():
    decode_image(data, ImageLimits())
assert look() == before, look()
"""
    subprocess.run([sys.executable, "-W", "error", "-c", program], check=True)
