"""Greedy merging against a literal reference, what it conserves, and the paper's figure 6."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from overfeat.merge import Average, GreedyMerge, MatchScore, match_scores, merge_boxes
from overfeat.merge.limits import LEAST
from tests.overfeat.merge.windows import (
    MANY,
    SEVERAL,
    crowds,
    make_arrays,
    make_crowd,
    sets_of_windows,
)

MATCHES = get_args(MatchScore)
AVERAGES = get_args(Average)
# In the units of each match score: pixels and square pixels for the literal one.
THRESHOLDS = {"iou": (0.5, 0.8, 1.6), "containment": (0.4, 0.8, 1.6), "literal": (9.0, 40.0, 300.0)}

settings_of_merging = st.sampled_from(MATCHES).flatmap(
    lambda match: st.builds(
        GreedyMerge,
        match=st.just(match),
        threshold=st.sampled_from(THRESHOLDS[match]),
        average=st.sampled_from(AVERAGES),
    )
)


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


def score_pairs_literally(boxes, match):
    count = range(len(boxes))
    return [
        (score_literally(boxes[i], boxes[j], match), i, j) for i in count for j in count[i + 1 :]
    ]


def score_pairs_exactly(boxes, match):
    """The same with the package's own match score, so that no rounding differs."""
    table = match_scores(np.array(boxes)[:, None], np.array(boxes)[None], match)
    return [(table[i, j], i, j) for i, j in zip(*np.triu_indices(len(boxes), 1), strict=True)]


def merge_literally(boxes, probabilities, config, score_pairs=score_pairs_literally):
    """Section 4.3 with lists: score all pairs again in every round, first pair wins a tie.

    A group is a box, the probabilities' maximum and sum, and the windows.
    """
    groups = [
        (np.array(box, dtype=float), float(p), float(p), [window])
        for window, (box, p) in enumerate(zip(boxes, probabilities, strict=True))
    ]
    while groups:
        scored = score_pairs([group[0] for group in groups], config.match)
        lowest, i, j = min(scored, default=(np.inf, 0, 0))
        if lowest > config.threshold:
            return groups
        first, second = groups[i], groups[j]
        a, b = {
            "plain": (1, 1),
            "windows": (len(first[3]), len(second[3])),
            "evidence": (max(first[2], LEAST), max(second[2], LEAST)),
        }[config.average]
        box = (a * first[0] + b * second[0]) / (a + b)
        groups[i] = (box, max(first[1], second[1]), first[2] + second[2], first[3] + second[3])
        del groups[j]
    return groups


def check_groups(merged, literal):
    count = sum(len(group[3]) for group in literal)
    owner = {window: index for index, group in enumerate(literal) for window in group[3]}
    assert merged.group.tolist() == [owner[window] for window in range(count)]
    assert merged.n_windows.tolist() == [len(group[3]) for group in literal]
    assert merged.score.tolist() == [group[1] for group in literal]


@MANY
@given(sets_of_windows, settings_of_merging)
def test_merging_equals_the_literal_procedure(windows, config):
    boxes, probabilities = make_arrays(windows)
    merged = merge_boxes(boxes, probabilities, config)
    literal = merge_literally(boxes, probabilities, config)
    check_groups(merged, literal)
    assert np.allclose(merged.evidence, [group[2] for group in literal], rtol=1e-6, atol=0)
    expected = np.array([group[0] for group in literal]).reshape(-1, 4)
    assert np.allclose(merged.boxes_xyxy, expected, rtol=1e-6, atol=1e-6)


@SEVERAL
@given(st.one_of(sets_of_windows.map(make_arrays), crowds), settings_of_merging)
def test_no_shortcut_of_the_search_changes_a_bit_of_the_result(windows, config):
    """With the same match score in both, nothing is left but the search for the nearest pair."""
    boxes, probabilities = windows
    merged = merge_boxes(boxes, probabilities, config)
    literal = merge_literally(boxes, probabilities, config, score_pairs=score_pairs_exactly)
    check_groups(merged, literal)
    evidence = np.array([group[2] for group in literal], dtype=np.float32)
    assert merged.evidence.tobytes() == evidence.tobytes()
    expected = np.array([group[0] for group in literal], dtype=np.float32).reshape(-1, 4)
    assert merged.boxes_xyxy.tobytes() == expected.tobytes()


@pytest.mark.parametrize("match", MATCHES)
@pytest.mark.parametrize("seed", range(3))
def test_many_boxes_merge_as_the_literal_procedure_does(match, seed):
    boxes, probabilities = make_crowd(seed, count=60, crowded=False)
    config = GreedyMerge(match=match, threshold=THRESHOLDS[match][1])
    merged = merge_boxes(boxes, probabilities, config)
    literal = merge_literally(boxes, probabilities, config)
    assert 1 < len(literal) < 60
    check_groups(merged, literal)
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


def test_equal_match_scores_go_to_the_pair_that_comes_first():
    boxes = np.array([[0, 0, 8, 8], [2, 0, 10, 8], [4, 0, 12, 8]], dtype=np.float32)
    merged = merge_boxes(boxes, np.full(3, 0.5, np.float32), GreedyMerge(threshold=0.7))
    assert merged.boxes_xyxy.tolist() == [[1, 0, 9, 8], [4, 0, 12, 8]]


def test_a_merged_box_wins_a_tie_by_the_place_of_its_first_window():
    # The second and third merge into (10, 0), as far from the first box as the last one is.
    corner = np.array([[0, 0], [10, 3], [10, -3], [-10, 0]], dtype=np.float32)
    boxes = np.hstack([corner, corner + 40])
    config = GreedyMerge(threshold=0.66, average="plain")
    merged = merge_boxes(boxes, np.full(4, 0.5, np.float32), config)
    assert merged.boxes_xyxy[:, :2].tolist() == [[5, 0], [-10, 0]]
    assert merged.n_windows.tolist() == [3, 1]


def test_a_merged_box_loses_a_tie_to_an_earlier_box():
    # The last two merge into (10, 0), as far from the first box as the second one is.
    corner = np.array([[0, 0], [-10, 0], [10, 3], [10, -3]], dtype=np.float32)
    boxes = np.hstack([corner, corner + 40])
    config = GreedyMerge(threshold=0.66, average="plain")
    merged = merge_boxes(boxes, np.full(4, 0.5, np.float32), config)
    assert merged.boxes_xyxy[:, :2].tolist() == [[-5, 0], [10, 0]]


def test_a_merged_box_loses_a_tie_to_an_earlier_box_that_had_lost_one_itself():
    # The first box is as far from the second, which moves away with the fourth, as from the third,
    # and as from (0, 10), into which the last two merge.
    corner = np.array([[0, 0], [10, 0], [-10, 0], [14, 0], [3, 10], [-3, 10]], dtype=np.float32)
    boxes = np.hstack([corner, corner + 40])
    config = GreedyMerge(threshold=0.66, average="plain")
    merged = merge_boxes(boxes, np.full(6, 0.5, np.float32), config)
    assert merged.boxes_xyxy[:, :2].tolist() == [[-5, 0], [12, 0], [0, 10]]


def test_the_threshold_itself_still_merges():
    boxes = np.array([[0, 0, 4, 4], [4, 0, 8, 4]], dtype=np.float32)
    probabilities = np.full(2, 0.5, np.float32)
    # Neighbours: one side apart, nothing shared.
    assert len(merge_boxes(boxes, probabilities, GreedyMerge(threshold=2.0)).score) == 1
    assert len(merge_boxes(boxes, probabilities, GreedyMerge(threshold=1.999)).score) == 2


@pytest.mark.parametrize(
    ("average", "x_min"), [("plain", 2.0), ("windows", 1.5), ("evidence", 2.5)]
)
def test_an_average_weighs_boxes_as_it_is_named(average, x_min):
    # The first two merge first, into a box at 0.5 of two windows; then comes the third at 3.5.
    boxes = np.array([[0, 0, 40, 40], [1, 0, 41, 40], [3.5, 0, 43.5, 40]], dtype=np.float32)
    probabilities = np.array([0.125, 0.125, 0.5], dtype=np.float32)
    merged = merge_boxes(boxes, probabilities, GreedyMerge(average=average))
    assert merged.n_windows.tolist() == [3]
    assert merged.boxes_xyxy[0].tolist() == [x_min, 0, x_min + 40, 40]


def test_agreeing_windows_gain_evidence_and_scattered_ones_keep_little():
    """After figure 6: the bear's boxes agree at every scale, the turtle's lie here and there."""
    random = np.random.default_rng(6)
    bear = np.array([120, 60, 320, 240]) + random.normal(0, 8, (24, 4))
    corner = random.permutation(36)[:10]
    turtle = np.stack([corner % 6 * 70, corner // 6 * 70], axis=1)
    turtle = np.hstack([turtle, turtle + 60])
    bears = merge_boxes(bear.astype(np.float32), np.full(24, 0.5, np.float32), GreedyMerge())
    turtles = merge_boxes(turtle.astype(np.float32), np.full(10, 0.11, np.float32), GreedyMerge())
    assert bears.n_windows.tolist() == [24]
    assert bears.evidence[0] == pytest.approx(12)
    assert np.abs(bears.boxes_xyxy[0] - [120, 60, 320, 240]).max() < 8
    assert len(turtles.evidence) == 10
    assert turtles.evidence.max() < bears.evidence[0] / 100


def test_the_default_merges_squares_shifted_by_less_than_a_third():
    def count(shift):
        boxes = np.array([[0, 0, 100, 100], [shift, 0, 100 + shift, 100]], dtype=np.float32)
        return len(merge_boxes(boxes, np.full(2, 0.5, np.float32), GreedyMerge()).score)

    assert [count(shift) for shift in (0, 20, 31, 33, 60)] == [1, 1, 1, 2, 2]


def test_the_literal_reading_keeps_large_overlaps_apart_and_joins_small_ones():
    """Why it is not the default: taken as printed, the rule punishes agreement."""
    config = GreedyMerge(match="literal", threshold=50.0)
    same = np.array([[0, 0, 100, 100], [1, 0, 101, 100]], dtype=np.float32)
    apart = np.array([[0, 0, 10, 10], [30, 0, 40, 10]], dtype=np.float32)
    probabilities = np.full(2, 0.5, np.float32)
    assert len(merge_boxes(same, probabilities, config).score) == 2
    assert len(merge_boxes(apart, probabilities, config).score) == 1


def test_containment_joins_a_part_with_its_whole_and_iou_does_not():
    boxes = np.array([[0, 0, 100, 100], [30, 30, 70, 70]], dtype=np.float32)
    probabilities = np.full(2, 0.5, np.float32)
    assert len(merge_boxes(boxes, probabilities, GreedyMerge(match="containment")).score) == 1
    assert len(merge_boxes(boxes, probabilities, GreedyMerge(match="iou")).score) == 2


@pytest.mark.parametrize("threshold", [float("nan"), float("inf"), -float("inf")])
def test_a_threshold_that_is_no_number_is_refused(threshold):
    with pytest.raises(ValueError, match=r"merge threshold.*expected a finite number"):
        GreedyMerge(threshold=threshold)
