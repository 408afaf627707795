"""What is read off the windows of a view; what the network says is made up."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from overfeat.architectures import narrow
from overfeat.evaluation import Question, read_views
from overfeat.network import WindowValues
from overfeat.scales import Canvas, Placement, place
from overfeat.views import View
from overfeat.zoo import TINY
from tests.overfeat.builders import FEW, make_network

NETWORK = make_network(narrow(TINY, divisor=64))
# The windows of a 245x281 canvas: 3 rows, 6 columns, 12 pixels apart.
ROWS, COLS = 3, 6
CANVAS = Canvas(245, 281)


def make_view(*, height=245, width=281, flipped=False):
    return View(0, place(CANVAS, height=height, width=width), flipped)


def make_logits(outputs, *said, rows=ROWS, cols=COLS, others=-20.0):
    """Logits by row, column and output; all others are low."""
    logits = torch.full((1, outputs, rows, cols), others)
    for row, col, output, value in said:
        logits[0, output, row, col] = value
    return logits


def make_edges(*boxes):
    """The same edges in every window: top, left, bottom, right for each regressor."""
    values = torch.tensor(boxes, dtype=torch.float32).reshape(1, -1, 1, 1)
    return values.expand(1, -1, ROWS, COLS)


def read(logits, view=None, *, edges=None, tapped=None, **asked):
    """What one view says: two classes and the background, candidates from one half on."""
    values = WindowValues(logits, codes=edges, tapped=tapped)
    question = Question(**{"classes": 2, "stride": "fine", "threshold": 0.5} | asked)
    (result,) = read_views(NETWORK, values, [view or make_view()], question)
    return result


def test_a_window_that_says_a_class_becomes_a_candidate_with_its_own_square():
    # The windows of rows 0 and 1 in columns 2 and 5, in image pixels equal to canvas pixels.
    result = read(make_logits(3, (1, 2, 0, 20.0), (0, 5, 1, 20.0)))
    assert result.candidates.label_ids.tolist() == [1, 0]
    assert np.allclose(result.candidates.probabilities, 1)
    assert result.candidates.boxes_xyxy.tolist() == [[60, 0, 281, 221], [24, 12, 245, 233]]
    assert np.allclose(result.class_maxima, 1)


def test_coarse_windows_are_three_times_as_far_apart():
    logits = make_logits(3, (0, 1, 0, 20.0), rows=1, cols=2)
    found = read(logits, stride="coarse").candidates
    assert found.boxes_xyxy.tolist() == [[36, 0, 257, 221]]


def test_candidates_are_ordered_by_row_then_column_then_class():
    said = [(row, col, label, 1.0) for label in (1, 0) for col in (4, 2) for row in (2, 0)]
    found = read(make_logits(3, *said, others=-9.0), threshold=0.4).candidates
    assert found.label_ids.tolist() == [0, 1] * 4
    corners = found.boxes_xyxy[::2, :2].tolist()
    assert corners == [[24, 0], [48, 0], [24, 24], [48, 24]]


def test_the_background_is_no_class():
    logits = make_logits(3, *[(row, col, 2, 20.0) for row in range(ROWS) for col in range(COLS)])
    result = read(logits)
    assert len(result.candidates.label_ids) == 0
    assert result.class_maxima.shape == (2,)
    assert result.class_maxima.max() < 1e-6


def test_only_probabilities_from_the_threshold_on_take_part():
    even = make_logits(3, (0, 0, 0, 0.0), (0, 0, 1, 0.0))  # one half each
    assert len(read(even, threshold=0.5).candidates.label_ids) == 2
    assert len(read(even, threshold=0.51).candidates.label_ids) == 0


def test_the_maxima_are_taken_over_all_windows_of_the_softmax():
    logits = make_logits(3, (0, 0, 0, 0.0), (0, 0, 2, 0.0), (2, 3, 0, -1.0), (2, 3, 2, 1.0))
    maxima = read(logits).class_maxima
    assert maxima[0] == pytest.approx(0.5)
    # Where all outputs are equal each has a third.
    assert maxima[1] == pytest.approx(1 / 3)


def test_what_was_not_asked_for_is_left_out():
    result = read(make_logits(3), threshold=None)
    assert result.candidates is None
    assert result.proposals is None
    assert result.features is None


def test_windows_that_see_only_padding_neither_vote_nor_detect():
    """A panorama: rows 229 to 232 of a canvas whose first windows end at row 221."""
    placement = place(Canvas(461, 461), height=3, width=461)
    assert (placement.top, placement.fitted_height) == (229, 3)
    logits = torch.zeros(1, 3, 21, 21)
    logits[0, 0, 0] = 20.0
    logits[0, 1, 1, 4] = 20.0
    # Boxes twice as high as their windows: those of the first row reach the image, too.
    edges = torch.tensor([0.0, 0.0, 2.0, 1.0]).reshape(1, 4, 1, 1).expand(1, 4, 21, 21)
    result = read(logits, View(0, placement, flipped=False), edges=edges, top_classes=2)
    assert result.candidates.label_ids.tolist() == [1]
    # Where all outputs are equal each has a third.
    assert result.class_maxima.tolist() == pytest.approx([1 / 3, 1.0])
    # The first row and the last one miss the image.
    assert len(result.proposals.label_ids) == 2 * 19 * 21
    assert result.proposals.boxes_xyxy.min(axis=0)[1] == 0
    assert (result.proposals.probabilities[result.proposals.label_ids == 0] < 0.5).all()


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
        result = read(logits, View(0, placement, flipped))
        if result.class_maxima[0] > 0.5:
            counted.append(column)
        assert len(result.candidates.label_ids) == (result.class_maxima[0] > 0.5)
    assert counted == list(columns)


def test_a_mirrored_window_reports_its_box_in_the_unmirrored_image():
    candidates = read(make_logits(3, (1, 0, 0, 20.0)), make_view(flipped=True)).candidates
    # The first window of the mirrored canvas is the last 221 columns of 281.
    assert candidates.boxes_xyxy.tolist() == [[60, 12, 281, 233]]


def test_boxes_are_cut_at_the_image_and_empty_ones_dropped():
    # The image takes rows 82 to 163 of the canvas: 3 times as wide as high.
    view = make_view(height=100, width=347)
    assert view.placement.top > 80
    logits = make_logits(3, (0, 0, 0, 20.0), (2, 5, 1, 20.0))
    above = make_edges([0.0, 0.2, 0.1, 0.8])  # rows 0 to 22 of the first window: padding
    assert len(read(logits, view, edges=above).candidates.label_ids) == 0
    across = make_edges([0.0, 0.0, 1.0, 1.0])
    boxes = read(logits, view, edges=across).candidates.boxes_xyxy
    assert len(boxes) == 2
    assert boxes.min() >= 0
    assert (boxes.max(axis=0) <= [347, 100, 347, 100]).all()


def test_a_single_regressor_gives_every_class_the_same_box_in_the_windows_frame():
    logits = make_logits(3, (0, 0, 0, 20.0), (1, 1, 1, 20.0))
    candidates = read(logits, edges=make_edges([0.25, 0.5, 0.75, 1.0])).candidates
    assert candidates.label_ids.tolist() == [0, 1]
    expected = [[110.5, 55.25, 221, 165.75], [122.5, 67.25, 233, 177.75]]
    assert np.allclose(candidates.boxes_xyxy, expected)


def test_a_per_class_regressor_is_asked_for_the_class_found():
    edges = make_edges([0.0, 0.0, 0.5, 0.5], [0.5, 0.5, 1.0, 1.0], [9.0, 9.0, 9.0, 9.0])
    candidates = read(make_logits(3, (0, 0, 0, 20.0), (0, 1, 1, 20.0)), edges=edges).candidates
    assert candidates.label_ids.tolist() == [0, 1]
    assert np.allclose(candidates.boxes_xyxy, [[0, 0, 110.5, 110.5], [122.5, 110.5, 233, 221]])


def test_a_mirrored_regressor_box_is_mirrored_back():
    edges = make_edges([0.25, 0.0, 0.75, 0.25])  # the left quarter of the mirrored window
    view = make_view(flipped=True)
    candidates = read(make_logits(3, (0, 0, 0, 20.0)), view, edges=edges).candidates
    assert np.allclose(candidates.boxes_xyxy, [[281 - 55.25, 55.25, 281, 165.75]])


def test_boxes_come_back_in_pixels_of_the_original_image():
    view = make_view(height=490, width=562)  # twice the canvas
    candidates = read(make_logits(3, (1, 2, 0, 20.0)), view).candidates
    assert candidates.boxes_xyxy.tolist() == [[48, 24, 490, 466]]


def test_every_window_of_the_best_classes_is_a_proposal_however_improbable():
    logits = make_logits(4, (2, 3, 1, 5.0), (0, 0, 2, 4.0), others=0.0)
    proposals = read(logits, classes=3, top_classes=1).proposals
    assert proposals.label_ids.tolist() == [1] * ROWS * COLS
    corners = [[12 * col, 12 * row] for row in range(ROWS) for col in range(COLS)]
    assert proposals.boxes_xyxy[:, :2].tolist() == corners
    best = proposals.probabilities.argmax()
    assert best == 2 * COLS + 3
    others = np.delete(proposals.probabilities, [0, best])
    assert np.allclose(others, 1 / 4)


def test_the_best_classes_of_a_view_are_those_with_the_highest_maximum():
    """Not those with the highest sum: class 2 says a little everywhere, class 0 much once."""
    said = [(row, col, 2, 1.0) for row in range(ROWS) for col in range(COLS)]
    logits = make_logits(4, *said, (1, 1, 0, 9.0), (2, 2, 1, 5.0), others=0.0)
    for count, expected in ((1, {0}), (2, {0, 1}), (3, {0, 1, 2}), (9, {0, 1, 2})):
        proposals = read(logits, classes=3, top_classes=count).proposals
        assert set(proposals.label_ids.tolist()) == expected


def test_of_equal_classes_the_first_ones_are_proposed():
    proposals = read(make_logits(4, others=0.0), classes=3, top_classes=2).proposals
    assert set(proposals.label_ids.tolist()) == {0, 1}


def test_a_mirrored_view_has_no_features():
    tapped = torch.ones(1, 2, ROWS, COLS)
    asked = {"module": "fc8"}
    assert read(make_logits(3), tapped=tapped, **asked).features.vectors.tolist() == [[1, 1]]
    mirrored = make_view(flipped=True)
    assert read(make_logits(3), mirrored, tapped=tapped, **asked).features is None


def list_candidates(logits, edges, view, *, threshold):
    """Window by window and class by class: label, probability, box."""
    where = view.placement
    found = []
    for row in range(ROWS):
        for col in range(COLS):
            x = 12 * col
            if view.flipped:
                x = CANVAS.width - x - 221
            y = 12 * row
            overlaps = x < where.left + where.fitted_width and x + 221 > where.left
            overlaps &= y < where.top + where.fitted_height and y + 221 > where.top
            odds = np.exp(logits[0, :, row, col].double().numpy())
            for label, probability in enumerate((odds / odds.sum())[:2]):
                if probability < threshold or not overlaps:
                    continue
                top, left, bottom, right = edges[0, 4 * label : 4 * label + 4, row, col].tolist()
                if view.flipped:
                    left, right = 1 - right, 1 - left
                across = np.sort([x + 221 * left, x + 221 * right]) - where.left
                down = np.sort([y + 221 * top, y + 221 * bottom]) - where.top
                across = across * where.image_width / where.fitted_width
                down = down * where.image_height / where.fitted_height
                across, down = across.clip(0, where.image_width), down.clip(0, where.image_height)
                if across[1] > across[0] and down[1] > down[0]:
                    found.append((label, probability, [across[0], down[0], across[1], down[1]]))
    return found


@settings(FEW, max_examples=60)
@given(st.integers(0, 10**6), st.integers(1, 500), st.integers(1, 500), st.booleans())
def test_candidates_are_those_of_a_plain_loop(seed, height, width, flipped):
    if height > width:
        height, width = width, height
    view = make_view(height=height, width=width, flipped=flipped)
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(1, 3, ROWS, COLS, generator=generator)
    edges = torch.rand(1, 12, ROWS, COLS, generator=generator) * 1.5 - 0.25
    found = read(logits, view, edges=edges, threshold=0.4).candidates
    expected = list_candidates(logits, edges, view, threshold=0.4)
    assert found.label_ids.tolist() == [label for label, _, _ in expected]
    assert np.allclose(found.probabilities, [p for _, p, _ in expected], atol=1e-6)
    boxes = np.array([box for _, _, box in expected]).reshape(-1, 4)
    assert np.allclose(found.boxes_xyxy, boxes, atol=1e-4 * max(height, width) + 1e-3)
