"""The loss over windows: parts by hand, the negatives that count, workers that share the images."""

from __future__ import annotations

from math import exp, log

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from overfeat.losses import (
    LossConfig,
    LossSums,
    is_finite,
    measure_boxes,
    measure_classes,
    weigh_loss,
)
from overfeat.targets import IGNORED
from tests.overfeat.builders import FEW

BACKGROUND = 2  # two classes and the background
PAIR = [0, 1]  # a label of each class


def make_logits(*images):
    """Scores of the windows of some images: images, windows, outputs."""
    return torch.tensor(images, dtype=torch.float64, requires_grad=True)


def offend(*values):
    """Logits of one image's windows; the higher the first class, the more a negative offends."""
    return make_logits([(value, 0.0, 0.0) for value in values])


def measure(logits, labels, *, background=BACKGROUND, seeds=None, **fields):
    config = LossConfig(**fields)
    labels = torch.tensor(labels, dtype=torch.int64).reshape(logits.shape[:2])
    return measure_classes(logits, labels, background=background, config=config, seeds=seeds)


def measure_box(codes, labels, edges, *, background=BACKGROUND, coding="edges", **fields):
    """Boxes of one image's windows."""
    return measure_boxes(
        torch.as_tensor(codes, dtype=torch.float64)[None],
        torch.tensor([labels]),
        torch.tensor(edges, dtype=torch.float64)[None],
        background=background,
        coding=coding,
        config=LossConfig(**fields),
    )


def cross_entropy(row, label):
    return log(sum(exp(value) for value in row)) - row[label]


def list_moved(logits, sums):
    """Windows of each image whose logits the loss changes."""
    (gradient,) = torch.autograd.grad(sums.sums.sum(), logits)
    return [image.abs().sum(dim=1).nonzero()[:, 0].tolist() for image in gradient]


def test_the_sums_and_counts_are_those_computed_by_hand():
    rows = [(2.0, 0.0, -1.0), (0.0, 1.0, 0.5), (0.0, 0.0, 3.0), (5.0, 0.0, 0.0)]
    sums = measure(make_logits(rows), [0, 1, BACKGROUND, IGNORED])
    sums += measure_box(
        [[0.1, 0.2, 0.6, 0.9], [0, 0, 1, 1], [9, 9, 9, 9], [9, 9, 9, 9]],
        [0, 1, BACKGROUND, IGNORED],
        [[0.1, 0.4, 0.5, 0.9], [0, 0, 1, 1], [0, 0, 0, 0], [0, 0, 0, 0]],
    )
    objects = cross_entropy(rows[0], 0) + cross_entropy(rows[1], 1)
    background = cross_entropy(rows[2], BACKGROUND)
    assert sums.sums.tolist() == pytest.approx([objects, background, (0.2**2 + 0.1**2) / 4])
    assert sums.counts.tolist() == [2, 1, 2]


def test_the_total_is_the_weighted_sum_of_the_means():
    config = LossConfig(class_weight=2.0, background_weight=0.5, box_weight=3.0)
    sums = LossSums(sums=torch.tensor([6.0, 8.0, 10.0]), counts=torch.tensor([1, 1, 1]))
    loss = weigh_loss(sums, torch.tensor([3, 4, 5]), config)
    assert (loss.objects, loss.background, loss.boxes) == (2, 2, 2)
    assert loss.total == 2 * 2.0 + 2 * 0.5 + 2 * 3.0


@pytest.mark.parametrize("name", ["class_weight", "background_weight", "box_weight"])
def test_a_part_of_weight_0_cannot_spoil_the_total(name):
    part = ["class_weight", "background_weight", "box_weight"].index(name)
    values = torch.ones(3)
    values[part] = float("nan")
    loss = weigh_loss(
        LossSums(sums=values, counts=torch.ones(3).long()),
        torch.ones(3).long(),
        LossConfig(**{name: 0.0}),
    )
    assert loss.total == 2


def test_a_classifier_of_whole_images_needs_no_background():
    """One window an image; the last output is a class like the others."""
    rows = [[(0.0, 1.0, 2.0)], [(3.0, 1.0, 0.0)]]
    sums = measure(make_logits(*rows), [2, 0], background=None, negatives="random")
    expected = cross_entropy(rows[0][0], 2) + cross_entropy(rows[1][0], 0)
    assert sums.sums.tolist() == pytest.approx([expected, 0, 0])
    assert sums.counts.tolist() == [2, 0, 0]


def test_boxes_without_a_background_count_in_every_window_that_is_not_ignored():
    zeros = [[0.0] * 4] * 3
    assert measure_box(zeros, [2, IGNORED, 0], zeros, background=None).counts.tolist() == [0, 0, 2]


def test_ignored_windows_move_nothing():
    logits = offend(3.0, 4.0)
    sums = measure(logits, [IGNORED, IGNORED])
    codes = torch.full((2, 4), 5.0, dtype=torch.float64, requires_grad=True)
    sums += measure_box(codes, [IGNORED, IGNORED], [[0.0] * 4] * 2)
    assert sums.counts.tolist() == [0, 0, 0]
    loss = weigh_loss(sums, sums.counts, LossConfig())
    loss.total.backward()
    assert loss.total == 0
    assert not logits.grad.any()
    assert not codes.grad.any()


def test_background_windows_have_no_say_in_the_boxes():
    codes = torch.full((2, 4), 5.0, dtype=torch.float64, requires_grad=True)
    measure_box(codes, [1, BACKGROUND], [[0.0] * 4] * 2).sums.sum().backward()
    assert codes.grad[0].all()
    assert not codes.grad[1].any()


def test_with_a_box_for_each_class_the_true_classs_own_learns():
    """Twelve numbers a window: class 0, class 1, and the background's, which nothing reads."""
    codes = torch.arange(24.0, dtype=torch.float64).reshape(2, 12).requires_grad_()
    sums = measure_box(codes, [1, 0], [[4.0, 5.0, 6.0, 8.0], [12.0, 13.0, 14.0, 15.0]])
    assert sums.sums[2].item() == pytest.approx(1 / 4)
    (gradient,) = torch.autograd.grad(sums.sums.sum(), codes)
    assert gradient.nonzero().tolist() == [[0, 7]]


def test_a_regressor_of_centre_and_size_is_taught_in_its_own_numbers():
    # Half as high as the window and as wide, its centre an eighth below the window's.
    edges = [[0.375, 0.0, 0.875, 1.0]]
    taught = [[0.125, 0.0, log(0.5), 0.0]]
    assert measure_box(taught, [0], edges, coding="centre-size").sums[2] == pytest.approx(0)
    assert measure_box(taught, [0], edges, coding="edges").sums[2] > 0.1


@pytest.mark.parametrize(
    ("fields", "counts"),
    [
        # The first image has two windows with an object and six negatives; the second has none.
        ({"negatives_per_object": 2.0, "min_negatives": 1}, [4, 1]),
        ({"negatives_per_object": 0.0, "min_negatives": 3}, [3, 3]),
        ({"negatives_per_object": 50.0, "min_negatives": 0}, [6, 0]),
        ({"negatives_per_object": 0.75, "min_negatives": 0}, [1, 0]),
    ],
)
@pytest.mark.parametrize("negatives", ["hardest", "random", "mixed"])
def test_each_image_gives_as_many_negatives_as_are_set_or_there(negatives, fields, counts):
    row = [(float(value), 0.0, 0.0) for value in range(8)]
    logits = make_logits(row, row)
    labels = [*PAIR, *[BACKGROUND] * 6, *[BACKGROUND] * 8]
    sums = measure(logits, labels, negatives=negatives, seeds=[3, 4], **fields)
    moved = list_moved(logits, sums)
    assert [len(set(moved[0]) - {0, 1}), len(moved[1])] == counts
    assert sums.counts[1] == sum(counts)


@FEW
@given(st.integers(0, 2**31), st.floats(0, 3), st.integers(0, 4))
def test_the_hardest_really_are_the_hardest_of_their_own_image(seed, per_object, least):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(4, 9, 3, generator=generator, dtype=torch.float64, requires_grad=True)
    # One image offends more than all others: it must not take their places.
    with torch.no_grad():
        logits[2, :, 0] += 20
    labels = torch.randint(-1, 3, (4, 9), generator=generator)
    config = LossConfig(negatives_per_object=per_object, min_negatives=least)
    sums = measure_classes(logits, labels, background=BACKGROUND, config=config)
    offences = -logits.log_softmax(dim=2)[..., BACKGROUND]
    for image, moved in enumerate(list_moved(logits, sums)):
        there = (labels[image] == BACKGROUND).nonzero()[:, 0].tolist()
        objects = ((labels[image] == 0) | (labels[image] == 1)).sum().item()
        hardest = sorted(there, key=lambda window: -offences[image, window].item())
        wanted = max(int(objects * per_object), least)
        assert set(moved) & set(there) == set(hardest[:wanted])


def test_random_negatives_follow_the_images_seed_and_not_their_offence():
    labels = [BACKGROUND] * 40
    seen = set()
    for seed in range(20):
        fields = {"negatives": "random", "min_negatives": 2, "seeds": [seed]}
        logits, others = offend(*range(40)), offend(*reversed(range(40)))
        (moved,) = list_moved(logits, measure(logits, labels, **fields))
        assert list_moved(others, measure(others, labels, **fields)) == [moved]
        seen.update(moved)
    # 40 draws of 40 windows: 25 different ones are expected.
    assert len(seen) > 15


def test_mixed_negatives_are_the_hardest_and_random_others():
    labels = [BACKGROUND] * 40
    easy = set()
    for seed in range(10):
        logits = offend(*range(40))
        sums = measure(logits, labels, negatives="mixed", min_negatives=5, seeds=[seed])
        (moved,) = list_moved(logits, sums)
        assert len(moved) == 5
        assert set(moved) >= {37, 38, 39}
        easy.update(set(moved) - {37, 38, 39})
    assert len(easy) > 10


@pytest.mark.parametrize(("seeds", "received"), [(None, "none"), ([1], "1"), ([1, 2, 3], "3")])
def test_random_negatives_are_not_drawn_without_a_seed_for_each_image(seeds, received):
    logits = make_logits([(0.0, 0.0, 0.0)], [(0.0, 0.0, 0.0)])
    with pytest.raises(ValueError, match=f"loss seeds: received {received}, expected 2"):
        measure(logits, [BACKGROUND] * 2, negatives="mixed", seeds=seeds)


def make_images(seed, *, images=5, windows=6):
    """Windows of some images, the third without any object, and the weights of a tiny head."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(-1, 3, (images, windows), generator=generator)
    labels[2] = BACKGROUND
    inputs = torch.randn(images, windows, 4, generator=generator, dtype=torch.float64)
    corners = torch.rand(images, windows, 2, generator=generator, dtype=torch.float64) / 2
    weights = torch.randn(4, 3 + 12, generator=generator, dtype=torch.float64)
    return inputs, labels, torch.cat([corners, corners + 0.4], dim=2), weights.requires_grad_()


def measure_images(images, chosen, config):
    """Sums of some of the images."""
    inputs, labels, edges, weights = images
    said = inputs[chosen] @ weights
    there = {"background": BACKGROUND, "config": config}
    seeds = [1000 + image for image in chosen]
    sums = measure_classes(said[..., :3], labels[chosen], seeds=seeds, **there)
    return sums + measure_boxes(
        said[..., 3:], labels[chosen], edges[chosen], coding="centre-size", **there
    )


@FEW
@given(
    st.integers(0, 2**31),
    st.integers(0, 5),
    st.permutations(range(5)),
    st.sampled_from(["hardest", "random", "mixed"]),
    st.sampled_from(["l2", "l1", "smooth-l1", "iou", "giou"]),
)
def test_two_workers_that_add_up_have_the_loss_and_gradient_of_one(
    seed, first, order, negatives, box_loss
):
    config = LossConfig(negatives=negatives, box_loss=box_loss, box_weight=3.0)
    images = make_images(seed)
    alone = measure_images(images, list(range(5)), config)
    expected = weigh_loss(alone, alone.counts, config).total
    workers = [measure_images(images, chosen, config) for chosen in (order[:first], order[first:])]
    counts = workers[0].counts + workers[1].counts
    assert torch.equal(counts, alone.counts)
    shares = [weigh_loss(worker, counts, config).total for worker in workers]
    assert sum(shares).item() == pytest.approx(expected.item())
    gradients = [torch.autograd.grad(total, images[3])[0] for total in (*shares, expected)]
    assert torch.allclose(gradients[0] + gradients[1], gradients[2])
    assert gradients[2].any()


def test_a_loss_that_is_no_number_is_told():
    for value, label in ((float("nan"), 0), (float("inf"), 1)):
        sums = measure(offend(value), [label])
        assert not is_finite(weigh_loss(sums, sums.counts, LossConfig()))
    sums = measure(offend(1.0), [0])
    assert is_finite(weigh_loss(sums, sums.counts, LossConfig()))


NUMBERS = ["class_weight", "background_weight", "box_weight", "negatives_per_object"]


@pytest.mark.parametrize("value", [-0.5, float("nan"), float("inf")])
@pytest.mark.parametrize("name", NUMBERS)
def test_weights_are_finite_numbers_from_0_on(name, value):
    LossConfig(**{name: 0.0})
    with pytest.raises(ValueError, match=f"loss {name}: received {value}, expected at least 0"):
        LossConfig(**{name: value})


def test_fewer_negatives_than_none_are_refused():
    LossConfig(min_negatives=0)
    with pytest.raises(ValueError, match="loss min_negatives: received -1, expected at least 0"):
        LossConfig(min_negatives=-1)


def test_a_loss_of_nothing_is_refused():
    with pytest.raises(ValueError, match="loss: received 0 for class_weight, background_weight,"):
        LossConfig(class_weight=0.0, background_weight=0.0, box_weight=0.0)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"box_loss": "l3"}, "loss box_loss: received 'l3', expected one of l2, l1, smooth-l1"),
        ({"negatives": "all"}, "loss negatives: received 'all', expected one of hardest, random"),
    ],
)
@pytest.mark.usefixtures("without_shape_checks")
def test_a_choice_that_is_not_there_is_refused(fields, words):
    with pytest.raises(ValueError, match=words):
        LossConfig(**fields)
