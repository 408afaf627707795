"""Weighted box fusion against the steps of its paper, and its average by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from overfeat.merge import BoxFusion, merge_boxes
from tests.overfeat.merge.windows import (
    MANY,
    SEVERAL,
    crowds,
    make_arrays,
    make_lists,
    overlap_literally,
    sets_of_windows,
)

configs = st.builds(BoxFusion, iou=st.sampled_from([0.0, 0.2, 1 / 3, 0.55, 0.9, 1.0]))
scenes = st.one_of(sets_of_windows.map(make_arrays), crowds)


def fuse_literally(boxes, probabilities, iou):
    """Solovyev et al. 2021, all but the last step: lists of windows and their fused boxes."""
    boxes, probabilities = make_lists(boxes, probabilities)
    clusters, fused = [], []
    for window in sorted(range(len(boxes)), key=lambda window: (-probabilities[window], window)):
        overlaps = [overlap_literally(boxes[window], box) for box in fused]
        if max(overlaps, default=0) <= iou:
            clusters.append([window])
            fused.append(boxes[window])
            continue
        place = overlaps.index(max(overlaps))
        clusters[place].append(window)
        weights = [probabilities[member] or 1e-100 for member in clusters[place]]
        fused[place] = [
            sum(w * boxes[m][edge] for w, m in zip(weights, clusters[place], strict=True))
            / sum(weights)
            for edge in range(4)
        ]
    return clusters, fused


@MANY
@given(scenes, configs)
def test_fusion_equals_the_literal_procedure(scene, config):
    boxes, probabilities = scene
    merged = merge_boxes(boxes, probabilities, config)
    clusters, fused = fuse_literally(boxes, probabilities, config.iou)
    order = sorted(range(len(clusters)), key=lambda place: min(clusters[place]))
    found = [np.flatnonzero(merged.group == index).tolist() for index in range(len(order))]
    assert found == [sorted(clusters[place]) for place in order]
    expected = np.array([fused[place] for place in order]).reshape(-1, 4)
    assert np.allclose(merged.boxes_xyxy, expected, rtol=1e-6, atol=1e-6)


@SEVERAL
@given(scenes, configs)
def test_a_fused_box_lies_within_the_extremes_of_its_windows(scene, config):
    boxes, probabilities = scene
    merged = merge_boxes(boxes, probabilities, config)
    for index, box in enumerate(merged.boxes_xyxy):
        members = boxes[merged.group == index]
        assert (box >= members.min(axis=0) - 1e-4).all()
        assert (box <= members.max(axis=0) + 1e-4).all()
        if len(members) == 1:
            assert np.array_equal(box, members[0])


def test_probabilities_weigh_the_corners_and_add_up():
    boxes = np.array([[0, 0, 8, 8], [4, 0, 12, 8]], dtype=np.float32)
    probabilities = np.array([0.25, 0.75], dtype=np.float32)
    merged = merge_boxes(boxes, probabilities, BoxFusion(iou=0.3))
    assert merged.boxes_xyxy.tolist() == [[3, 0, 11, 8]]
    assert merged.score.tolist() == [0.75]
    assert merged.evidence.tolist() == [1.0]


def test_a_window_is_compared_with_the_fused_box_and_not_with_the_windows_in_it():
    # Shifted by 0, 6 and 11 of a side of 20: the last meets the second, and only the fused box.
    x = np.array([0, 6, 11], dtype=np.float32)
    boxes = np.stack([x, 0 * x, x + 20, 0 * x + 20], axis=1)
    near = merge_boxes(boxes, np.array([0.6, 0.5, 0.4], np.float32), BoxFusion(iou=0.4))
    assert near.n_windows.tolist() == [3]
    far = merge_boxes(boxes, np.array([0.9, 0.1, 0.05], np.float32), BoxFusion(iou=0.4))
    assert far.n_windows.tolist() == [2, 1]


def test_a_window_goes_to_the_best_match_and_not_to_the_first():
    boxes = np.array([[0, 0, 10, 10], [6, 0, 16, 10], [4, 0, 14, 10]], dtype=np.float32)
    merged = merge_boxes(boxes, np.array([0.9, 0.8, 0.7], np.float32), BoxFusion(iou=0.3))
    assert merged.group.tolist() == [0, 1, 1]


def test_the_threshold_itself_is_no_match():
    boxes = np.array([[0, 0, 4, 4], [0, 0, 4, 2]], dtype=np.float32)
    probabilities = np.array([0.6, 0.5], dtype=np.float32)
    assert len(merge_boxes(boxes, probabilities, BoxFusion(iou=0.5)).score) == 2
    assert len(merge_boxes(boxes, probabilities, BoxFusion(iou=0.499)).score) == 1


def test_windows_without_a_probability_are_averaged_plainly():
    boxes = np.array([[0, 0, 8, 8], [2, 0, 10, 8]], dtype=np.float32)
    merged = merge_boxes(boxes, np.zeros(2, np.float32), BoxFusion(iou=0.3))
    assert merged.boxes_xyxy.tolist() == [[1, 0, 9, 8]]
    assert merged.evidence.tolist() == [0]


@pytest.mark.parametrize("iou", [-0.1, 1.1, float("nan"), float("inf")])
def test_an_overlap_that_is_no_share_is_refused(iou):
    with pytest.raises(ValueError, match=r"wbf iou: received .*, expected a number from 0 to 1"):
        BoxFusion(iou=iou)
