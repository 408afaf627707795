"""The loss over windows: hand-computed parts, the negatives that count, gradients of nothing."""

from __future__ import annotations

from math import exp, log

import pytest
import torch

from overfeat.losses import LossConfig, is_finite, measure_loss
from overfeat.targets import IGNORED

BACKGROUND = 2  # two classes and the background


def make_logits(*rows):
    return torch.tensor(rows, dtype=torch.float64, requires_grad=True)


def measure(logits, labels, *, edges=None, target_edges=None, **fields):
    count = len(labels)
    zeros = torch.zeros(count, 4, dtype=torch.float64)
    return measure_loss(
        logits,
        zeros if edges is None else edges,
        torch.tensor(labels, dtype=torch.int64),
        zeros if target_edges is None else target_edges,
        LossConfig(**fields),
    )


def cross_entropy(row, label):
    return log(sum(exp(value) for value in row)) - row[label]


def test_the_parts_are_those_computed_by_hand():
    rows = [(2.0, 0.0, -1.0), (0.0, 1.0, 0.5), (0.0, 0.0, 3.0), (5.0, 0.0, 0.0)]
    edges = torch.tensor([[0.1, 0.2, 0.6, 0.9], [0, 0, 1, 1], [9, 9, 9, 9], [9, 9, 9, 9]]).double()
    true = torch.tensor([[0.1, 0.4, 0.5, 0.9], [0, 0, 1, 1], [0, 0, 0, 0], [0, 0, 0, 0]]).double()
    labels = [0, 1, BACKGROUND, IGNORED]
    loss = measure(make_logits(*rows), labels, edges=edges, target_edges=true, box_weight=3.0)
    objects = (cross_entropy(rows[0], 0) + cross_entropy(rows[1], 1)) / 2
    background = cross_entropy(rows[2], BACKGROUND)
    boxes = (0.2**2 + 0.1**2) / 8
    assert loss.objects.item() == pytest.approx(objects)
    assert loss.background.item() == pytest.approx(background)
    assert loss.boxes.item() == pytest.approx(boxes, rel=1e-6)
    assert loss.total.item() == pytest.approx(objects + background + 3 * boxes)


def test_l1_takes_the_distance_and_l2_its_square():
    edges = torch.tensor([[0.5, 0.0, 1.0, 1.0]]).double()
    true = torch.tensor([[0.1, 0.0, 1.0, 0.8]]).double()
    results = {
        kind: measure(
            make_logits((0, 0, 0)), [0], edges=edges, target_edges=true, box_loss=kind
        ).boxes.item()
        for kind in ("l1", "l2")
    }
    assert results == pytest.approx({"l1": 0.6 / 4, "l2": (0.16 + 0.04) / 4}, rel=1e-6)


def test_the_most_offending_negatives_are_picked():
    # Two objects allow two negatives at a ratio of 1; the higher class 0, the more offending.
    offences = (0.0, 4.0, 1.0, 3.0, 2.0)
    rows = [(0.0, 0.0, 0.0)] * 2 + [(value, 0.0, 0.0) for value in offences]
    logits = make_logits(*rows)
    loss = measure(logits, [0, 1] + [BACKGROUND] * 5, min_negatives=1)
    expected = (cross_entropy(rows[3], BACKGROUND) + cross_entropy(rows[5], BACKGROUND)) / 2
    assert loss.background.item() == pytest.approx(expected)
    loss.background.backward()
    moved = logits.grad.abs().sum(dim=1).gt(0).tolist()
    assert moved == [False, False, False, True, False, True, False]


@pytest.mark.parametrize(
    ("fields", "count"),
    [
        ({"negatives": 2.0, "min_negatives": 1}, 4),
        ({"negatives": 0.0, "min_negatives": 3}, 3),
        ({"negatives": 50.0, "min_negatives": 1}, 6),
    ],
)
def test_as_many_negatives_count_as_are_set_or_there(fields, count):
    logits = make_logits(*[(float(i), 0.0, 0.0) for i in range(8)])
    measure(logits, [0, 1] + [BACKGROUND] * 6, **fields).background.backward()
    assert logits.grad.abs().sum(dim=1).gt(0).sum().item() == count


def test_ignored_windows_move_nothing():
    logits = make_logits((3.0, 0.0, 0.0), (0.0, 3.0, 0.0))
    edges = torch.full((2, 4), 5.0, dtype=torch.float64, requires_grad=True)
    loss = measure(logits, [IGNORED, IGNORED], edges=edges)
    loss.total.backward()
    assert loss.total.item() == 0
    assert not logits.grad.any()
    assert not edges.grad.any()


def test_background_windows_have_no_say_in_the_boxes():
    edges = torch.full((2, 4), 5.0, dtype=torch.float64, requires_grad=True)
    measure(make_logits((0, 0, 0), (0, 0, 0)), [1, BACKGROUND], edges=edges).total.backward()
    assert edges.grad[0].all()
    assert not edges.grad[1].any()


@pytest.mark.parametrize("labels", [[], [BACKGROUND, BACKGROUND], [0, 1]])
def test_a_part_without_windows_is_zero_and_not_a_number_apart(labels):
    logits = make_logits(*[(1.0, 0.0, 0.0)] * len(labels)).reshape(-1, 3)
    loss = measure(logits, labels)
    loss.total.backward()
    assert is_finite(loss)
    assert (loss.objects.item() > 0) == (0 in labels)
    assert (loss.background.item() > 0) == (BACKGROUND in labels)


def test_a_loss_that_is_no_number_is_told():
    loss = measure(make_logits((float("nan"), 0.0, 0.0)), [0])
    assert not is_finite(loss)
    assert not is_finite(measure(make_logits((0.0, float("inf"), 0.0)), [0]))


@pytest.mark.parametrize("value", [-0.5, float("nan"), float("inf")])
@pytest.mark.parametrize("name", ["box_weight", "negatives"])
def test_weights_are_finite_numbers_from_0_on(name, value):
    LossConfig(**{name: 0.0})
    with pytest.raises(ValueError, match=f"loss {name}: received {value}, expected at least 0"):
        LossConfig(**{name: value})


def test_a_background_window_always_counts():
    LossConfig(min_negatives=1)
    with pytest.raises(ValueError, match="loss min_negatives: received 0, expected 1 or more"):
        LossConfig(min_negatives=0)


@pytest.mark.usefixtures("without_shape_checks")
def test_a_distance_that_is_not_there_is_refused():
    with pytest.raises(ValueError, match="loss box_loss: received 'l3', expected one of l1, l2"):
        LossConfig(box_loss="l3")
