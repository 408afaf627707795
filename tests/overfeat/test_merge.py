"""Greedy merging against a literal reference, what it conserves, and the paper's figure 6."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from overfeat.merge import Average, MatchScore, MergeConfig, match_scores, merge_boxes

MATCHES = get_args(MatchScore)
AVERAGES = get_args(Average)
# In the units of each match score: pixels and square pixels for the literal one.
THRESHOLDS = {"iou": (0.5, 0.8, 1.6), "containment": (0.4, 0.8, 1.6), "literal": (9.0, 40.0, 300.0)}
SEVERAL = settings(max_examples=60, deadline=None, derandomize=True)

settings_of_merging = st.sampled_from(MATCHES).flatmap(
    lambda match: st.builds(
        MergeConfig,
        match=st.just(match),
        threshold=st.sampled_from(THRESHOLDS[match]),
        average=st.sampled_from(AVERAGES),
    )
)
# Few places and sizes, so that duplicates and equal match scores are common.
grid_boxes = st.tuples(
    st.integers(0, 6), st.integers(0, 6), st.sampled_from([0, 8, 16]), st.sampled_from([8, 16])
).map(lambda v: (4 * v[0], 4 * v[1], 4 * v[0] + v[2], 4 * v[1] + v[3]))
free_boxes = st.tuples(*[st.integers(0, 3200)] * 2, *[st.integers(0, 1900)] * 2).map(
    lambda v: (v[0] / 64, v[1] / 64, (v[0] + v[2]) / 64, (v[1] + v[3]) / 64)
)
sets_of_windows = st.lists(
    st.tuples(st.one_of(grid_boxes, free_boxes), st.sampled_from([0.0, 0.25, 0.3, 0.5, 1.0])),
    max_size=9,
)


def make_arrays(windows):
    boxes = np.array([box for box, _ in windows], dtype=np.float32).reshape(-1, 4)
    return boxes, np.array([probability for _, probability in windows], dtype=np.float32)


def score_literally(first, second, match):
    """The match score of one pair, written out."""
    sides = [max(0.0, min(first[2 + a], second[2 + a]) - max(first[a], second[a])) for a in (0, 1)]
    shared = sides[0] * sides[1]
    centres = [((b[0] + b[2]) / 2, (b[1] + b[3]) / 2) for b in (first, second)]
    distance = np.hypot(centres[0][0] - centres[1][0], centres[0][1] - centres[1][1])
    if match == "literal":
        return distance + shared
    areas = [max(0.0, b[2] - b[0]) * max(0.0, b[3] - b[1]) for b in (first, second)]
    mean_side = (areas[0] ** 0.5 + areas[1] ** 0.5) / 2
    whole = min(areas) if match == "containment" else areas[0] + areas[1] - shared
    apart = distance / mean_side if mean_side else (np.inf if distance else 0.0)
    return apart + 1 - (shared / whole if whole else 0.0)


def merge_literally(boxes, probabilities, config):
    """Section 4.3 with lists: score all pairs again in every round, first pair wins a tie."""
    groups = [
        (np.array(box, dtype=float), float(p), float(p), 1)
        for box, p in zip(boxes, probabilities, strict=True)
    ]
    while True:
        scored = [
            (score_literally(groups[i][0], groups[j][0], config.match), i, j)
            for i in range(len(groups))
            for j in range(i + 1, len(groups))
        ]
        if not scored or min(scored)[0] > config.threshold:
            return groups
        _, i, j = min(scored)
        first, second = groups[i], groups[j]
        weights = {
            "plain": (1, 1),
            "windows": (first[3], second[3]),
            "evidence": (first[2], second[2]),
        }
        a, b = weights[config.average]
        if a + b == 0:
            a = b = 1
        box = (a * first[0] + b * second[0]) / (a + b)
        groups[i] = (box, max(first[1], second[1]), first[2] + second[2], first[3] + second[3])
        del groups[j]


@settings(SEVERAL, max_examples=300)
@given(sets_of_windows, settings_of_merging)
def test_merging_equals_the_literal_procedure(windows, config):
    boxes, probabilities = make_arrays(windows)
    merged = merge_boxes(boxes, probabilities, config)
    literal = merge_literally(boxes, probabilities, config)
    assert merged.n_windows.tolist() == [group[3] for group in literal]
    assert merged.score.tolist() == [group[1] for group in literal]
    assert np.allclose(merged.evidence, [group[2] for group in literal], rtol=1e-6, atol=0)
    expected = np.array([group[0] for group in literal]).reshape(-1, 4)
    assert np.allclose(merged.boxes_xyxy, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("match", MATCHES)
@pytest.mark.parametrize("seed", range(3))
def test_many_boxes_merge_as_the_literal_procedure_does(match, seed):
    random = np.random.default_rng(seed)
    corner = random.uniform(0, 200, (60, 2))
    boxes = np.hstack([corner, corner + random.uniform(20, 60, (60, 2))]).astype(np.float32)
    probabilities = random.uniform(0.3, 1, 60).astype(np.float32)
    config = MergeConfig(match=match, threshold=THRESHOLDS[match][1])
    merged = merge_boxes(boxes, probabilities, config)
    literal = merge_literally(boxes, probabilities, config)
    assert 1 < len(literal) < 60
    assert merged.n_windows.tolist() == [group[3] for group in literal]
    assert np.allclose(merged.boxes_xyxy, [group[0] for group in literal], rtol=1e-5)


@SEVERAL
@given(sets_of_windows, settings_of_merging)
def test_merging_conserves_windows_and_evidence_and_the_best_score(windows, config):
    boxes, probabilities = make_arrays(windows)
    merged = merge_boxes(boxes, probabilities, config)
    assert merged.n_windows.sum() == len(windows)
    assert np.isclose(merged.evidence.sum(), probabilities.sum(), rtol=1e-6)
    assert max(merged.score, default=0) == max(probabilities, default=0)
    assert (merged.score <= merged.evidence + 1e-6).all()
    assert (merged.evidence <= merged.score * merged.n_windows + 1e-6).all()


@SEVERAL
@given(sets_of_windows, settings_of_merging)
def test_a_merged_box_lies_within_the_extremes_of_the_boxes(windows, config):
    boxes, probabilities = make_arrays(windows)
    merged = merge_boxes(boxes, probabilities, config).boxes_xyxy
    if len(windows):
        assert (merged >= boxes.min(axis=0) - 1e-4).all()
        assert (merged <= boxes.max(axis=0) + 1e-4).all()


@SEVERAL
@given(
    sets_of_windows,
    settings_of_merging.filter(lambda config: config.match != "literal"),
    st.sampled_from([2.0**-4, 8.0, 2.0**10]),
)
def test_the_relative_match_scores_do_not_depend_on_the_units(windows, config, factor):
    boxes, probabilities = make_arrays(windows)
    merged = merge_boxes(boxes, probabilities, config)
    scaled = merge_boxes(boxes * np.float32(factor), probabilities, config)
    assert np.array_equal(scaled.n_windows, merged.n_windows)
    assert np.array_equal(scaled.boxes_xyxy, merged.boxes_xyxy * np.float32(factor))


@SEVERAL
@given(sets_of_windows, st.sampled_from(MATCHES))
def test_a_match_score_is_the_same_from_both_sides_to_the_last_bit(windows, match):
    # Thirds, so that sums have to be rounded, as they have among averaged boxes.
    boxes = make_arrays(windows)[0].astype(np.float64) / 3
    table = np.array([match_scores(box, boxes, match) for box in boxes]).reshape(
        len(boxes), len(boxes)
    )
    assert np.array_equal(table, table.T)


def test_nothing_merges_to_nothing():
    empty = np.zeros((0, 4), dtype=np.float32), np.zeros(0, dtype=np.float32)
    merged = merge_boxes(*empty, MergeConfig())
    assert merged.boxes_xyxy.shape == (0, 4)
    assert len(merged.score) == len(merged.evidence) == len(merged.n_windows) == 0


def test_equal_match_scores_go_to_the_pair_that_comes_first():
    boxes = np.array([[0, 0, 8, 8], [2, 0, 10, 8], [4, 0, 12, 8]], dtype=np.float32)
    merged = merge_boxes(boxes, np.full(3, 0.5, np.float32), MergeConfig(threshold=0.7))
    assert merged.boxes_xyxy.tolist() == [[1, 0, 9, 8], [4, 0, 12, 8]]


def test_a_merged_box_wins_a_tie_by_the_place_of_its_first_window():
    # The second and third merge into (10, 0), as far from the first box as the last one is.
    corner = np.array([[0, 0], [10, 3], [10, -3], [-10, 0]], dtype=np.float32)
    boxes = np.hstack([corner, corner + 40])
    config = MergeConfig(threshold=0.66, average="plain")
    merged = merge_boxes(boxes, np.full(4, 0.5, np.float32), config)
    assert merged.boxes_xyxy[:, :2].tolist() == [[5, 0], [-10, 0]]
    assert merged.n_windows.tolist() == [3, 1]


def test_the_threshold_itself_still_merges():
    boxes = np.array([[0, 0, 4, 4], [4, 0, 8, 4]], dtype=np.float32)
    probabilities = np.full(2, 0.5, np.float32)
    # Neighbours: one side apart, nothing shared.
    assert len(merge_boxes(boxes, probabilities, MergeConfig(threshold=2.0)).score) == 1
    assert len(merge_boxes(boxes, probabilities, MergeConfig(threshold=1.999)).score) == 2


@pytest.mark.parametrize(
    ("average", "x_min"), [("plain", 2.0), ("windows", 1.5), ("evidence", 2.5)]
)
def test_an_average_weighs_boxes_as_it_is_named(average, x_min):
    # The first two merge first, into a box at 0.5 of two windows; then comes the third at 3.5.
    boxes = np.array([[0, 0, 40, 40], [1, 0, 41, 40], [3.5, 0, 43.5, 40]], dtype=np.float32)
    probabilities = np.array([0.125, 0.125, 0.5], dtype=np.float32)
    merged = merge_boxes(boxes, probabilities, MergeConfig(average=average))
    assert merged.n_windows.tolist() == [3]
    assert merged.boxes_xyxy[0].tolist() == [x_min, 0, x_min + 40, 40]


def test_agreeing_windows_gain_evidence_and_scattered_ones_keep_little():
    """After figure 6: the bear's boxes agree at every scale, the turtle's lie here and there."""
    random = np.random.default_rng(6)
    bear = np.array([120, 60, 320, 240]) + random.normal(0, 8, (24, 4))
    corner = random.permutation(36)[:10]
    turtle = np.stack([corner % 6 * 70, corner // 6 * 70], axis=1)
    turtle = np.hstack([turtle, turtle + 60])
    bears = merge_boxes(bear.astype(np.float32), np.full(24, 0.5, np.float32), MergeConfig())
    turtles = merge_boxes(turtle.astype(np.float32), np.full(10, 0.11, np.float32), MergeConfig())
    assert bears.n_windows.tolist() == [24]
    assert bears.evidence[0] == pytest.approx(12)
    assert np.abs(bears.boxes_xyxy[0] - [120, 60, 320, 240]).max() < 8
    assert len(turtles.evidence) == 10
    assert turtles.evidence.max() < bears.evidence[0] / 100


def test_the_default_merges_squares_shifted_by_less_than_a_third():
    def count(shift):
        boxes = np.array([[0, 0, 100, 100], [shift, 0, 100 + shift, 100]], dtype=np.float32)
        return len(merge_boxes(boxes, np.full(2, 0.5, np.float32), MergeConfig()).score)

    assert [count(shift) for shift in (0, 20, 31, 33, 60)] == [1, 1, 1, 2, 2]


def test_the_literal_reading_keeps_large_overlaps_apart_and_joins_small_ones():
    """Why it is not the default: taken as printed, the rule punishes agreement."""
    config = MergeConfig(match="literal", threshold=50.0)
    same = np.array([[0, 0, 100, 100], [1, 0, 101, 100]], dtype=np.float32)
    apart = np.array([[0, 0, 10, 10], [30, 0, 40, 10]], dtype=np.float32)
    probabilities = np.full(2, 0.5, np.float32)
    assert len(merge_boxes(same, probabilities, config).score) == 2
    assert len(merge_boxes(apart, probabilities, config).score) == 1


def test_containment_joins_a_part_with_its_whole_and_iou_does_not():
    boxes = np.array([[0, 0, 100, 100], [30, 30, 70, 70]], dtype=np.float32)
    probabilities = np.full(2, 0.5, np.float32)
    assert len(merge_boxes(boxes, probabilities, MergeConfig(match="containment")).score) == 1
    assert len(merge_boxes(boxes, probabilities, MergeConfig(match="iou")).score) == 2


def test_boxes_without_an_area_are_left_alone_without_a_warning():
    boxes = np.array([[5, 5, 5, 5], [9, 5, 9, 30], [9e4, 0, 9e4, 0]], dtype=np.float32)
    merged = merge_boxes(boxes, np.full(3, 0.5, np.float32), MergeConfig())
    assert np.array_equal(merged.boxes_xyxy, boxes)


def test_of_too_many_windows_the_most_probable_ones_are_merged_in_their_order():
    x = np.arange(6, dtype=np.float32) * 100
    boxes = np.stack([x, 0 * x, x + 10, 0 * x + 10], axis=1)
    probabilities = np.array([0.5, 0.9, 0.5, 0.3, 0.5, 0.7], dtype=np.float32)
    merged = merge_boxes(boxes, probabilities, MergeConfig(max_windows=4))
    # Of the three at 0.5 the first two.
    assert merged.boxes_xyxy[:, 0].tolist() == [0, 100, 200, 500]
    assert merged.score.tolist() == probabilities[[0, 1, 2, 5]].tolist()


def test_a_limit_that_is_not_reached_changes_nothing():
    boxes = np.array([[0, 0, 8, 8], [2, 0, 10, 8], [50, 0, 58, 8]], dtype=np.float32)
    probabilities = np.array([0.3, 0.9, 0.4], dtype=np.float32)
    few, many = (
        merge_boxes(boxes, probabilities, MergeConfig(max_windows=limit)) for limit in (3, 2000)
    )
    assert np.array_equal(few.boxes_xyxy, many.boxes_xyxy)
    assert few.n_windows.tolist() == many.n_windows.tolist() == [2, 1]


def test_a_limit_below_one_window_is_refused():
    with pytest.raises(ValueError, match="max_windows: received 0, expected at least 1"):
        MergeConfig(max_windows=0)


def test_the_boxes_that_went_in_are_not_changed():
    boxes = np.array([[0, 0, 10, 10], [1, 0, 11, 10]], dtype=np.float32)
    probabilities = np.array([0.4, 0.6], dtype=np.float32)
    merge_boxes(boxes, probabilities, MergeConfig())
    assert boxes.tolist() == [[0, 0, 10, 10], [1, 0, 11, 10]]
    assert np.allclose(probabilities, [0.4, 0.6])


@pytest.mark.parametrize("threshold", [float("nan"), float("inf"), -float("inf")])
def test_a_threshold_that_is_no_number_is_refused(threshold):
    with pytest.raises(ValueError, match=r"merge threshold.*expected a finite number"):
        MergeConfig(threshold=threshold)
