"""Boxes on images: where pixels may change, which colours, what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from overfeat.draw import color_of, draw_boxes

GRAY = 128
TAG_REACH = 28  # pixels: the height of a tag at the smallest font, and the casing
OTHER = next(f"dog{n}" for n in range(99) if color_of(f"dog{n}") != color_of("cat"))


def make_image(height=120, width=200):
    return np.full((height, width, 3), GRAY, dtype=np.uint8)


def make_boxes(*boxes):
    return np.array(boxes, dtype=np.float32).reshape(-1, 4)


def find_changed(image, drawn):
    return (image != drawn).any(axis=2)


def test_no_boxes_give_an_equal_copy():
    image = make_image()
    drawn = draw_boxes(image, make_boxes(), [])
    assert np.array_equal(drawn, image)
    assert not np.shares_memory(drawn, image)


def test_the_input_is_not_modified():
    image = make_image()
    draw_boxes(image, make_boxes((20, 40, 150, 100)), ["cat"], [0.9])
    assert (image == GRAY).all()


def test_a_read_only_image_can_be_drawn_on():
    image = make_image()
    image.flags.writeable = False
    assert find_changed(image, draw_boxes(image, make_boxes((20, 40, 150, 100)), ["cat"])).any()


def test_the_outline_lies_on_the_half_open_corners():
    image = make_image()
    drawn = draw_boxes(image, make_boxes((20, 40, 150, 100)), ["cat"], width=1)
    color = color_of("cat")
    assert tuple(drawn[99, 149]) == color
    assert tuple(drawn[70, 20]) == color
    assert tuple(drawn[99, 80]) == color
    assert tuple(drawn[100, 150]) != color


def test_pixels_change_only_at_the_edges_and_in_the_tag():
    image = make_image()
    drawn = draw_boxes(image, make_boxes((20, 40, 150, 100)), ["cat"], [0.9], width=2)
    allowed = np.zeros(image.shape[:2], dtype=bool)
    allowed[39:101, 19:151] = True
    allowed[43:97, 23:147] = False
    allowed[40 - TAG_REACH : 40, 19:90] = True
    changed = find_changed(image, drawn)
    assert changed[30, 30], "the tag stands above the box"
    assert not (changed & ~allowed).any()


def test_a_box_at_the_top_has_its_tag_inside():
    image = make_image()
    changed = find_changed(
        image, draw_boxes(image, make_boxes((20, 0, 150, 100)), ["cat"], width=1)
    )
    assert changed[8, 30]
    assert not changed[101:].any()


def test_a_tag_at_the_right_edge_moves_left_instead_of_being_cut():
    color = np.array(color_of("giraffe"))
    drawn = draw_boxes(make_image(), make_boxes((190, 60, 200, 100)), ["giraffe"], width=1)
    above = (drawn[60 - TAG_REACH : 58] == color).all(axis=2)
    columns = np.flatnonzero(above.any(axis=0))
    assert columns[-1] == 199
    assert columns[0] < 170


def test_tags_of_equal_boxes_do_not_cover_each_other():
    boxes = make_boxes((20, 60, 150, 110), (20, 60, 150, 110))
    both = draw_boxes(make_image(160), boxes, ["cat", OTHER], [0.9, 0.8], width=1)
    for label, score in (("cat", 0.9), (OTHER, 0.8)):
        alone = draw_boxes(make_image(160), boxes[:1], [label], [score], width=1)
        tag_pixels = (alone[:59] == color_of(label)).all(axis=2).sum()
        assert tag_pixels > 200
        assert (both == color_of(label)).all(axis=2).sum() >= tag_pixels


def test_the_first_box_lies_on_top():
    boxes = make_boxes((20, 60, 150, 110), (20, 60, 150, 110))
    drawn = draw_boxes(make_image(), boxes, ["cat", OTHER], width=1)
    assert tuple(drawn[90, 20]) == color_of("cat")


def test_where_all_tags_overlap_that_of_the_first_box_is_readable():
    boxes = make_boxes((0, 0, 200, 24), (0, 0, 200, 24))
    both = draw_boxes(make_image(24), boxes, ["cat", OTHER], width=1)
    alone = draw_boxes(make_image(24), boxes[:1], ["cat"], width=1)
    assert np.array_equal(both[2:22, 2:20], alone[2:22, 2:20])


def test_a_long_label_is_shortened_but_its_score_stays():
    box = make_boxes((0, 40, 200, 110))
    shown = draw_boxes(make_image(), box, ["w" * 300], [0.25], width=1)
    other_score = draw_boxes(make_image(), box, ["w" * 300], [0.75], width=1)
    columns = np.flatnonzero(find_changed(shown, other_score).any(axis=0))
    assert columns.size
    assert columns[0] > 150


def test_an_image_too_small_for_text_still_gets_its_outline():
    image = make_image(6, 8)
    drawn = draw_boxes(image, make_boxes((2, 2, 6, 5)), ["cat"], [0.9], width=1)
    assert tuple(drawn[2, 2]) == color_of("cat")


def test_lines_grow_with_the_image():
    color = color_of("cat")
    small, large = (
        draw_boxes(make_image(side, side), make_boxes((side / 2, 0, side, side)), ["cat"])
        for side in (200, 2000)
    )
    assert (small[190] == color).all(axis=1).sum() < (large[1900] == color).all(axis=1).sum()


@settings(deadline=None, max_examples=40, derandomize=True)
@given(
    size=st.tuples(st.integers(1, 90), st.integers(1, 120)),
    corners=st.lists(st.tuples(*[st.floats(-20, 140, width=32)] * 4), max_size=6),
    label=st.text(max_size=40),
    width=st.none() | st.integers(1, 9),
)
def test_any_box_and_any_label_keep_the_shape_and_are_deterministic(size, corners, label, width):
    boxes = make_boxes(*corners)
    boxes = np.hstack(
        [np.minimum(boxes[:, :2], boxes[:, 2:]), np.maximum(boxes[:, :2], boxes[:, 2:])]
    )
    arguments = (make_image(*size), boxes, [label] * len(boxes), [0.5] * len(boxes))
    drawn = draw_boxes(*arguments, width=width)
    assert drawn.shape == (*size, 3)
    assert drawn.dtype == np.uint8
    assert np.array_equal(drawn, draw_boxes(*arguments, width=width))


@settings(deadline=None, max_examples=40, derandomize=True)
@given(
    corners=st.tuples(*[st.integers(0, 60)] * 4),
    width=st.integers(1, 40),
)
def test_however_thick_a_line_never_leaves_its_box(corners, width):
    left, top = (80 + value for value in corners[:2])
    right, bottom = left + 1 + corners[2], top + 1 + corners[3]
    image = make_image(240, 240)
    drawn = draw_boxes(image, make_boxes((left, top, right, bottom)), ["cat"], width=width)
    changed = find_changed(image, drawn)
    changed[top - TAG_REACH : top - 1] = False
    changed[top - 1 : bottom + 1, left - 1 : right + 1] = False
    assert not changed.any()


@pytest.mark.parametrize(
    "image",
    [np.zeros((4, 5), np.uint8), np.zeros((4, 5, 4), np.uint8), np.zeros((4, 5, 3), np.float32)],
)
@pytest.mark.usefixtures("without_shape_checks")
def test_an_image_that_is_not_rgb_is_refused_with_its_shape(image):
    with pytest.raises(
        ValueError, match=r"shape \(4, 5.*expected uint8 of shape \(height, width, 3"
    ):
        draw_boxes(image, make_boxes(), [])


@pytest.mark.usefixtures("without_shape_checks")
def test_boxes_of_another_shape_are_refused():
    with pytest.raises(ValueError, match=r"shape \(2, 5\), expected \(n, 4\)"):
        draw_boxes(make_image(), np.zeros((2, 5)), ["cat", "dog"])


def test_an_image_without_a_pixel_is_refused():
    with pytest.raises(ValueError, match="at least one pixel"):
        draw_boxes(make_image(0, 5), make_boxes(), [])


@pytest.mark.parametrize(("labels", "scores"), [(["cat", "dog"], None), (["cat"], [0.1, 0.2])])
def test_as_many_labels_and_scores_as_boxes_are_needed(labels, scores):
    with pytest.raises(ValueError, match=r"2 (labels|scores) for 1 boxes"):
        draw_boxes(make_image(), make_boxes((1, 1, 9, 9)), labels, scores)


@pytest.mark.parametrize("box", [(9, 1, 1, 9), (1, 9, 9, 1), (1, 1, np.nan, 9), (1, 1, 9, np.inf)])
def test_a_box_without_sense_is_refused_with_its_rank(box):
    with pytest.raises(ValueError, match="box 1 is"):
        draw_boxes(make_image(), make_boxes((1, 1, 9, 9), box), ["cat", "dog"])


def test_a_line_without_width_is_refused():
    with pytest.raises(ValueError, match="width is 0 pixels, need at least 1"):
        draw_boxes(make_image(), make_boxes(), [], width=0)
