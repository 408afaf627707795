"""Which views there are, and what is read off their windows; the networks say fixed things."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from overfeat.scales import Canvas, Placement, place
from overfeat.views import View, evaluate_views, plan_batches
from tests.overfeat.builders import FEW, ScriptedNetwork

LADDER = (Canvas(245, 245), Canvas(281, 317))
# The windows of a 245x281 canvas: 3 rows, 6 columns, 12 pixels apart.
ROWS, COLS = 3, 6
CANVAS = Canvas(245, 281)


def make_view(*, height=245, width=281, flipped=False):
    return View(0, place(CANVAS, height=height, width=width), flipped)


def make_logits(outputs, *said):
    """Logits by row, column and output; all others are low."""
    logits = torch.full((1, outputs, ROWS, COLS), -20.0)
    for row, col, output, value in said:
        logits[0, output, row, col] = value
    return logits


def evaluate(network, view=None, *, classes=2, threshold=0.5):
    views = [view or make_view()]
    canvases = torch.zeros(1, 3, CANVAS.height, CANVAS.width)
    return evaluate_views(
        network, canvases, views, stride="fine", classes=classes, threshold=threshold
    )[0]


def make_edges(*boxes):
    """The same edges in every window: top, left, bottom, right for each regressor."""
    values = torch.tensor(boxes, dtype=torch.float32).reshape(1, -1, 1, 1)
    return values.expand(1, -1, ROWS, COLS)


def list_plan(sizes, **fields):
    settings = {"flips": False, "batch_pixels": 2_000_000} | fields
    return list(plan_batches(sizes, LADDER, **settings))


def test_every_image_has_its_views_by_scale_then_flip():
    sizes = [(300, 400), (400, 300), (50, 50)]
    plan = list_plan(sizes, flips=True)
    for image, (height, width) in enumerate(sizes):
        own = [view for batch in plan for view in batch if view.image == image]
        placements = [place(canvas, height=height, width=width) for canvas in LADDER]
        assert own == [
            View(image, placement, flipped) for placement in placements for flipped in (False, True)
        ]


@FEW
@given(
    st.lists(st.tuples(st.integers(1, 900), st.integers(1, 900)), max_size=9),
    st.booleans(),
    st.sampled_from([1, 100_000, 200_000, 2_000_000]),
)
def test_a_batch_has_equal_canvases_and_not_more_pixels_than_allowed(sizes, flips, batch_pixels):
    plan = list_plan(sizes, flips=flips, batch_pixels=batch_pixels)
    for batch in plan:
        canvas = batch[0].placement.canvas
        assert {view.placement.canvas for view in batch} == {canvas}
        pixels = len(batch) * canvas.height * canvas.width
        assert pixels <= batch_pixels or len(batch) == 1
    seen = [(view.image, view.placement.canvas, view.flipped) for batch in plan for view in batch]
    assert len(seen) == len(set(seen)) == len(sizes) * len(LADDER) * (2 if flips else 1)


def test_a_window_that_says_a_class_becomes_a_candidate_with_its_own_square():
    # The windows of rows 0 and 1 in columns 2 and 5, in image pixels equal to canvas pixels.
    network = ScriptedNetwork(make_logits(3, (1, 2, 0, 20.0), (0, 5, 1, 20.0)))
    result = evaluate(network)
    assert result.candidates.label_ids.tolist() == [1, 0]
    assert np.allclose(result.candidates.probabilities, 1)
    assert result.candidates.boxes_xyxy.tolist() == [[60, 0, 281, 221], [24, 12, 245, 233]]
    assert np.allclose(result.class_maxima, 1)


def test_the_background_is_no_class():
    logits = make_logits(3, *[(row, col, 2, 20.0) for row in range(ROWS) for col in range(COLS)])
    result = evaluate(ScriptedNetwork(logits))
    assert len(result.candidates.label_ids) == 0
    assert result.class_maxima.shape == (2,)
    assert result.class_maxima.max() < 1e-6


def test_only_probabilities_from_the_threshold_on_take_part():
    even = make_logits(3, (0, 0, 0, 0.0), (0, 0, 1, 0.0))  # one half each
    assert len(evaluate(ScriptedNetwork(even), threshold=0.5).candidates.label_ids) == 2
    assert len(evaluate(ScriptedNetwork(even), threshold=0.51).candidates.label_ids) == 0


def test_the_maxima_are_taken_over_all_windows_of_the_softmax():
    logits = make_logits(3, (0, 0, 0, 0.0), (0, 0, 2, 0.0), (2, 3, 0, -1.0), (2, 3, 2, 1.0))
    maxima = evaluate(ScriptedNetwork(logits), threshold=None).class_maxima
    assert maxima[0] == pytest.approx(0.5)
    # Where all outputs are equal each has a third.
    assert maxima[1] == pytest.approx(1 / 3)


def test_candidates_are_left_out_if_detection_was_not_asked_for():
    assert evaluate(ScriptedNetwork(make_logits(3)), threshold=None).candidates is None


def test_windows_that_see_only_padding_neither_vote_nor_detect():
    """A panorama: rows 229 to 232 of a canvas whose first windows end at row 221."""
    canvas = Canvas(461, 461)
    placement = place(canvas, height=3, width=461)
    assert (placement.top, placement.fitted_height) == (229, 3)
    logits = torch.zeros(1, 3, 21, 21)
    logits[0, 0, 0] = 20.0
    logits[0, 1, 1, 4] = 20.0
    result = evaluate_views(
        ScriptedNetwork(logits),
        torch.zeros(1, 3, 461, 461),
        [View(0, placement, flipped=False)],
        stride="fine",
        classes=2,
        threshold=0.5,
    )[0]
    assert result.candidates.label_ids.tolist() == [1]
    # Where all outputs are equal each has a third.
    assert result.class_maxima.tolist() == pytest.approx([1 / 3, 1.0])


@pytest.mark.parametrize(("flipped", "columns"), [(False, range(17)), (True, range(15, 32))])
def test_a_mirrored_canvas_has_its_padding_on_the_other_side(flipped, columns):
    """The image takes the first 200 of 600 columns, in the mirrored canvas the last 200."""
    placement = Placement(
        canvas=Canvas(245, 600),
        image_height=245,
        image_width=200,
        fitted_height=245,
        fitted_width=200,
        top=0,
        left=0,
    )
    counted = []
    for column in range(32):
        logits = torch.zeros(1, 3, 3, 32)
        logits[0, 0, 0, column] = 20.0
        result = evaluate_views(
            ScriptedNetwork(logits),
            torch.zeros(1, 3, 245, 600),
            [View(0, placement, flipped)],
            stride="fine",
            classes=2,
            threshold=0.5,
        )[0]
        if result.class_maxima[0] > 0.5:
            counted.append(column)
        assert len(result.candidates.label_ids) == (result.class_maxima[0] > 0.5)
    assert counted == list(columns)


def test_a_mirrored_window_reports_its_box_in_the_unmirrored_image():
    network = ScriptedNetwork(make_logits(3, (1, 0, 0, 20.0)))
    candidates = evaluate(network, make_view(flipped=True)).candidates
    # The first window of the mirrored canvas is the last 221 columns of 281.
    assert candidates.boxes_xyxy.tolist() == [[60, 12, 281, 233]]


def test_boxes_are_cut_at_the_image_and_empty_ones_dropped():
    # The image takes rows 82 to 163 of the canvas: 3 times as wide as high.
    view = make_view(height=100, width=347)
    top = view.placement.top
    assert top > 80
    said = (0, 0, 0, 20.0), (2, 5, 1, 20.0)
    above = make_edges([0.0, 0.2, 0.1, 0.8])  # rows 0 to 22 of the first window: padding
    assert len(evaluate(regress(above, *said), view).candidates.label_ids) == 0
    across = make_edges([0.0, 0.0, 1.0, 1.0])
    boxes = evaluate(regress(across, *said), view).candidates.boxes_xyxy
    assert len(boxes) == 2
    assert boxes.min() >= 0
    assert (boxes.max(axis=0) <= [347, 100, 347, 100]).all()


def regress(edges, *said, regressor="single"):
    return ScriptedNetwork(make_logits(3, *said), edges, regressor=regressor)


def test_a_single_regressor_gives_every_class_the_same_box_in_the_windows_frame():
    edges = make_edges([0.25, 0.5, 0.75, 1.0])
    candidates = evaluate(regress(edges, (0, 0, 0, 20.0), (1, 1, 1, 20.0))).candidates
    assert candidates.label_ids.tolist() == [0, 1]
    expected = [[110.5, 55.25, 221, 165.75], [122.5, 67.25, 233, 177.75]]
    assert np.allclose(candidates.boxes_xyxy, expected)


def test_a_per_class_regressor_is_asked_for_the_class_found():
    edges = make_edges([0.0, 0.0, 0.5, 0.5], [0.5, 0.5, 1.0, 1.0], [9.0, 9.0, 9.0, 9.0])
    candidates = evaluate(
        regress(edges, (0, 0, 0, 20.0), (0, 1, 1, 20.0), regressor="per-class")
    ).candidates
    assert candidates.label_ids.tolist() == [0, 1]
    assert np.allclose(candidates.boxes_xyxy, [[0, 0, 110.5, 110.5], [122.5, 110.5, 233, 221]])


def test_a_mirrored_regressor_box_is_mirrored_back():
    edges = make_edges([0.25, 0.0, 0.75, 0.25])  # the left quarter of the mirrored window
    view = make_view(flipped=True)
    candidates = evaluate(regress(edges, (0, 0, 0, 20.0)), view).candidates
    assert np.allclose(candidates.boxes_xyxy, [[281 - 55.25, 55.25, 281, 165.75]])


def test_boxes_come_back_in_pixels_of_the_original_image():
    view = make_view(height=490, width=562)  # twice the canvas
    candidates = evaluate(ScriptedNetwork(make_logits(3, (1, 2, 0, 20.0))), view).candidates
    assert candidates.boxes_xyxy.tolist() == [[48, 24, 490, 466]]
