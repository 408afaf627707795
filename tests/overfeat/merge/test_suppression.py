"""Non-maximum suppression against its pseudo-code, and what it promises."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from overfeat.boxes import intersection_over_union
from overfeat.merge import NonMaxSuppression, merge_boxes
from tests.overfeat.merge.windows import (
    MANY,
    SEVERAL,
    crowds,
    make_arrays,
    make_lists,
    overlap_literally,
    sets_of_windows,
)

configs = st.builds(NonMaxSuppression, iou=st.sampled_from([0.0, 0.2, 1 / 3, 0.5, 0.9, 1.0]))
scenes = st.one_of(sets_of_windows.map(make_arrays), crowds)


def suppress_literally(boxes, probabilities, iou):
    """Bodla et al. 2017, figure 2, the upper branch: for each window the one that keeps it out."""
    boxes, probabilities = make_lists(boxes, probabilities)
    left, keeper = list(range(len(boxes))), {}
    while left:
        best = max(left, key=lambda window: (probabilities[window], -window))
        gone = [w for w in left if w == best or overlap_literally(boxes[best], boxes[w]) > iou]
        keeper.update(dict.fromkeys(gone, best))
        left = [window for window in left if window not in gone]
    return [keeper[window] for window in range(len(boxes))]


@MANY
@given(scenes, configs)
def test_suppression_equals_the_literal_procedure(scene, config):
    boxes, probabilities = scene
    merged = merge_boxes(boxes, probabilities, config)
    keepers = suppress_literally(boxes, probabilities, config.iou)
    assert np.array_equal(merged.boxes_xyxy[merged.group], boxes[keepers])
    pairs = set(zip(keepers, merged.group.tolist(), strict=True))
    assert len(pairs) == len(set(keepers)) == len(merged.score)


@SEVERAL
@given(scenes, configs)
def test_the_boxes_that_stay_do_not_overlap_and_stay_when_asked_again(scene, config):
    merged = merge_boxes(*scene, config)
    kept = merged.boxes_xyxy.astype(np.float64)
    overlaps = intersection_over_union(kept[:, None], kept[None])
    assert (overlaps[~np.eye(len(kept), dtype=bool)] <= config.iou).all()
    again = merge_boxes(merged.boxes_xyxy, merged.score, config)
    assert np.array_equal(again.boxes_xyxy, merged.boxes_xyxy)
    assert (again.n_windows == 1).all()


def test_a_box_between_two_goes_with_the_one_that_suppressed_it_and_frees_what_it_would_have_hit():
    # A row of squares, each a third of a side further: neighbours overlap by half.
    x = np.array([0, 4, 8], dtype=np.float32)
    boxes = np.stack([x, 0 * x, x + 12, 0 * x + 12], axis=1)
    probabilities = np.array([0.5, 0.7, 0.9], dtype=np.float32)
    merged = merge_boxes(boxes, probabilities, NonMaxSuppression(iou=0.4))
    assert merged.boxes_xyxy[:, 0].tolist() == [0, 8]
    assert merged.group.tolist() == [0, 1, 1]
    assert merged.evidence.tolist() == pytest.approx([0.5, 1.6])
    assert merged.score.tolist() == probabilities[[0, 2]].tolist()


def test_the_threshold_itself_does_not_suppress():
    boxes = np.array([[0, 0, 4, 4], [0, 0, 4, 2]], dtype=np.float32)
    probabilities = np.array([0.5, 0.6], dtype=np.float32)
    assert len(merge_boxes(boxes, probabilities, NonMaxSuppression(iou=0.5)).score) == 2
    assert len(merge_boxes(boxes, probabilities, NonMaxSuppression(iou=0.499)).score) == 1


def test_the_earlier_of_equally_probable_windows_stays():
    boxes = np.array([[0, 0, 8, 8], [1, 0, 9, 8]], dtype=np.float32)
    merged = merge_boxes(boxes, np.full(2, 0.5, np.float32), NonMaxSuppression())
    assert merged.boxes_xyxy.tolist() == [[0, 0, 8, 8]]


@pytest.mark.parametrize("iou", [-0.1, 1.1, float("nan"), float("inf")])
def test_an_overlap_that_is_no_share_is_refused(iou):
    with pytest.raises(ValueError, match=r"nms iou: received .*, expected a number from 0 to 1"):
        NonMaxSuppression(iou=iou)
