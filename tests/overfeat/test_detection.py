"""From candidate windows to ranked boxes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from overfeat.detection import Candidates, find_objects
from overfeat.merge import MergeConfig, merge_boxes
from tests.overfeat.builders import FEW

CLASSES = ("ant", "bee", "cat")
NO_MERGING = MergeConfig(threshold=-1.0)

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


def find(*views, merge=NO_MERGING, max_boxes=100):
    return find_objects(views, CLASSES, merge=merge, max_boxes=max_boxes)


def test_no_candidates_give_no_boxes():
    found = find(make_candidates(), make_candidates())
    assert len(found) == 0
    assert found.boxes_xyxy.shape == (0, 4)
    assert not found.truncated_boxes


def test_boxes_of_different_classes_never_merge():
    found = find(make_candidates((0, 0.9, 3, 3), (1, 0.8, 3, 3)), merge=MergeConfig())
    assert found.labels == ("ant", "bee")
    assert found.n_windows.tolist() == [1, 1]


def test_windows_of_different_views_merge():
    views = make_candidates((1, 0.5, 0, 0)), make_candidates((1, 0.75, 2, 0))
    found = find(*views, merge=MergeConfig(average="plain"))
    assert found.labels == ("bee",)
    assert found.n_windows.tolist() == [2]
    assert found.scores.tolist() == [0.75]
    assert found.evidence.tolist() == [1.25]
    assert found.boxes_xyxy.tolist() == [[1, 0, 11, 10]]


def test_evidence_ranks_before_the_score():
    several = [(2, 0.5, 0, 0), (2, 0.5, 1, 0), (2, 0.5, 0, 1)]
    found = find(make_candidates((0, 0.9, 50, 50), *several), merge=MergeConfig())
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
    found = find(*views, merge=MergeConfig())
    assert found.n_windows.sum() == len(rows)
    together = make_candidates(*rows)
    for label in range(3):
        own = together.label_ids == label
        alone = merge_boxes(together.boxes_xyxy[own], together.probabilities[own], MergeConfig())
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


@pytest.mark.parametrize("limit", [1, 5])
def test_a_limit_does_not_change_what_is_kept(limit):
    rows = [(i % 3, 0.3 + i * 7 % 10 / 20, 9 * i, 5 * i) for i in range(9)]
    whole, cut = find(make_candidates(*rows)), find(make_candidates(*rows), max_boxes=limit)
    assert np.array_equal(cut.boxes_xyxy, whole.boxes_xyxy[:limit])
    assert np.array_equal(cut.scores, whole.scores[:limit])
