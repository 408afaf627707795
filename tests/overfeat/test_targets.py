"""What windows are taught: class, background or nothing, and edges in their own frame."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from overfeat.targets import (
    HALF_VISIBLE,
    IGNORED,
    TargetConfig,
    assign_targets,
    decode_edges,
    encode_edges,
)
from tests.overfeat.builders import MANY, describe

BACKGROUND = 7
# Written out: the defaults are tuned with the trainer.
LIMITS = TargetConfig(
    min_visible=0.5, min_size=0.25, max_size=1.1, max_shift=0.4, background_margin=1.25
)
ROOMY = TargetConfig(min_size=0.01, max_size=10.0, max_shift=10.0)

places = st.floats(-300, 300, width=32)
lengths = st.floats(1, 300, width=32)


def make_boxes(*rows):
    return np.array(rows, dtype=np.float32).reshape(-1, 4)


def assign(window, *objects, config=None, background=BACKGROUND):
    """Targets of one window of 100 pixels; objects are label and box."""
    return assign_targets(
        make_boxes(window),
        make_boxes(*[box for _, box in objects]),
        np.array([label for label, _ in objects], dtype=np.int64),
        background=background,
        config=config or LIMITS,
    )


WINDOW = (0, 0, 100, 100)


def test_an_object_in_the_middle_of_a_window_is_its_class():
    targets = assign(WINDOW, (3, (20, 30, 80, 70)))
    assert targets.labels.tolist() == [3]
    assert np.allclose(targets.edges, [[0.3, 0.2, 0.7, 0.8]])


def test_the_edges_are_top_left_bottom_right_in_parts_of_the_window():
    edges = encode_edges(make_boxes((30, 60, 90, 130)), make_boxes((10, 50, 110, 150)))
    assert np.allclose(edges, [[0.1, 0.2, 0.8, 0.8]])


@pytest.mark.parametrize(("visible", "label"), [(0.49, IGNORED), (0.51, 3)])
def test_an_object_mostly_outside_the_window_is_not_an_example(visible, label):
    # An object of 60 pixels that sticks out at the right.
    x_min = 100 - 60 * visible
    targets = assign(WINDOW, (3, (x_min, 20, x_min + 60, 80)), config=ROOMY)
    assert targets.labels.tolist() == [label]
    assert targets.edges.any() == (label == 3)


def test_the_50_percent_rule_measures_the_object_and_not_the_window():
    # A tiny object wholly inside: IoU with the window is 0.0016.
    assert assign(WINDOW, (3, (48, 48, 52, 52)), config=ROOMY).labels.tolist() == [3]


def test_the_nearest_centre_gets_the_window():
    near, far = (40, 30, 80, 70), (10, 20, 50, 60)
    for objects in ([(1, near), (2, far)], [(2, far), (1, near)]):
        targets = assign(WINDOW, *objects)
        assert targets.labels.tolist() == [1]
        assert np.allclose(targets.edges, [[0.3, 0.4, 0.7, 0.8]])


def test_a_nearer_object_of_the_wrong_size_does_not_take_the_window():
    speck = (48, 48, 52, 52)
    assert assign(WINDOW, (1, speck), (2, (10, 20, 70, 80))).labels.tolist() == [2]


@pytest.mark.parametrize(
    ("box", "label"),
    [
        ((30, 30, 70, 70), 3),  # 0.4 of the window
        ((38.5, 38.5, 61.5, 61.5), IGNORED),  # 0.23: nearly large enough
        ((45, 45, 55, 55), BACKGROUND),  # 0.1: far too small
        ((-10, -10, 110, 110), IGNORED),  # 1.2: nearly small enough
        ((-30, -30, 130, 130), BACKGROUND),  # 1.6: far too large
        ((65, 30, 105, 70), 3),  # centre at 0.35
        ((75, 30, 115, 70), IGNORED),  # centre at 0.45: nearly near enough
        ((95, 30, 135, 70), BACKGROUND),  # centre at 0.65: the neighbour's
        ((200, 200, 240, 240), BACKGROUND),
    ],
)
def test_what_does_not_quite_fit_is_ignored_and_what_is_far_off_is_background(box, label):
    targets = assign(WINDOW, (3, box))
    assert targets.labels.tolist() == [label]
    assert targets.edges.any() == (label == 3)


@pytest.mark.parametrize(
    ("box", "label"),
    [
        ((-300, -300, 400, 400), IGNORED),  # seven windows wide and high
        ((-300, 49, 400, 400), IGNORED),  # over 0.51 of the window
        ((-300, 51, 400, 400), BACKGROUND),  # over 0.49 of it
    ],
)
def test_a_window_inside_a_crowd_is_no_background_however_large_the_crowd(box, label):
    assert assign(WINDOW, (IGNORED, box)).labels.tolist() == [label]
    assert assign(WINDOW, (3, box)).labels.tolist() == [BACKGROUND]
    # An object in front of it stays one.
    assert assign(WINDOW, (3, (20, 30, 80, 70)), (IGNORED, box)).labels.tolist() == [3]


def test_without_objects_every_window_is_background():
    windows = make_boxes((0, 0, 100, 100), (50, 50, 150, 150))
    targets = assign_targets(
        windows,
        make_boxes(),
        np.zeros(0, dtype=np.int64),
        background=BACKGROUND,
        config=LIMITS,
    )
    assert targets.labels.tolist() == [BACKGROUND, BACKGROUND]
    assert targets.edges.tolist() == [[0.0] * 4] * 2


def test_where_nothing_is_background_what_is_no_example_is_ignored():
    for box in [(200, 200, 240, 240), (45, 45, 55, 55), (75, 30, 115, 70)]:
        targets = assign(WINDOW, (3, box), background=None)
        assert targets.labels.tolist() == [IGNORED]
        assert not targets.edges.any()
    assert assign(WINDOW, (3, (20, 30, 80, 70)), background=None).labels.tolist() == [3]
    assert assign(WINDOW, background=None).labels.tolist() == [IGNORED]


@pytest.mark.parametrize(
    ("box", "label"),
    [
        ((48, 48, 52, 52), 3),  # small
        ((-15, -15, 115, 115), 3),  # larger than the window, 0.59 of it visible
        ((-25, -25, 125, 125), IGNORED),  # 0.44 of it visible
        ((-40, 0, 41, 80), 3),  # far off the centre, 0.51 of it visible
        ((-41, 0, 39, 80), IGNORED),  # 0.49 of it visible
        ((200, 200, 240, 240), IGNORED),
    ],
)
def test_boxes_alone_are_taught_wherever_half_of_the_object_is_visible(box, label):
    assigned = assign(WINDOW, (3, box), config=HALF_VISIBLE, background=None)
    assert assigned.labels.tolist() == [label]


def test_an_object_mostly_outside_does_not_take_a_window_from_one_that_is_visible():
    # 0.4 of the nearer one is visible: in detection that would make the window a doubtful example.
    hidden, visible = (-75, 0, 175, 100), (0, 0, 40, 40)
    objects = [(1, hidden), (2, visible)]
    targets = assign(WINDOW, *objects, config=HALF_VISIBLE, background=None)
    assert targets.labels.tolist() == [2]
    assert np.allclose(targets.edges, [[0, 0, 0.4, 0.4]])


def test_every_window_of_a_grid_gets_its_own_frame():
    windows = make_boxes((0, 0, 100, 100), (20, 0, 120, 100), (300, 0, 400, 100))
    targets = assign_targets(
        windows,
        make_boxes((30, 20, 90, 80)),
        np.array([4]),
        background=BACKGROUND,
        config=LIMITS,
    )
    assert targets.labels.tolist() == [4, 4, BACKGROUND]
    assert np.allclose(targets.edges, [[0.2, 0.3, 0.8, 0.9], [0.2, 0.1, 0.8, 0.7], [0, 0, 0, 0]])


def test_a_box_without_an_area_teaches_nothing():
    assert assign(WINDOW, (3, (50, 20, 50, 80))).labels.tolist() == [BACKGROUND]


@MANY
@given(places, places, lengths, lengths, places, places, lengths)
def test_decoding_is_the_inverse_of_encoding(x, y, width, height, left, top, side):
    boxes = make_boxes((x, y, x + width, y + height))
    windows = make_boxes((left, top, left + side, top + side))
    edges = encode_edges(boxes, windows)
    assert np.abs(decode_edges(edges, windows) - boxes).max() <= 1e-3


def test_edges_in_the_wrong_order_are_swapped():
    edges = np.array([[0.8, 0.7, 0.2, 0.1]], dtype=np.float32)
    decoded = decode_edges(edges, make_boxes((100, 200, 200, 300)))
    assert np.allclose(decoded, [[110, 220, 170, 280]])


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("min_visible", [-0.1, 1.1]),
        ("min_size", [0.0, -1.0]),
        ("max_size", [0.25, 0.1]),
        ("max_shift", [0.0, -0.1]),
        ("background_margin", [0.9, -2.0]),
    ],
)
def test_a_limit_out_of_its_range_is_refused(name, values):
    for value in (*values, float("nan"), float("inf"), float("-inf")):
        with pytest.raises(ValueError, match=rf"targets {name}: received {value}, exp") as error:
            TargetConfig(**{name: value})
        describe(error)


@pytest.mark.parametrize(
    "fields",
    [{"min_visible": 0.0}, {"min_visible": 1.0}, {"background_margin": 1.0}, {"max_size": 0.26}],
)
def test_a_limit_at_the_end_of_its_range_is_taken(fields):
    TargetConfig(**fields)
