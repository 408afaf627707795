"""Areas, overlaps, borders and mirrors of boxes."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from overfeat.boxes import (
    box_areas,
    clip_boxes,
    flip_boxes,
    intersection_areas,
    intersection_over_union,
)
from tests.overfeat.builders import MANY

# Whole pixels: every area is exact in float32.
corners = arrays(np.float32, (4,), elements=st.integers(-40, 40).map(float))
some_boxes = st.lists(corners, max_size=6).map(
    lambda rows: np.array(rows, dtype=np.float32).reshape(-1, 4)
)


def make_boxes(*rows):
    return np.array(rows, dtype=np.float32).reshape(-1, 4)


def list_pixels(box):
    """Every whole pixel that a half-open box holds."""
    x_min, y_min, x_max, y_max = (int(value) for value in box)
    return {(x, y) for x in range(x_min, x_max) for y in range(y_min, y_max)}


@MANY
@given(some_boxes)
def test_an_area_is_the_number_of_pixels_inside(boxes):
    assert box_areas(boxes).tolist() == [len(list_pixels(box)) for box in boxes]


@MANY
@given(some_boxes, some_boxes)
def test_an_intersection_is_the_number_of_shared_pixels(first, second):
    shared = intersection_areas(first[:, None], second[None])
    literal = [[len(list_pixels(a) & list_pixels(b)) for b in second] for a in first]
    assert shared.shape == (len(first), len(second))
    assert shared.tolist() == literal


@MANY
@given(corners, corners)
def test_iou_is_shared_pixels_over_covered_pixels(first, second):
    pixels = list_pixels(first), list_pixels(second)
    covered = len(pixels[0] | pixels[1])
    expected = len(pixels[0] & pixels[1]) / covered if covered else 0
    found = float(intersection_over_union(first, second))
    assert np.isclose(found, expected, rtol=1e-6, atol=0)
    assert found == float(intersection_over_union(second, first))


def test_boxes_that_touch_share_nothing():
    first, second = make_boxes((0, 0, 10, 10)), make_boxes((10, 0, 20, 10))
    assert intersection_areas(first, second).tolist() == [0]
    assert intersection_over_union(first, second).tolist() == [0]


@MANY
@given(some_boxes, st.integers(1, 30), st.integers(1, 30))
def test_clipping_keeps_the_pixels_that_are_inside_the_image(boxes, height, width):
    clipped = clip_boxes(boxes, height=height, width=width)
    image = list_pixels((0, 0, width, height))
    assert clipped.dtype == np.float32
    for before, after in zip(boxes, clipped, strict=True):
        assert list_pixels(after) == list_pixels(before) & image
    assert (clipped >= 0).all()
    assert (clipped <= [width, height, width, height]).all()


@MANY
@given(some_boxes, st.integers(1, 60))
def test_mirroring_mirrors_every_pixel_and_is_its_own_inverse(boxes, width):
    flipped = flip_boxes(boxes, width=width)
    for before, after in zip(boxes, flipped, strict=True):
        assert list_pixels(after) == {(width - 1 - x, y) for x, y in list_pixels(before)}
    assert np.array_equal(flip_boxes(flipped, width=width), boxes)


def test_nothing_changes_the_boxes_it_was_given():
    boxes = make_boxes((-5, 3, 90, 40))
    clip_boxes(boxes, height=20, width=20)
    flip_boxes(boxes, width=20)
    assert boxes.tolist() == [[-5, 3, 90, 40]]
