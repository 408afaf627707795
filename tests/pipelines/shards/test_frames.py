from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.images import ImageLimits, decode_image
from pipelines.shards.frames import Frame, settle_objects, turn_mask, turn_point
from pipelines.shards.masks import decode_mask, encode_mask
from pipelines.shards.records import Annotation
from pipelines.shards.rejects import AnnotationError
from pipelines.shards.samples import ObjectMetadata, PartMetadata
from tests.pipelines.shards.pictures import ORIENTATION_TAG, encode

SETTINGS = settings(max_examples=60, deadline=None, derandomize=True)
ORIENTATIONS = range(1, 9)
WIDTH, HEIGHT = 50, 40


def make_object(box=(8, 16, 24, 32), **more):
    return ObjectMetadata(label=0, box_xyxy=box, **more)


def settle(one, *, size=None, **frame):
    frame = Frame(**{"width": WIDTH, "height": HEIGHT, **frame})
    (settled,) = settle_objects(Annotation(size=size, objects=(one,)), frame)
    return settled


def fill_box(box, width=WIDTH, height=HEIGHT):
    mask = np.zeros((height, width), np.bool_)
    left, top, right, bottom = (int(side) for side in box)
    mask[top:bottom, left:right] = True
    return mask


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_a_box_lies_on_the_pixels_that_decoding_shows_there(orientation):
    from PIL import Image

    box = (8, 16, 24, 32)
    exif = Image.Exif()
    exif[ORIENTATION_TAG] = orientation
    picture = Image.fromarray(fill_box(box).astype(np.uint8) * 255)
    pixels = decode_image(encode(picture, "JPEG", exif=exif, quality=95), ImageLimits())

    settled = settle(make_object(box), orientation=orientation)

    seen = fill_box(settled.box_xyxy, pixels.shape[1], pixels.shape[0])
    assert ((pixels[..., 0] > 127) == seen).all()


@SETTINGS
@given(
    st.sampled_from(ORIENTATIONS),
    st.tuples(st.integers(0, 49), st.integers(0, 39), st.integers(1, 50), st.integers(1, 40)),
)
def test_masks_turn_with_their_boxes(orientation, numbers):
    left, top, width, height = numbers
    box = (left, top, min(WIDTH, left + width), min(HEIGHT, top + height))

    settled = settle(make_object(box, mask=encode_mask(fill_box(box))), orientation=orientation)

    mask = decode_mask(settled.mask)
    assert (mask == fill_box(settled.box_xyxy, mask.shape[1], mask.shape[0])).all()


@SETTINGS
@given(st.sampled_from(ORIENTATIONS), st.integers(0, WIDTH - 1), st.integers(0, HEIGHT - 1))
def test_points_turn_with_masks(orientation, column, row):
    mask = fill_box((column, row, column + 1, row + 1))

    x, y = turn_point(column + 0.5, row + 0.5, (WIDTH, HEIGHT), orientation)

    assert turn_mask(mask, orientation)[int(y), int(x)]


def test_keypoints_and_parts_turn_too_but_not_those_that_are_not_labelled():
    part = PartMetadata(name="head", box_xyxy=(0, 0, 5, 10))
    one = make_object(keypoints=((1.5, 2.5, 2), (0.0, 0.0, 0)), parts=(part,))

    turned = settle(one, orientation=6)

    assert turned.keypoints == ((37.5, 1.5, 2), (0, 0, 0))
    assert turned.parts[0].box_xyxy == (30, 0, 40, 5)


def test_a_source_that_speaks_of_the_image_as_seen_is_not_turned():
    assert settle(make_object(), orientation=6, size=(40, 50)).box_xyxy == (8, 16, 24, 32)


def test_a_source_that_speaks_of_the_image_as_stored_is_turned():
    assert settle(make_object(), orientation=6, size=(50, 40)).box_xyxy == (8, 8, 24, 24)


@pytest.mark.parametrize(
    ("size", "orientation", "expected"),
    [
        ((100, 80), 1, (4, 8, 12, 16)),
        ((25, 20), 1, (16, 32, 48, 40)),
        ((80, 100), 6, (4, 8, 12, 16)),
        ((100, 80), 6, (24, 4, 32, 12)),
    ],
)
def test_a_source_may_speak_of_the_image_in_another_size(size, orientation, expected):
    assert settle(make_object(), size=size, orientation=orientation).box_xyxy == expected


@pytest.mark.parametrize("size", [(33, 26), (334, 267), (334, 268)])
def test_sides_of_another_size_may_be_rounded(size):
    left, top, right, bottom = settle(make_object((0, 0, *size)), size=size).box_xyxy

    assert (left, top, right, bottom) == (0, 0, WIDTH, HEIGHT)


@pytest.mark.parametrize("size", [(60, 40), (33, 28), (40, 50), (0, 0), (0, 40)])
def test_a_source_that_speaks_of_another_shape_is_refused(size):
    message = f"image of {size[0]} x {size[1]} pixels; it has 50 x 40"
    with pytest.raises(AnnotationError, match=message):
        settle(make_object(), size=size)


@pytest.mark.parametrize(
    ("size", "max_side", "expected"),
    [
        ((50, 40), None, (50, 40)),
        ((50, 40), 50, (50, 40)),
        ((50, 40), 25, (25, 20)),
        ((40, 50), 25, (20, 25)),
        ((1000, 1), 10, (10, 1)),
    ],
)
def test_a_larger_image_is_shrunk_to_the_longest_side(size, max_side, expected):
    frame = Frame(width=size[0], height=size[1], max_side=max_side)
    assert frame.sample_size == expected


def test_everything_shrinks_with_its_image():
    box = (8, 16, 24, 32)
    one = make_object(box, mask=encode_mask(fill_box(box)), keypoints=((10.0, 20.0, 1),))

    shrunk = settle(one, max_side=25)

    assert shrunk.box_xyxy == (4, 8, 12, 16)
    assert shrunk.keypoints == ((5, 10, 1),)
    assert (decode_mask(shrunk.mask) == fill_box((4, 8, 12, 16), 25, 20)).all()


@SETTINGS
@given(st.integers(1, 5000), st.integers(1, 5000), st.integers(1, 700))
def test_the_border_of_the_image_stays_the_border(width, height, max_side):
    whole = make_object((0, 0, width, height))

    frame = {"width": width, "height": height, "max_side": max_side}
    right, bottom = Frame(**frame).sample_size
    assert settle(whole, **frame).box_xyxy == (0, 0, right, bottom)


@SETTINGS
@given(st.lists(st.floats(-100, 200), min_size=4, max_size=4))
def test_what_is_left_of_a_box_is_what_lies_inside_the_image(corners):
    one = make_object(tuple(corners))
    left, top, right, bottom = np.clip(corners, 0, [WIDTH, HEIGHT, WIDTH, HEIGHT])
    if left < right and top < bottom:
        assert settle(one).box_xyxy == (left, top, right, bottom)
    else:
        with pytest.raises(AnnotationError, match="nothing inside"):
            settle(one)
