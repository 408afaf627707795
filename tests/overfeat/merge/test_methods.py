"""What holds for every way of merging boxes."""

from __future__ import annotations

from dataclasses import replace
from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from overfeat.merge import (
    MERGES,
    BoxFusion,
    GreedyMerge,
    Method,
    NonMaxSuppression,
    SoftSuppression,
    describe_merge,
    merge_boxes,
)
from tests.overfeat.merge.windows import SEVERAL, crowds, make_arrays, sets_of_windows

CONFIGS = (
    GreedyMerge(),
    GreedyMerge(match="containment", average="windows", threshold=0.6),
    NonMaxSuppression(),
    SoftSuppression(),
    SoftSuppression(decay="linear", floor=0.2),
    BoxFusion(),
)
scenes = st.one_of(sets_of_windows.map(make_arrays), crowds)
configs = st.builds(
    replace, st.sampled_from(CONFIGS), max_windows=st.sampled_from([1, 3, 20, 4000])
)
every_method = pytest.mark.parametrize("config", CONFIGS, ids=repr)


def assert_same(first, second):
    for name in ("boxes_xyxy", "score", "evidence", "n_windows", "group"):
        assert getattr(first, name).tobytes() == getattr(second, name).tobytes(), name


@SEVERAL
@given(scenes, configs)
def test_a_box_tells_the_count_and_the_best_and_the_sum_of_its_windows(scene, config):
    boxes, probabilities = scene
    merged = merge_boxes(boxes, probabilities, config)
    assert merged.group.shape == probabilities.shape
    assert merged.group.dtype == merged.n_windows.dtype == np.int32
    assert merged.boxes_xyxy.dtype == merged.score.dtype == merged.evidence.dtype == np.float32
    members = [probabilities[merged.group == index] for index in range(len(merged.score))]
    assert merged.n_windows.tolist() == [len(group) for group in members]
    assert merged.n_windows.all()
    assert merged.score.tolist() == [group.max() for group in members]
    if not isinstance(config, SoftSuppression):
        assert np.allclose(merged.evidence, [group.sum() for group in members], rtol=1e-6, atol=0)


@SEVERAL
@given(scenes, configs)
def test_boxes_come_in_the_order_of_their_first_windows(scene, config):
    merged = merge_boxes(*scene, config)
    found, first = np.unique(merged.group[merged.group >= 0], return_index=True)
    assert found.tolist() == list(range(len(merged.score)))
    assert first.tolist() == sorted(first)


@SEVERAL
@given(scenes, configs)
def test_only_the_most_probable_windows_take_part(scene, config):
    boxes, probabilities = scene
    merged = merge_boxes(boxes, probabilities, config)
    ranked = sorted(range(len(boxes)), key=lambda window: (-probabilities[window], window))
    chosen = sorted(ranked[: config.max_windows])
    alone = merge_boxes(boxes[chosen], probabilities[chosen], replace(config, max_windows=4000))
    assert_same(replace(merged, group=merged.group[chosen]), alone)
    left_out = np.delete(merged.group, chosen)
    assert (left_out == -1).all()
    if not isinstance(config, SoftSuppression):
        assert (alone.group >= 0).all()


@SEVERAL
@given(scenes, st.sampled_from(CONFIGS), st.sampled_from([2.0**-4, 8.0, 2.0**10]))
def test_the_unit_of_the_boxes_does_not_matter(scene, config, factor):
    boxes, probabilities = scene
    merged = merge_boxes(boxes, probabilities, config)
    scaled = merge_boxes(boxes * np.float32(factor), probabilities, config)
    assert_same(scaled, replace(merged, boxes_xyxy=merged.boxes_xyxy * np.float32(factor)))


@SEVERAL
@given(scenes, configs)
def test_the_layout_of_the_arrays_does_not_matter_and_they_are_not_changed(scene, config):
    boxes, probabilities = scene
    merged = merge_boxes(boxes, probabilities, config)
    spread = np.repeat(probabilities, 3)[::3]
    columns = np.asfortranarray(boxes)
    for array in (boxes, probabilities, spread, columns):
        array.flags.writeable = False
    assert_same(merge_boxes(columns, spread, config), merged)


@every_method
def test_nothing_merges_to_nothing(config):
    merged = merge_boxes(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), config)
    assert merged.boxes_xyxy.shape == (0, 4)
    for array in (merged.score, merged.evidence, merged.n_windows, merged.group):
        assert array.shape == (0,)


@every_method
def test_windows_far_from_each_other_stay_as_they_are(config):
    x = np.arange(5, dtype=np.float32) * 100
    boxes = np.stack([x, 0 * x, x + 10, 0 * x + 10], axis=1)
    probabilities = np.array([0.5, 0.9, 0.5, 0.3, 0.7], dtype=np.float32)
    merged = merge_boxes(boxes, probabilities, config)
    assert np.array_equal(merged.boxes_xyxy, boxes)
    assert np.array_equal(merged.score, probabilities)
    assert np.array_equal(merged.evidence, probabilities)
    assert merged.group.tolist() == [0, 1, 2, 3, 4]


@every_method
def test_of_too_many_windows_the_most_probable_ones_are_merged_in_their_order(config):
    x = np.arange(6, dtype=np.float32) * 100
    boxes = np.stack([x, 0 * x, x + 10, 0 * x + 10], axis=1)
    probabilities = np.array([0.5, 0.9, 0.5, 0.3, 0.5, 0.7], dtype=np.float32)
    merged = merge_boxes(boxes, probabilities, replace(config, max_windows=4))
    # Of the three at 0.5 the first two.
    assert merged.boxes_xyxy[:, 0].tolist() == [0, 100, 200, 500]
    assert merged.score.tolist() == probabilities[[0, 1, 2, 5]].tolist()
    assert merged.group.tolist() == [0, 1, 2, -1, -1, 3]


@every_method
def test_boxes_without_an_area_are_left_alone_without_a_warning(config):
    boxes = np.array([[5, 5, 5, 5], [9, 5, 9, 30], [9e4, 0, 9e4, 0]], dtype=np.float32)
    merged = merge_boxes(boxes, np.full(3, 0.5, np.float32), config)
    assert np.array_equal(merged.boxes_xyxy, boxes)


@every_method
def test_a_limit_below_one_window_is_refused(config):
    with pytest.raises(ValueError, match="max_windows: received 0, expected at least 1"):
        replace(config, max_windows=0)


@pytest.mark.parametrize(
    ("config", "setting", "expected"),
    [
        (GreedyMerge(), "match", "merge match: received 'giou', expected one of iou, containment"),
        (GreedyMerge(), "average", "merge average: received 'giou', expected one of plain"),
        (SoftSuppression(), "decay", "soft-nms decay: received 'giou', expected one of linear"),
    ],
)
def test_a_word_that_names_nothing_is_refused(config, setting, expected):
    # Here types are checked before the word is; where they are not, it would do as another one.
    config = replace(config)
    object.__setattr__(config, setting, "giou")
    with pytest.raises(ValueError, match=expected):
        config.__post_init__()


def test_every_method_has_a_name_and_a_configuration():
    assert tuple(MERGES) == get_args(Method)
    assert list(MERGES.values()) == [GreedyMerge, NonMaxSuppression, SoftSuppression, BoxFusion]


@every_method
def test_a_description_is_enough_to_merge_the_same_way_again(config):
    description = describe_merge(config)
    kind = MERGES[description.pop("method")]
    assert kind(**description) == config


def test_a_description_names_the_method_first_and_then_every_setting():
    assert describe_merge(NonMaxSuppression(iou=0.25)) == {
        "method": "nms",
        "iou": 0.25,
        "max_windows": 4000,
    }
