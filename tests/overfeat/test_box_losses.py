"""How far a predicted box is from the true one: numbers by hand, gradients, boxes without a use."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from overfeat.box_coding import encode_boxes
from overfeat.box_losses import LEAST_PART, SMOOTH_L1_BETA, compare_boxes
from overfeat.boxes import intersection_over_union
from tests.overfeat.builders import MANY

TRUE = (0.25, 0.25, 0.75, 0.75)
OVERLAPS = ["iou", "giou"]
CODINGS = ["edges", "centre-size"]

every_overlap = pytest.mark.parametrize("loss", OVERLAPS)
every_coding = pytest.mark.parametrize("coding", CODINGS)


def make_boxes(*rows):
    return torch.tensor(rows, dtype=torch.float64).reshape(-1, 4)


def compare(said, loss, *, true=TRUE, coding="edges"):
    """The loss of one box, given and compared by its edges."""
    codes = encode_boxes(make_boxes(said), coding)
    return compare_boxes(codes, make_boxes(true), coding=coding, loss=loss).item()


@pytest.mark.parametrize(
    ("loss", "expected"),
    [
        # Differences of 0.5, 0, 0 and 0.05.
        ("l2", (0.25 + 0.0025) / 4),
        ("l1", 0.55 / 4),
        ("smooth-l1", (0.5 - SMOOTH_L1_BETA / 2 + 0.0025 / (2 * SMOOTH_L1_BETA)) / 4),
    ],
)
def test_the_differences_of_numbers_are_those_computed_by_hand(loss, expected):
    assert compare((0.75, 0.25, 0.75, 0.8), loss) == pytest.approx(expected)


@every_coding
@pytest.mark.parametrize(
    ("said", "iou", "giou"),
    [
        (TRUE, 0, 0),
        # The lower half: 1/2 shared, and nothing around both but the true box.
        ((0.5, 0.25, 0.75, 0.75), 0.5, 0.5),
        # A quarter to the right: 0.125 of 0.375 shared, in a frame that they fill.
        ((0.25, 0.5, 0.75, 1.0), 2 / 3, 2 / 3),
        # A quarter down and right: 0.0625 of 0.4375 shared, 0.125 of their frame of 0.5625 empty.
        ((0.5, 0.5, 1.0, 1.0), 1 - 1 / 7, 1 - 1 / 7 + 2 / 9),
    ],
)
def test_the_missing_overlaps_are_those_computed_by_hand(said, iou, giou, coding):
    assert compare(said, "iou", coding=coding) == pytest.approx(iou)
    assert compare(said, "giou", coding=coding) == pytest.approx(giou)


def test_generalised_iou_of_boxes_apart_is_the_emptiness_of_their_frame():
    # Both 0.25 high; between them a gap of 0.5: half of the frame of 1 x 0.25 is empty.
    said, true = (0.0, 0.0, 0.25, 0.25), (0.0, 0.75, 0.25, 1.0)
    assert compare(said, "giou", true=true) == pytest.approx(1 + 0.5)
    # Pure IoU sees no difference between near and far: the distance takes over.
    assert compare(said, "iou", true=true) == pytest.approx(1 + (0.75 + 0.75) / 4)


corners, sides = st.floats(0, 0.6), st.floats(0.1, 0.9)
boxes = st.tuples(corners, corners, sides, sides).map(
    lambda box: (box[0], box[1], box[0] + box[2], box[1] + box[3])
)


@MANY
@given(boxes, boxes)
def test_the_missing_overlap_is_one_less_the_iou_of_prediction(said, true):
    # Another program computes it: x first, in NumPy.
    expected = intersection_over_union(
        np.array([said])[:, [1, 0, 3, 2]], np.array([true])[:, [1, 0, 3, 2]]
    )
    if expected > 1e-9:
        assert compare(said, "iou", true=true) == pytest.approx(1 - expected.item())
        assert compare(said, "giou", true=true) >= compare(said, "iou", true=true) - 1e-12


DEGENERATE = [
    (0.5, 0.5, 0.5, 0.5),  # a point inside
    (0.0, 0.0, 0.0, 0.0),  # a point outside: what weights near 0 say
    (0.4, 0.3, 0.4, 0.6),  # a line inside
    (0.75, 0.75, 0.25, 0.25),  # turned inside out
    (0.7, 0.3, 0.3, 0.7),  # one side turned inside out
    (0.9, 0.9, 0.8, 0.8),
]


@every_overlap
@pytest.mark.parametrize("said", DEGENERATE)
def test_descent_leads_from_a_box_without_an_overlap_to_the_true_one(said, loss):
    codes = make_boxes(said).requires_grad_()
    for step in range(150):
        total = compare_boxes(codes, make_boxes(TRUE), coding="edges", loss=loss).sum()
        (gradient,) = torch.autograd.grad(total, codes)
        with torch.no_grad():
            codes -= 0.05 * (1 - step / 150) * gradient
    assert torch.allclose(codes, make_boxes(TRUE), atol=0.02)


@every_overlap
@every_coding
def test_a_box_without_an_overlap_is_worse_than_any_with_one(loss, coding):
    worst = {"iou": 1, "giou": 2}[loss]
    thin = (0.4, 0.4, 0.4 + LEAST_PART * 0.45, 0.6)
    assert compare(thin, loss, coding=coding) > worst
    thick = (0.4, 0.4, 0.4 + LEAST_PART * 0.55, 0.6)
    assert compare(thick, loss, coding=coding) <= worst


@every_overlap
def test_the_nearer_a_box_turned_inside_out_the_smaller_its_loss(loss):
    losses = [compare((0.5 + by, 0.3, 0.5 - by, 0.7), loss) for by in (0.4, 0.3, 0.2, 0.1, 0.01)]
    assert all(first > second for first, second in pairwise(losses))


@every_overlap
@every_coding
@pytest.mark.parametrize("seed", range(3))
def test_the_gradients_are_the_slopes(seed, coding, loss):
    """Boxes that overlap, that are apart, and that are turned inside out; none near a kink."""
    generator = torch.Generator().manual_seed(seed)
    shift = torch.rand(4, generator=generator, dtype=torch.float64) * 0.02
    edges = make_boxes(
        (0.1, 0.15, 0.62, 0.71), (0.3, 0.31, 0.5, 0.52), (0.8, 0.81, 0.95, 0.99), (-0.1, 0, 1.1, 1)
    )
    codes = encode_boxes(edges, coding)
    if coding == "edges":
        codes = torch.cat([codes, make_boxes((0.7, 0.65, 0.4, 0.3))])
    codes = (codes + shift).requires_grad_()
    true = make_boxes(TRUE).expand(len(codes), 4)
    assert torch.autograd.gradcheck(
        lambda values: compare_boxes(values, true, coding=coding, loss=loss), codes
    )


@every_overlap
@every_coding
@pytest.mark.parametrize("value", [0.0, 1e3, -1e3, 1e9])
def test_no_box_however_wild_has_a_gradient_that_is_no_number(value, coding, loss):
    codes = torch.full((1, 4), value, requires_grad=True)
    true = torch.tensor([TRUE])
    total = compare_boxes(codes, true, coding=coding, loss=loss).sum()
    (gradient,) = torch.autograd.grad(total, codes)
    assert total.isfinite()
    assert gradient.isfinite().all()


@pytest.mark.parametrize("loss", ["l2", "l1", "smooth-l1", "iou", "giou"])
@every_coding
def test_a_true_box_without_an_area_gives_a_number(loss, coding):
    codes = torch.zeros(1, 4, requires_grad=True)
    true = torch.tensor([[0.5, 0.5, 0.5, 0.5]])
    total = compare_boxes(codes, true, coding=coding, loss=loss).sum()
    assert torch.autograd.grad(total, codes)[0].isfinite().all()
