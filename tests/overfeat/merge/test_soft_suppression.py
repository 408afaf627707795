"""Soft suppression against the paper's pseudo-code, and its decay by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from overfeat.merge import NonMaxSuppression, SoftSuppression, merge_boxes
from tests.overfeat.merge.windows import (
    MANY,
    SEVERAL,
    crowds,
    make_arrays,
    make_lists,
    overlap_literally,
    sets_of_windows,
)

configs = st.builds(
    SoftSuppression,
    decay=st.sampled_from(["linear", "gaussian"]),
    iou=st.sampled_from([0.0, 0.3, 0.5, 1.0]),
    sigma=st.sampled_from([0.1, 0.5, 2.0]),
    # No floor that a probability of the scenes could equal but for its rounding.
    floor=st.sampled_from([0.0, 0.001, 0.0973, 0.2517]),
)
scenes = st.one_of(sets_of_windows.map(make_arrays), crowds)
LINEAR = SoftSuppression(decay="linear", iou=0.3)


def decay_literally(boxes, probabilities, config):
    """Bodla et al. 2017, figure 2, the lower branch: what each window has when it is taken."""
    boxes, left = make_lists(boxes, probabilities)
    waiting, taken = list(range(len(boxes))), {}
    while waiting:
        best = max(waiting, key=lambda window: (left[window], -window))
        waiting.remove(best)
        taken[best] = left[best]
        for window in waiting:
            overlap = overlap_literally(boxes[best], boxes[window])
            if config.decay == "gaussian":
                # NumPy's exponential, lest its last bit decide which of two windows is taken first.
                left[window] *= float(np.exp(-overlap * overlap / config.sigma))
            elif overlap > config.iou:
                left[window] *= 1 - overlap
    return {window: taken[window] for window in sorted(taken) if taken[window] >= config.floor}


@MANY
@given(scenes, configs)
def test_soft_suppression_equals_the_literal_procedure(scene, config):
    boxes, probabilities = scene
    merged = merge_boxes(boxes, probabilities, config)
    taken = decay_literally(boxes, probabilities, config)
    assert np.flatnonzero(merged.group >= 0).tolist() == list(taken)
    assert np.array_equal(merged.boxes_xyxy, boxes[list(taken)])
    assert np.allclose(merged.evidence, list(taken.values()), rtol=1e-6, atol=0)


@SEVERAL
@given(scenes, configs)
def test_probabilities_only_fall_and_the_best_one_stays(scene, config):
    boxes, probabilities = scene
    merged = merge_boxes(boxes, probabilities, config)
    assert (merged.evidence <= merged.score).all()
    if max(probabilities, default=0) >= config.floor:
        assert max(merged.evidence, default=0) == max(probabilities, default=0)


@SEVERAL
@given(scenes, st.sampled_from([0.05, 0.3, 0.7]))
def test_windows_that_hard_suppression_leaves_alone_the_linear_decay_does_too(scene, iou):
    hard = merge_boxes(*scene, NonMaxSuppression(iou=iou))
    soft = merge_boxes(*scene, SoftSuppression(decay="linear", iou=iou, floor=0.0))
    alone = len(hard.score) == len(scene[1])
    assert np.array_equal(soft.evidence, soft.score) == alone or 0 in scene[1]


def test_the_decay_is_as_written_in_the_paper():
    # IoU of the two: 3 / 5.
    boxes = np.array([[0, 0, 4, 4], [1, 0, 5, 4]], dtype=np.float32)
    probabilities = np.array([0.8, 0.5], dtype=np.float32)
    linear = merge_boxes(boxes, probabilities, LINEAR)
    assert linear.evidence.tolist() == pytest.approx([0.8, 0.5 * 0.4])
    gaussian = merge_boxes(boxes, probabilities, SoftSuppression(sigma=0.25))
    assert gaussian.evidence.tolist() == pytest.approx([0.8, 0.5 * math.exp(-0.36 / 0.25)])
    for merged in (linear, gaussian):
        assert merged.score.tolist() == probabilities.tolist()
        assert merged.n_windows.tolist() == [1, 1]


def test_the_next_window_is_the_most_probable_one_after_the_decay():
    # The second decays below the third, which overlaps it and not the first.
    boxes = np.array([[0, 0, 4, 4], [1, 0, 5, 4], [4, 0, 8, 4]], dtype=np.float32)
    probabilities = np.array([0.8, 0.75, 0.5], dtype=np.float32)
    merged = merge_boxes(
        boxes, probabilities, SoftSuppression(decay="linear", iou=0.1)
    ).evidence.tolist()
    assert merged == pytest.approx([0.8, 0.75 * 0.4 * (1 - 4 / 28), 0.5])


def test_only_the_linear_decay_has_a_threshold():
    # IoU 1 / 7.
    boxes = np.array([[0, 0, 4, 4], [3, 0, 7, 4]], dtype=np.float32)
    probabilities = np.array([0.8, 0.5], dtype=np.float32)
    assert merge_boxes(boxes, probabilities, LINEAR).evidence[1] == 0.5
    assert merge_boxes(boxes, probabilities, SoftSuppression(iou=0.3)).evidence[1] < 0.5


def test_the_threshold_itself_does_not_decay():
    boxes = np.array([[0, 0, 4, 4], [0, 0, 4, 2]], dtype=np.float32)
    probabilities = np.array([0.8, 0.5], dtype=np.float32)
    for iou, evidence in ((0.5, 0.5), (0.49, 0.25)):
        config = SoftSuppression(decay="linear", iou=iou)
        assert merge_boxes(boxes, probabilities, config).evidence[1] == evidence


def test_a_window_below_the_floor_belongs_to_no_box_and_one_at_the_floor_stays():
    boxes = np.array([[0, 0, 4, 4], [0, 0, 4, 2], [9, 9, 12, 12]], dtype=np.float32)
    probabilities = np.array([0.75, 0.5, 0.2], dtype=np.float32)
    config = SoftSuppression(decay="linear", floor=0.25)
    assert merge_boxes(boxes, probabilities, config).group.tolist() == [0, 1, -1]
    config = SoftSuppression(decay="linear", floor=0.26)
    assert merge_boxes(boxes, probabilities, config).group.tolist() == [0, -1, -1]


@pytest.mark.parametrize(
    ("setting", "value", "expected"),
    [
        ("iou", 1.5, "iou: received 1.5, expected a number from 0 to 1"),
        ("floor", float("nan"), "floor: received nan, expected a number from 0 to 1"),
        ("sigma", 0.0, "sigma: received 0.0, expected a finite number above 0"),
        ("sigma", float("inf"), "sigma: received inf, expected a finite number above 0"),
        ("sigma", float("nan"), "sigma: received nan, expected a finite number above 0"),
    ],
)
def test_a_setting_out_of_range_is_refused(setting, value, expected):
    with pytest.raises(ValueError, match=f"soft-nms {expected}"):
        SoftSuppression(**{setting: value})
