"""From candidate windows to ranked boxes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from overfeat.detection import Candidates, find_objects
from overfeat.merge import BoxFusion, GreedyMerge, NonMaxSuppression, SoftSuppression, merge_boxes
from tests.overfeat import literal
from tests.overfeat.builders import FEW, NEVER

CLASSES = ("ant", "bee", "cat")

rows_of_candidates = st.lists(
    st.tuples(
        st.integers(0, 2), st.sampled_from([0.3, 0.5, 0.9]), st.integers(0, 5), st.integers(0, 5)
    ),
    max_size=12,
)


def make_candidates(*rows):
    """Squares of 10 pixels: label, probability, x, y."""
    table = np.array(rows, dtype=np.float64).reshape(-1, 4)
    corner = table[:, 2:]
    return Candidates(
        label_ids=table[:, 0].astype(np.int32),
        probabilities=table[:, 1].astype(np.float32),
        boxes_xyxy=np.hstack([corner, corner + 10]).astype(np.float32),
    )


def find(*views, merge=NEVER, max_boxes=100):
    return find_objects(views, CLASSES, merge=merge, max_boxes=max_boxes)


def test_no_candidates_give_no_boxes():
    found = find(make_candidates(), make_candidates())
    assert len(found) == 0
    assert found.boxes_xyxy.shape == (0, 4)
    assert not found.truncated_boxes


def test_boxes_of_different_classes_never_merge():
    found = find(make_candidates((0, 0.9, 3, 3), (1, 0.8, 3, 3)), merge=GreedyMerge())
    assert found.labels == ("ant", "bee")
    assert found.n_windows.tolist() == [1, 1]


def test_windows_of_different_views_merge():
    views = make_candidates((1, 0.5, 0, 0)), make_candidates((1, 0.75, 2, 0))
    found = find(*views, merge=GreedyMerge(average="plain"))
    assert found.labels == ("bee",)
    assert found.n_windows.tolist() == [2]
    assert found.scores.tolist() == [0.75]
    assert found.evidence.tolist() == [1.25]
    assert found.boxes_xyxy.tolist() == [[1, 0, 11, 10]]


def test_evidence_ranks_before_the_score():
    several = [(2, 0.5, 0, 0), (2, 0.5, 1, 0), (2, 0.5, 0, 1)]
    found = find(make_candidates((0, 0.9, 50, 50), *several), merge=GreedyMerge())
    assert found.labels == ("cat", "ant")
    assert found.evidence.tolist() == [1.5, np.float32(0.9)]
    assert found.scores.tolist() == [0.5, np.float32(0.9)]


def test_ties_go_by_class_then_by_corner():
    rows = [(1, 0.5, 4, 0), (0, 0.5, 9, 9), (1, 0.5, 2, 8), (1, 0.5, 2, 3), (0, 0.75, 0, 0)]
    found = find(make_candidates(*rows))
    assert found.label_ids.tolist() == [0, 0, 1, 1, 1]
    corners = [tuple(box[:2]) for box in found.boxes_xyxy.tolist()]
    assert corners == [(0, 0), (9, 9), (2, 3), (2, 8), (4, 0)]


def test_the_limit_keeps_the_best_and_says_that_it_cut():
    candidates = make_candidates((0, 0.3, 0, 0), (1, 0.9, 0, 0), (2, 0.6, 0, 0))
    cut = find(candidates, max_boxes=2)
    assert cut.labels == ("bee", "cat")
    assert cut.truncated_boxes
    whole = find(candidates, max_boxes=3)
    assert len(whole) == 3
    assert not whole.truncated_boxes


def test_the_columns_have_the_types_of_the_tables():
    found = find(make_candidates((0, 0.5, 0, 0), (2, 0.6, 0, 0)))
    types = {
        "label_ids": np.int32,
        "scores": np.float32,
        "evidence": np.float32,
        "boxes_xyxy": np.float32,
        "n_windows": np.int32,
    }
    for column, dtype in types.items():
        assert getattr(found, column).dtype == dtype
        assert getattr(find(make_candidates()), column).dtype == dtype


@FEW
@given(rows_of_candidates, st.integers(0, 12))
def test_nothing_is_lost_and_every_class_is_merged_alone(rows, cut):
    views = make_candidates(*rows[:cut]), make_candidates(*rows[cut:])
    found = find(*views, merge=GreedyMerge())
    assert found.n_windows.sum() == len(rows)
    together = make_candidates(*rows)
    for label in range(3):
        own = together.label_ids == label
        alone = merge_boxes(together.boxes_xyxy[own], together.probabilities[own], GreedyMerge())
        kept = found.label_ids == label
        assert sorted(found.evidence[kept]) == sorted(alone.evidence)
        assert sorted(found.boxes_xyxy[kept].tolist()) == sorted(alone.boxes_xyxy.tolist())
    assert found.labels == tuple(CLASSES[label] for label in found.label_ids)


@FEW
@given(rows_of_candidates)
def test_ranks_are_those_of_a_plain_sort(rows):
    found = find(make_candidates(*rows))
    keys = [
        (-evidence, label, *box)
        for evidence, label, box in zip(
            found.evidence.tolist(),
            found.label_ids.tolist(),
            found.boxes_xyxy.tolist(),
            strict=True,
        )
    ]
    assert keys == sorted(keys)


def make_random(count, *, seed, classes=3):
    """Boxes around a few places, so that some merge and some do not; no two scores are equal."""
    random = np.random.default_rng(seed)
    corner = random.choice([0, 60, 200], (count, 2)) + random.uniform(-15, 15, (count, 2))
    return Candidates(
        label_ids=random.integers(0, classes, count).astype(np.int32),
        probabilities=random.uniform(0.05, 1, count).astype(np.float32),
        boxes_xyxy=np.hstack([corner, corner + random.uniform(40, 60, (count, 2))]).astype(
            np.float32
        ),
    )


def merge_any_literally(candidates, *, threshold):
    """Merge all boxes alike; then label and box of each, and the label's sum, best and count."""
    labels, probabilities = candidates.label_ids.tolist(), candidates.probabilities.tolist()
    boxes = candidates.boxes_xyxy.tolist()
    rows = []
    for merged in literal.merge_pairs(boxes, probabilities, threshold=threshold):
        sums = {}
        for index in merged.members:
            sums[labels[index]] = sums.get(labels[index], 0) + probabilities[index]
        label = max(sorted(sums), key=lambda each: sums[each])
        own = [index for index in merged.members if labels[index] == label]
        best = max(probabilities[index] for index in own)
        rows.append((sums[label], label, best, len(own), merged.box))
    return sorted(rows, key=lambda row: -row[0])


@FEW
@given(st.integers(0, 10**6), st.integers(0, 25), st.sampled_from([0.3, 0.8, 1.2, 1e6]))
def test_boxes_of_any_class_merge_and_take_the_class_with_the_largest_sum(seed, count, threshold):
    candidates = make_random(count, seed=seed)
    found = find_objects(
        [candidates],
        CLASSES,
        merge=GreedyMerge(threshold=threshold),
        merged_classes="any",
        max_boxes=100,
    )
    expected = merge_any_literally(candidates, threshold=threshold)
    assert found.label_ids.tolist() == [label for _, label, *_ in expected]
    assert found.labels == tuple(CLASSES[label] for _, label, *_ in expected)
    assert np.allclose(found.evidence, [row[0] for row in expected], rtol=1e-5)
    assert np.allclose(found.scores, [row[2] for row in expected])
    assert found.n_windows.tolist() == [row[3] for row in expected]
    boxes = np.array([row[4] for row in expected]).reshape(-1, 4)
    assert np.allclose(found.boxes_xyxy, boxes, atol=1e-3)


def test_the_label_of_a_mixed_box_is_not_that_of_its_most_probable_window():
    mixed = make_candidates((0, 0.9, 0, 0), (1, 0.5, 1, 0), (1, 0.6, 0, 1))
    found = find_objects([mixed], CLASSES, merge=GreedyMerge(), merged_classes="any", max_boxes=9)
    assert found.labels == ("bee",)
    assert found.scores.tolist() == pytest.approx([0.6])
    assert found.evidence.tolist() == pytest.approx([1.1])
    assert found.n_windows.tolist() == [2]


def test_of_classes_with_equal_sums_the_first_labels_a_mixed_box():
    mixed = make_candidates((2, 0.5, 0, 0), (1, 0.25, 0, 0), (1, 0.25, 0, 0))
    found = find_objects([mixed], CLASSES, merge=GreedyMerge(), merged_classes="any", max_boxes=9)
    assert found.labels == ("bee",)


@pytest.mark.parametrize(
    "merge", [NonMaxSuppression(iou=0.3), SoftSuppression(floor=0.2), BoxFusion(iou=0.4)]
)
@pytest.mark.parametrize("seed", range(3))
def test_every_method_merges_boxes_of_any_class(merge, seed):
    """Windows that soft suppression drops have no say in the label of another box."""
    candidates = make_random(20, seed=seed)
    found = find_objects([candidates], CLASSES, merge=merge, merged_classes="any", max_boxes=100)
    merged = merge_boxes(candidates.boxes_xyxy, candidates.probabilities, merge)
    assert len(found) == len(merged.score) < 20
    rows = []
    for place in range(len(merged.score)):
        members = np.flatnonzero(merged.group == place)
        labels, probabilities = candidates.label_ids[members], candidates.probabilities[members]
        sums = [probabilities[labels == label].sum(dtype=np.float64) for label in range(3)]
        label = int(np.argmax(sums))
        own = probabilities[labels == label]
        # Of soft suppression the decayed probability, else the label's sum.
        evidence = merged.evidence[place] * sums[label] / sum(sums)
        rows.append((evidence, label, own.max(), len(own), place))
    rows.sort(key=lambda row: -row[0])
    assert found.evidence.tolist() == pytest.approx([row[0] for row in rows])
    assert found.label_ids.tolist() == [row[1] for row in rows]
    assert found.scores.tolist() == [row[2] for row in rows]
    assert found.n_windows.tolist() == [row[3] for row in rows]
    boxes = np.array([merged.boxes_xyxy[row[4]] for row in rows])
    assert np.array_equal(found.boxes_xyxy, boxes)


def test_no_candidates_of_any_class_give_no_boxes():
    found = find_objects(
        [make_candidates()], CLASSES, merge=GreedyMerge(), merged_classes="any", max_boxes=9
    )
    assert len(found) == 0
    assert found.boxes_xyxy.shape == (0, 4)
    assert found.label_ids.dtype == np.int32


@pytest.mark.parametrize("limit", [1, 5])
def test_a_limit_does_not_change_what_is_kept(limit):
    rows = [(i % 3, 0.3 + i * 7 % 10 / 20, 9 * i, 5 * i) for i in range(9)]
    whole, cut = find(make_candidates(*rows)), find(make_candidates(*rows), max_boxes=limit)
    assert np.array_equal(cut.boxes_xyxy, whole.boxes_xyxy[:limit])
    assert np.array_equal(cut.scores, whole.scores[:limit])
