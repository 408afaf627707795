"""Localization: what an image shows and where, against the paper's procedure as plain loops."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from overfeat import Canvas, GreedyMerge, LocalizeConfig, PredictConfig
from overfeat.detection import Candidates
from overfeat.localization import find_guesses
from overfeat.predictor import Predictor
from tests.overfeat import literal
from tests.overfeat.builders import (
    describe,
    make_constant,
    make_image,
    make_member,
    make_predictor,
    make_scripted_member,
)

LADDER = (Canvas(245, 245), Canvas(245, 281))
CLASSES = tuple("abcdefgh")


def make_view(*rows):
    """Windows of one view: label, probability, box."""
    return Candidates(
        label_ids=np.array([label for label, _, _ in rows], dtype=np.int32),
        probabilities=np.array([probability for _, probability, _ in rows], dtype=np.float32),
        boxes_xyxy=np.array([box for _, _, box in rows], dtype=np.float32).reshape(-1, 4),
    )


def choose_classes(windows, view, count):
    """The `count` classes with the highest maximum over one view."""
    counted = [window.probabilities for window in windows if window.view == view]
    maxima = np.array(counted).max(axis=0)
    return sorted(range(len(maxima)), key=lambda label: -maxima[label])[:count]


def list_proposals(windows, *, classes_per_scale):
    """Steps (a) to (c): the boxes and probabilities of each class, of all views."""
    proposals = {}
    for view in sorted({window.view for window in windows}):
        chosen = choose_classes(windows, view, classes_per_scale)
        for window in (window for window in windows if window.view == view):
            for label in chosen:
                if literal.area(window.boxes[label]) > 0:
                    said = window.boxes[label], window.probabilities[label]
                    proposals.setdefault(label, []).append(said)
    return proposals


def guess_literally(windows, *, classes_per_scale, threshold, guesses=5):
    """Section 4.3: label, box and highest probability of each guess, best first."""
    counted = [window for window in windows if window.is_counted]
    proposals = list_proposals(counted, classes_per_scale=classes_per_scale)
    best = []
    for label, said in proposals.items():
        boxes, probabilities = zip(*said, strict=True)
        merged = literal.merge_pairs(boxes, probabilities, threshold=threshold)
        most = max(merged, key=lambda one: one.evidence)
        best.append((most.evidence, label, most.box, most.best))
    best.sort(key=lambda row: (-row[0], row[1]))
    return [row[1:] for row in best[:guesses]]


def assert_same_guesses(found, expected, classes):
    assert found.label_ids.tolist() == [label for label, _, _ in expected]
    assert found.labels == tuple(classes[label] for label, _, _ in expected)
    assert np.allclose(found.boxes_xyxy, [box for _, box, _ in expected], atol=0.05)
    assert np.allclose(found.scores, [best for _, _, best in expected], atol=1e-5)


@pytest.mark.parametrize(
    ("regressor", "size", "flips", "stride", "classes_per_scale", "threshold"),
    [
        # Windows alone are equally far from each other, and the order of ties is rounding's.
        ("none", (120, 200), False, "fine", 5, 1e6),
        ("none", (150, 150), True, "coarse", 1, 1e6),
        ("single", (120, 200), False, "fine", 5, 0.8),
        ("single", (245, 130), True, "fine", 2, 0.4),
        ("single", (60, 240), False, "fine", 8, 1.5),
        ("per-class", (150, 150), True, "coarse", 1, 0.8),
        ("per-class", (245, 130), True, "fine", 3, 0.4),
        ("per-class", (60, 240), False, "fine", 8, 0.6),
    ],
)
def test_guesses_are_those_of_the_papers_procedure(
    regressor, size, flips, stride, classes_per_scale, threshold
):
    fields = {"classes": CLASSES, "regressor": regressor, "background": True}
    member, image = make_member(**fields), make_image(*size)
    windows = literal.look(member, image, LADDER, flips=flips, stride=stride)
    expected = guess_literally(windows, classes_per_scale=classes_per_scale, threshold=threshold)
    config = PredictConfig(
        scales=LADDER,
        flips=flips,
        stride=stride,
        localize=LocalizeConfig(
            classes_per_scale=classes_per_scale, merge=GreedyMerge(threshold=threshold)
        ),
    )
    found = Predictor([member]).localize(image, config)
    assert_same_guesses(found, expected, CLASSES)
    assert len(set(found.label_ids.tolist())) == len(found)


def test_a_scale_speaks_only_for_its_own_best_classes():
    """The class that one view puts first says nothing in the other, where it is second."""
    fields = {"classes": CLASSES, "regressor": "single", "seed": 2}
    member, image = make_member(**fields), make_image(120, 200)
    windows = literal.look(member, image, LADDER, flips=True)
    first = [choose_classes(windows, view, 1)[0] for view in range(4)]
    assert len(set(first)) > 1
    for label in set(first):
        own = [window for window in windows if first[window.view] == label]
        config = PredictConfig(
            scales=LADDER,
            flips=True,
            localize=LocalizeConfig(classes_per_scale=1, merge=GreedyMerge(threshold=1e6)),
        )
        found = Predictor([member]).localize(image, config)
        rank = found.label_ids.tolist().index(label)
        (expected,) = literal.merge_pairs(
            [window.boxes[label] for window in own],
            [window.probabilities[label] for window in own],
            threshold=1e6,
        )
        assert np.allclose(found.boxes_xyxy[rank], expected.box, atol=0.05)


def test_the_box_with_the_largest_sum_wins_over_the_most_probable_window():
    first = make_view((0, 0.6, (0, 0, 100, 100)), (1, 0.9, (300, 0, 400, 100)))
    second = make_view((0, 0.4, (10, 0, 110, 100)))
    found = find_guesses([first, second], CLASSES, LocalizeConfig())
    assert found.labels == ("a", "b")
    assert np.allclose(found.boxes_xyxy, [[4, 0, 104, 100], [300, 0, 400, 100]])
    assert found.scores.tolist() == pytest.approx([0.6, 0.9])


def test_a_class_is_guessed_once_with_its_best_box():
    view = make_view(
        (0, 0.5, (0, 0, 50, 50)), (0, 0.7, (200, 200, 260, 260)), (2, 0.6, (0, 0, 50, 50))
    )
    found = find_guesses([view], CLASSES, LocalizeConfig())
    assert found.labels == ("a", "c")
    assert found.boxes_xyxy.tolist() == [[200, 200, 260, 260], [0, 0, 50, 50]]


def test_the_bear_of_figure_6_wins_by_agreement():
    """Four scales of 1, 6, 24 and 70 windows, that see the bear all at the same place.

    Turtle and whale are seen weakly, and in each window elsewhere: their boxes do not add up.
    """
    random = np.random.default_rng(6)
    bear, turtle, whale = 0, 1, 2
    views = []
    for count in (1, 6, 24, 70):
        rows = []
        for _ in range(count):
            x, y = random.uniform(0, 400, 2)
            elsewhere = (x, y, x + random.uniform(20, 80), y + random.uniform(20, 80))
            near = np.array([100, 60, 300, 260]) + random.uniform(-10, 10, 4)
            rows.append((bear, random.uniform(0.4, 0.6), near))
            rows.append((turtle, random.uniform(0, 0.11), elsewhere))
            rows.append((whale, random.uniform(0, 0.12), elsewhere))
        views.append(make_view(*rows))
    found = find_guesses(views, CLASSES, LocalizeConfig())
    assert found.labels[0] == "a"
    assert np.allclose(found.boxes_xyxy[0], [100, 60, 300, 260], atol=2)
    assert 0.55 < found.scores[0] < 0.6
    assert (found.scores[1:] < 0.12).all()


def test_a_network_without_a_regressor_guesses_its_windows():
    model = make_constant([0.7, 0.2, 0.1])
    config = PredictConfig(
        scales=(Canvas(233, 245),),
        localize=LocalizeConfig(guesses=2, merge=GreedyMerge(threshold=-1.0)),
    )
    # 2 x 3 equal windows: the first of equals has the lowest corner.
    found = model.localize(make_image(466, 490), config)
    assert found.labels == ("ant", "bee")
    assert found.boxes_xyxy.tolist() == [[0, 0, 442, 442]] * 2
    assert np.allclose(found.scores, [0.7, 0.2])


def test_a_per_class_regressor_gives_each_guess_the_box_of_its_class():
    edges = [0.0, 0.0, 0.5, 0.5, 0.5, 0.5, 1.0, 1.0, 0.0, 0.5, 0.5, 1.0]
    model = make_constant([0.2, 0.5, 0.3], regressor="per-class", edges=edges)
    config = PredictConfig(scales=(Canvas(221, 221),))
    found = model.localize(make_image(221, 221), config)
    assert found.labels == ("bee", "cat", "ant")
    expected = [[110.5, 110.5, 221, 221], [110.5, 0, 221, 110.5], [0, 0, 110.5, 110.5]]
    assert np.allclose(found.boxes_xyxy, expected, atol=1e-3)


def test_a_single_regressor_gives_all_guesses_one_box():
    model = make_constant([0.2, 0.5, 0.3], regressor="single", edges=[0.2, 0.4, 0.6, 1.0])
    found = model.localize(make_image(221, 221), PredictConfig(scales=(Canvas(221, 221),)))
    expected = [0.4 * 221, 0.2 * 221, 221, 0.6 * 221]
    assert np.allclose(found.boxes_xyxy, [expected] * 3, atol=1e-3)


def test_windows_that_see_only_padding_make_no_guess():
    """A panorama: the first and the last row of windows alone are sure of an ant."""
    logits = torch.zeros(1, 3, 21, 21)
    logits[0, 0] = -9.0
    logits[0, 0, [0, -1]] = 20.0
    edges = torch.tensor([0.0, 0.0, 2.0, 1.0]).reshape(1, 4, 1, 1).expand(1, 4, 21, 21)
    model = Predictor([make_scripted_member(logits, edges)])
    config = PredictConfig(scales=(Canvas(461, 461),), localize=LocalizeConfig(classes_per_scale=2))
    found = model.localize(make_image(3, 461), config)
    assert sorted(found.labels) == ["bee", "cat"]
    assert np.allclose(found.scores, 0.5, atol=1e-3)


def test_fewer_classes_than_guesses_are_all_guessed_once():
    found = make_predictor().localize(make_image(200, 240), PredictConfig(scales=LADDER))
    assert sorted(found.labels) == ["ant", "bee", "cat"]
    assert len(found) == 3
    assert found.boxes_xyxy.dtype == found.scores.dtype == np.float32
    assert found.label_ids.dtype == np.int32


def test_as_many_guesses_as_asked_for_are_the_first_of_more():
    model, image = make_predictor(classes=CLASSES), make_image(200, 240)

    def guess(count):
        config = PredictConfig(
            scales=LADDER, localize=LocalizeConfig(guesses=count, classes_per_scale=8)
        )
        return model.localize(image, config)

    many, few = guess(7), guess(2)
    assert (len(many), len(few)) == (7, 2)
    assert many.labels[:2] == few.labels
    assert np.array_equal(many.boxes_xyxy[:2], few.boxes_xyxy)


def test_a_window_whose_box_lies_outside_the_image_makes_no_guess():
    # All boxes lie above their windows, and these at the top of the image.
    model = make_constant([0.6, 0.3, 0.1], regressor="single", edges=[-0.9, 0.0, -0.5, 1.0])
    found = model.localize(make_image(221, 221), PredictConfig(scales=(Canvas(221, 221),)))
    assert len(found) == 0
    assert found.boxes_xyxy.shape == (0, 4)


def test_guesses_of_crops_lie_in_pixels_of_the_image():
    model = make_constant([0.6, 0.3, 0.1], regressor="single", edges=[0.0, 0.0, 1.0, 1.0])
    # A quarter of the size has a short side of 256, and a crop at row 17, column 17 + 32.
    found = model.localize(make_image(1024, 1280), PredictConfig(views="centre-crop"))
    expected = [4 * 49, 4 * 17, 4 * (49 + 221), 4 * (17 + 221)]
    assert np.allclose(found.boxes_xyxy, [expected] * 3, atol=1e-2)


@pytest.mark.parametrize("name", ["guesses", "classes_per_scale"])
def test_settings_below_one_are_refused(name):
    with pytest.raises(ValueError, match=f"{name}: received 0, expected at least 1") as error:
        LocalizeConfig(**{name: 0})
    describe(error)
