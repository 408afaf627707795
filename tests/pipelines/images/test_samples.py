"""What samples become in RGB: 16 bits, palettes, alpha, CMYK, first frames."""

from __future__ import annotations

import struct

import numpy as np
import pytest
import simplejpeg
from PIL import Image

from pipelines.errors import ImageError, ImageReason
from pipelines.images import samples
from tests.pipelines.images.image_files import (
    decode,
    encode,
    every_kind_of_file,
    insert_jpeg_segment,
    largest_difference,
    lay_on_white,
    make_gif,
    make_picture,
    make_png,
    make_png_chunk,
    make_tiff,
    read_by_pillow,
)

FILES = every_kind_of_file()
CLEAR_FIRST_COLOR = b"!\xf9\x04\x01\0\0\0\0"  # GIF: colour 0 is transparent


def make_samples(channels, height=40, width=50):
    shape = (height, width, channels)
    return np.random.default_rng(channels).integers(0, 65536, shape).astype(np.uint16)


def divide(samples):
    return np.round(samples / 257).astype(np.uint8)


def every_value(channels):
    """All 65536 values in each channel, in different orders."""
    values = np.arange(65536, dtype=np.uint16).reshape(256, 256, 1)
    return np.concatenate([np.roll(values, 1000 * k) for k in range(channels)], axis=-1)


def test_every_16_bit_value_of_a_png_is_divided_by_257_and_rounded():
    assert (decode(make_png(every_value(3), 16, 2)) == divide(every_value(3))).all()
    assert (decode(make_png(every_value(1), 16, 0)) == divide(every_value(1))).all()


def test_16_bit_png_alpha_is_laid_on_white():
    gray = divide(make_samples(2))
    expected = lay_on_white(gray[..., [0, 0, 0, 1]])
    assert (decode(make_png(make_samples(2), 16, 4)) == expected).all()
    expected = lay_on_white(divide(make_samples(4)))
    assert (decode(make_png(make_samples(4), 16, 6)) == expected).all()


@pytest.mark.parametrize(("channels", "color"), [(1, 0), (3, 2)])
def test_a_transparent_colour_of_16_bits_is_not_mixed_up_with_its_neighbours(channels, color):
    samples = np.full((1, 3, channels), 1000, np.uint16)
    samples[0, 1] += 1  # the same in 8 bits
    key = struct.pack(f">{channels}H", *[1000] * channels)
    pixels = decode(make_png(samples, 16, color, make_png_chunk(b"tRNS", key)))
    assert pixels[0].tolist() == [[255] * 3, [4] * 3, [255] * 3]


@pytest.mark.parametrize("depth", [1, 2, 4, 8])
def test_a_transparent_gray_is_found_at_every_depth(depth):
    samples = np.arange(2**depth, dtype=np.uint8).reshape(1, -1, 1)
    key = make_png_chunk(b"tRNS", struct.pack(">H", 1))
    pixels = decode(make_png(samples, depth, 0, key))
    expected = np.arange(2**depth) * (255 // (2**depth - 1))
    expected[1] = 255
    assert pixels[0, :, 0].tolist() == expected.tolist()


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize(("channels", "photometric"), [(1, 1), (3, 2)])
def test_a_16_bit_tiff_is_divided_by_257(channels, photometric, compressed, order):
    samples = make_samples(channels)
    pixels = decode(make_tiff(samples, photometric, order, compressed=compressed))
    assert (pixels == divide(samples)).all()


@pytest.mark.parametrize("compressed", [False, True])
def test_a_16_bit_tiff_with_alpha_is_laid_on_white(compressed):
    pixels = decode(make_tiff(make_samples(4), 2, compressed=compressed))
    assert (pixels == lay_on_white(divide(make_samples(4)))).all()


@pytest.mark.parametrize("compressed", [False, True])
def test_a_16_bit_cmyk_tiff_is_narrowed_before_it_is_multiplied_out(compressed):
    pixels = decode(make_tiff(make_samples(4), 5, compressed=compressed))
    assert (pixels == decode(make_tiff(divide(make_samples(4)), 5))).all()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_tiff_in_which_white_is_zero_is_turned_over(dtype):
    samples = np.array([[[0], [np.iinfo(dtype).max]]], dtype)
    assert decode(make_tiff(samples, 0))[0, :, 0].tolist() == [255, 0]


def test_16_bit_samples_in_separate_planes_are_unsupported_not_wrong():
    with pytest.raises(ImageError, match=r"unsupported: .* separate planes"):
        decode(make_tiff(make_samples(3), 2, tags={284: 2}))


@pytest.mark.parametrize("mode", ["I", "F"])
def test_samples_without_a_defined_white_are_unsupported(mode):
    data = encode(Image.new(mode, (3, 2), 7), "TIFF")
    with pytest.raises(ImageError, match=r"unsupported: .* samples of kind"):
        decode(data)


@pytest.mark.parametrize("image_format", ["PNG", "WEBP", "TIFF"])
def test_alpha_is_laid_on_white(image_format):
    rgba = make_picture(channels=4)
    rgba[0, 0] = (10, 20, 30, 0)
    rgba[0, 1] = (10, 20, 30, 255)
    options = {"lossless": True, "exact": True} if image_format == "WEBP" else {}
    pixels = decode(encode(rgba, image_format, **options))
    assert (pixels == lay_on_white(rgba)).all()
    assert pixels[0, 0].tolist() == [255, 255, 255]
    assert pixels[0, 1].tolist() == [10, 20, 30]


def test_gray_with_alpha_is_laid_on_white():
    gray = make_picture(channels=2)
    pixels = decode(encode(Image.fromarray(gray, "LA"), "PNG"))
    assert (pixels == lay_on_white(gray[..., [0, 0, 0, 1]])).all()


def test_premultiplied_gray_is_laid_on_white():
    gray = make_picture(channels=2)
    gray[..., 0] = gray[..., 0].astype(int) * gray[..., 1] // 255
    pixels = decode(make_tiff(gray, 1, tags={338: 1}))
    expected = gray[..., 0].astype(int) + 255 - gray[..., 1]
    assert np.abs(pixels[..., 0] - expected).max() <= 1


def test_the_padding_of_a_tile_is_cut_off():
    tile = np.pad(make_picture(), ((0, 16), (0, 8), (0, 0)), constant_values=99)
    places = {322: 80, 323: 64, 324: 8, 325: tile.size}
    data = make_tiff(tile, 2, tags={256: 72, 257: 48, 273: None, 279: None, **places})
    assert (decode(data) == make_picture()).all()


@pytest.mark.parametrize("image_format", ["PNG", "GIF", "BMP", "TIFF"])
def test_a_palette_is_looked_up(image_format):
    indexed = Image.fromarray(make_picture()).quantize(30)
    assert (decode(encode(indexed, image_format)) == np.asarray(indexed.convert("RGB"))).all()


@pytest.mark.parametrize("image_format", ["PNG", "GIF"])
def test_a_transparent_palette_entry_becomes_white(image_format):
    indexed = Image.fromarray(make_picture()).quantize(30)
    expected = np.where(
        np.asarray(indexed)[..., np.newaxis] == 3, 255, np.asarray(indexed.convert("RGB"))
    )
    assert (decode(encode(indexed, image_format, transparency=3)) == expected).all()


def test_a_palette_with_an_alpha_for_each_entry_is_laid_on_white():
    indexed = Image.fromarray(make_picture()).quantize(30)
    alpha = np.linspace(0, 255, 30).astype(np.uint8)
    rgba = np.dstack([np.asarray(indexed.convert("RGB")), alpha[np.asarray(indexed)]])
    pixels = decode(encode(indexed, "PNG", transparency=alpha.tobytes()))
    assert (pixels == lay_on_white(rgba)).all()


@pytest.mark.parametrize("image_format", ["PNG", "BMP", "TIFF", "GIF"])
def test_one_bit_becomes_black_and_white(image_format):
    bits = Image.fromarray(make_picture()).convert("1")
    expected = np.asarray(bits.convert("RGB"))
    assert (decode(encode(bits, image_format)) == expected).all()
    assert set(np.unique(expected)) == {0, 255}


@pytest.mark.parametrize("ink", [(0, 255, 255, 0), (255, 0, 255, 0), (0, 0, 0, 255), (0, 0, 0, 0)])
def test_inverted_cmyk_gives_the_colour_that_was_printed(ink):
    expected = [255 - max(ink[0], ink[3]), 255 - max(ink[1], ink[3]), 255 - max(ink[2], ink[3])]
    cmyk = encode(Image.new("CMYK", (16, 16), ink), quality=100)
    inverted = np.full((16, 16, 4), 255, np.uint8) - np.array(ink, np.uint8)
    ycck = simplejpeg.encode_jpeg(inverted, quality=100, colorspace="CMYK")
    assert b"Adobe" in cmyk
    assert b"Adobe" in ycck
    assert simplejpeg.decode_jpeg_header(ycck)[2] == "YCCK"
    assert np.abs(decode(cmyk) - np.array(expected, int)).max() <= 2
    assert np.abs(decode(ycck) - np.array(expected, int)).max() <= 2


def test_cmyk_agrees_with_the_conversion_of_pillow():
    cmyk = Image.fromarray(make_picture(channels=4), "CMYK")
    jpeg = encode(cmyk, quality=90)
    assert largest_difference(decode(jpeg), read_by_pillow(jpeg)) <= 1
    tiff = encode(cmyk, "TIFF")
    assert (decode(tiff) == np.asarray(cmyk.convert("RGB"))).all()


def test_a_jpeg_that_stores_rgb_is_not_taken_for_ycbcr():
    data = encode(make_picture(), quality=95, keep_rgb=True, subsampling=0)
    assert simplejpeg.decode_jpeg_header(data)[2] == "RGB"
    assert largest_difference(decode(data), make_picture()) < 30


def test_a_colour_profile_is_ignored():
    plain = encode(make_picture())
    profiled = insert_jpeg_segment(plain, 0xE2, b"ICC_PROFILE\0\1\1" + bytes(200))
    assert (decode(profiled) == decode(plain)).all()


@pytest.mark.parametrize("control", [b"", CLEAR_FIRST_COLOR], ids=["opaque", "clear"])
def test_a_first_frame_smaller_than_the_screen_is_surrounded_by_white(control):
    frame = Image.fromarray(make_picture(10, 16)).quantize(12)
    expected = np.full((30, 40, 3), 255, np.uint8)
    expected[5:15, 7:23] = np.asarray(frame.convert("RGB"))
    if control:
        expected[5:15, 7:23][np.asarray(frame) == 0] = 255
    assert (decode(make_gif((40, 30), (7, 5), frame, control)) == expected).all()


def test_the_palette_of_a_frame_goes_before_that_of_the_screen():
    frame = Image.fromarray(make_picture()).quantize(12)
    pixels = decode(make_gif(frame.size, (0, 0), frame, local=True))
    assert (pixels == np.asarray(frame.convert("RGB"))).all()


@pytest.mark.parametrize("disposal", [0, 1, 2, 3])
def test_what_happens_to_the_first_frame_later_does_not_change_it(disposal):
    first = Image.fromarray(make_picture()).quantize(20)
    data = encode(first, "GIF", save_all=True, append_images=[first.rotate(180)], disposal=disposal)
    assert (decode(data) == np.asarray(first.convert("RGB"))).all()


def test_a_first_frame_that_reaches_over_the_screen_widens_it():
    frame = Image.fromarray(make_picture(10, 16)).quantize(12)
    pixels = decode(make_gif((4, 4), (2, 3), frame))
    assert pixels.shape == (13, 18, 3)
    assert (pixels[3:, 2:] == np.asarray(frame.convert("RGB"))).all()


@pytest.mark.parametrize("image_format", ["GIF", "PNG", "WEBP", "TIFF"])
def test_the_first_of_several_frames_is_taken(image_format):
    first = Image.fromarray(make_picture()).quantize(20).convert("RGB")
    options = {"lossless": True} if image_format == "WEBP" else {}
    rest = [first.rotate(180), first.rotate(90)]
    data = encode(first, image_format, save_all=True, append_images=rest, **options)
    assert (decode(data) == np.asarray(first)).all()


def test_a_bitmap_stored_from_the_top_is_not_upside_down():
    data = bytearray(encode(make_picture(), "BMP"))
    data[22:26] = struct.pack("<i", -48)
    assert (decode(bytes(data)) == make_picture()[::-1]).all()


def test_a_thumbnail_is_not_taken_for_a_camera_raw_picture():
    with pytest.raises(ImageError, match="camera raw") as caught:
        decode(make_tiff(make_picture(), 2, tags={254: 1}))
    assert caught.value.reason is ImageReason.UNSUPPORTED


@pytest.mark.parametrize("band_pixels", [1, 100, 1000])
@pytest.mark.parametrize("name", FILES)
def test_bands_join_without_a_seam(name, band_pixels, monkeypatch):
    whole = decode(FILES[name])
    monkeypatch.setattr(samples, "_BAND_PIXELS", band_pixels)
    assert (decode(FILES[name]) == whole).all()


def test_bands_of_a_frame_smaller_than_the_screen_lie_where_it_does(monkeypatch):
    frame = Image.fromarray(make_picture(10, 16)).quantize(12)
    data = make_gif((40, 30), (7, 5), frame, CLEAR_FIRST_COLOR)
    whole = decode(data)
    monkeypatch.setattr(samples, "_BAND_PIXELS", 40)
    assert (decode(data) == whole).all()
