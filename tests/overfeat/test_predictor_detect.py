"""Detection from an image to its boxes: windows, scales, regressors, padding, flips, ranks."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from overfeat import (
    BoxFusion,
    Canvas,
    GreedyMerge,
    NonMaxSuppression,
    PredictConfig,
    SoftSuppression,
)
from overfeat.geometry import map_size
from overfeat.merge import merge_boxes
from overfeat.predictor import Predictor
from overfeat.scales import place, shrink
from overfeat.views import PreparedImage
from overfeat.zoo import TINY
from tests.overfeat import literal
from tests.overfeat.builders import (
    ALL_WINDOWS,
    ALWAYS,
    COLUMNS,
    FEW,
    LOOK,
    NEVER,
    assert_close_detections,
    assert_equal_detections,
    make_constant,
    make_image,
    make_member,
    make_predictor,
)


def shrink_to(image, ladder):
    height, width = image.shape[:2]
    return shrink(image, [place(canvas, height=height, width=width) for canvas in ladder])


def test_detecting_equals_predicting_what_was_prepared(model):
    image = make_image(700, 900)
    prepared = model.prepare(image, LOOK)
    assert prepared.pixels.shape == (247, 317, 3)
    assert (prepared.height, prepared.width) == (700, 900)
    assert np.array_equal(prepared.pixels, shrink_to(image, LOOK.scales))
    predicted = model.predict([prepared], LOOK, ("detect",))[0].detections
    assert_equal_detections(predicted, model.detect(image, LOOK))


def test_a_small_image_is_prepared_as_it_is(model):
    image = make_image(120, 90)
    prepared = model.prepare(image, LOOK)
    assert prepared.pixels is image


def test_boxes_come_in_pixels_of_the_image_and_not_of_the_shrunk_one(model):
    image = make_image(700, 900)
    small = shrink_to(image, LOOK.scales)
    found = model.detect(image, LOOK)
    as_small = model.predict(
        [PreparedImage(pixels=small, height=small.shape[0], width=small.shape[1])],
        LOOK,
        ("detect",),
    )[0].detections
    factors = np.array([900 / 317, 700 / 247] * 2)
    assert len(found) == len(as_small) > 0
    assert found.boxes_xyxy[:, 2].max() > 317
    assert np.allclose(found.boxes_xyxy, as_small.boxes_xyxy * factors, atol=0.01)


@pytest.mark.parametrize("stride", ["fine", "coarse"])
def test_a_classifier_without_a_regressor_reports_its_windows(stride):
    model = make_constant([0.8, 0.15, 0.05])
    config = PredictConfig(
        scales=(Canvas(257, 281),),
        stride=stride,
        score_threshold=0.5,
        max_boxes=1000,
        merge=NEVER,
    )
    found = model.detect(make_image(257, 281), config)
    step = 12 if stride == "fine" else 36
    rows, cols = map_size(TINY, 257, stride), map_size(TINY, 281, stride)
    expected = [
        [step * col, step * row, step * col + 221, step * row + 221]
        for row in range(rows)
        for col in range(cols)
    ]
    assert set(found.labels) == {"ant"}
    assert sorted(found.boxes_xyxy.tolist()) == sorted(expected)
    assert np.allclose(found.scores, 0.8, atol=1e-6)
    assert np.array_equal(found.evidence, found.scores)


def test_a_regressor_places_the_box_in_its_window():
    model = make_constant([0.8, 0.15, 0.05], regressor="single", edges=[0.2, 0.4, 0.6, 1.0])
    config = PredictConfig(scales=(Canvas(221, 221),), score_threshold=0.5)
    found = model.detect(make_image(442, 442), config)
    assert np.allclose(found.boxes_xyxy, [[0.4 * 442, 0.2 * 442, 442, 0.6 * 442]], atol=1e-3)


def test_a_regressor_of_centre_and_size_places_the_same_box():
    # The box of the test above: centre at 0.4 and 0.7, 0.4 of the window high and 0.6 wide.
    codes = [-0.1, 0.2, math.log(0.4), math.log(0.6)]
    model = make_constant(
        [0.8, 0.15, 0.05], regressor="single", edges=codes, box_coding="centre-size"
    )
    config = PredictConfig(scales=(Canvas(221, 221),), score_threshold=0.5)
    found = model.detect(make_image(442, 442), config)
    assert np.allclose(found.boxes_xyxy, [[0.4 * 442, 0.2 * 442, 442, 0.6 * 442]], atol=1e-3)


def test_each_class_of_a_regressor_of_centre_and_size_has_its_own_box():
    half = math.log(0.5)
    codes = [-0.25, -0.25, half, half, 0.25, 0.25, half, half, 0.0, 0.0, 0.0, 0.0]
    model = make_constant(
        [0.5, 0.5, 1e-9], regressor="per-class", edges=codes, box_coding="centre-size"
    )
    config = PredictConfig(scales=(Canvas(221, 221),), score_threshold=0.25)
    found = model.detect(make_image(221, 221), config)
    assert found.labels == ("ant", "bee")
    assert np.allclose(
        found.boxes_xyxy, [[0, 0, 110.5, 110.5], [110.5, 110.5, 221, 221]], atol=1e-3
    )


def test_a_per_class_regressor_places_the_box_of_the_class_that_was_found():
    edges = [0.0, 0.0, 0.5, 0.5, 0.5, 0.5, 1.0, 1.0, 0.0, 0.5, 0.5, 1.0, 0.0, 0.0, 1.0, 1.0]
    model = make_constant([0.3, 0.3, 0.1, 0.3], regressor="per-class", edges=edges, background=True)
    config = PredictConfig(scales=(Canvas(221, 221),), score_threshold=0.25)
    found = model.detect(make_image(221, 221), config)
    assert found.labels == ("ant", "bee")
    assert np.allclose(
        found.boxes_xyxy, [[0, 0, 110.5, 110.5], [110.5, 110.5, 221, 221]], atol=1e-3
    )


def test_all_windows_of_all_scales_and_flips_are_counted_once():
    model = make_constant([0.8, 0.15, 0.05])
    config = PredictConfig(
        scales=(Canvas(245, 245), Canvas(281, 317)),
        flips=True,
        score_threshold=0.5,
        merge=ALWAYS,
    )
    found = model.detect(make_image(490, 490), config)
    # 3 x 3 and 6 x 9 windows, twice.
    assert found.n_windows.tolist() == [2 * (9 + 54)]
    assert found.evidence[0] == pytest.approx(0.8 * 126, rel=1e-5)
    assert found.scores[0] == pytest.approx(0.8)


def test_windows_on_the_padding_of_a_panorama_are_not_counted():
    model = make_constant([0.8, 0.15, 0.05])
    config = PredictConfig(scales=(Canvas(461, 569),), score_threshold=0.5, merge=ALWAYS)
    found = model.detect(make_image(1, 1000), config)
    # 21 x 30 windows; the first and the last row miss canvas row 230.
    assert found.n_windows.tolist() == [19 * 30]


def test_the_background_is_never_reported():
    model = make_constant([0.04, 0.03, 0.03, 0.9], background=True)
    config = PredictConfig(scales=LOOK.scales, score_threshold=0.1)
    assert len(model.detect(make_image(250, 250), config)) == 0
    classes = model.classify(make_image(250, 250), LOOK)
    assert classes.labels[0] == "ant"
    assert classes.scores[0] == pytest.approx(0.04, rel=1e-4)


def test_the_limit_on_boxes_keeps_the_best_and_says_so(window_model):
    image = make_image(245, 281)
    whole = window_model.detect(image, ALL_WINDOWS)
    assert len(whole) == 3 * 6 * 3
    assert not whole.truncated_boxes
    cut = window_model.detect(
        image,
        PredictConfig(
            scales=ALL_WINDOWS.scales,
            score_threshold=1e-9,
            max_boxes=7,
            merge=ALL_WINDOWS.merge,
        ),
    )
    assert cut.truncated_boxes
    for column in COLUMNS:
        assert np.array_equal(getattr(cut, column), getattr(whole, column)[:7])


def test_boxes_are_ranked_by_evidence_then_class_then_corner():
    model = make_constant([0.4, 0.4, 0.2])
    config = PredictConfig(scales=(Canvas(245, 245),), score_threshold=0.3, merge=NEVER)
    found = model.detect(make_image(245, 245), config)
    assert found.labels == ("ant",) * 9 + ("bee",) * 9
    corners = [tuple(box[:2]) for box in found.boxes_xyxy.tolist()]
    assert corners == 2 * [(x, y) for x in (0, 12, 24) for y in (0, 12, 24)]


def merge_literally(windows, *, score_threshold, threshold):
    """Label, box, evidence, highest probability and windows of each object, most evidence first."""
    found = []
    for label in range(3):
        own = [
            (window.boxes[label], window.probabilities[label])
            for window in windows
            if window.is_counted
            and window.probabilities[label] >= score_threshold
            and literal.area(window.boxes[label]) > 0
        ]
        boxes, probabilities = zip(*own, strict=True) if own else ((), ())
        merged = literal.merge_pairs(boxes, probabilities, threshold=threshold)
        found += [(label, one) for one in merged]
    return sorted(found, key=lambda row: -row[1].evidence)


@pytest.mark.parametrize(
    ("regressor", "size", "flips", "stride", "threshold"),
    [
        # Windows alone are equally far from each other, and the order of ties is rounding's.
        ("none", (120, 200), True, "fine", 1e6),
        ("none", (245, 130), False, "coarse", 1e6),
        ("single", (120, 200), False, "fine", 0.3),
        ("single", (60, 240), True, "coarse", 0.5),
        ("per-class", (120, 200), False, "fine", 0.5),
        ("per-class", (245, 130), True, "fine", 0.2),
    ],
)
def test_objects_are_those_of_the_papers_merging(regressor, size, flips, stride, threshold):
    member = make_member(background=True, regressor=regressor)
    image, ladder = make_image(*size), (Canvas(245, 245), Canvas(245, 281))
    windows = literal.look(member, image, ladder, flips=flips, stride=stride)
    expected = merge_literally(windows, score_threshold=0.2, threshold=threshold)
    config = PredictConfig(
        scales=ladder,
        flips=flips,
        stride=stride,
        score_threshold=0.2,
        merge=GreedyMerge(threshold=threshold),
    )
    found = Predictor([member]).detect(image, config)
    assert len(expected) > 1
    assert max(len(one.members) for _, one in expected) > 1
    assert found.label_ids.tolist() == [label for label, _ in expected]
    assert np.allclose(found.boxes_xyxy, [one.box for _, one in expected], atol=0.05)
    assert np.allclose(found.evidence, [one.evidence for _, one in expected], rtol=1e-4)
    assert np.allclose(found.scores, [one.best for _, one in expected], atol=1e-5)
    assert found.n_windows.tolist() == [len(one.members) for _, one in expected]


@pytest.mark.parametrize(
    "merge",
    [
        GreedyMerge(threshold=0.5, average="plain"),
        NonMaxSuppression(iou=0.4),
        SoftSuppression(floor=0.1),
        BoxFusion(iou=0.6),
    ],
)
def test_every_method_of_merging_is_chosen_by_its_settings(merge):
    member, image = make_member(background=True, regressor="single"), make_image(120, 200)
    ladder = (Canvas(245, 245), Canvas(245, 281))
    config = PredictConfig(scales=ladder, score_threshold=0.3, merge=merge, max_boxes=1000)
    found = Predictor([member]).detect(image, config)
    windows = literal.look(member, image, ladder)
    for label in range(3):
        own = [window for window in windows if window.probabilities[label] >= 0.3]
        expected = merge_boxes(
            np.array([window.boxes[label] for window in own], dtype=np.float32).reshape(-1, 4),
            np.array([window.probabilities[label] for window in own], dtype=np.float32),
            merge,
        )
        kept = found.label_ids == label
        order = np.argsort(-expected.evidence, kind="stable")
        assert np.allclose(found.evidence[kept], expected.evidence[order], rtol=1e-4)
        assert np.allclose(found.boxes_xyxy[kept], expected.boxes_xyxy[order], atol=0.05)
        assert np.array_equal(found.n_windows[kept], expected.n_windows[order])


def test_the_methods_of_merging_differ():
    model, image = make_predictor(background=True, regressor="single"), make_image(120, 200)
    counts = set()
    for merge in (GreedyMerge(), NonMaxSuppression(), SoftSuppression(), BoxFusion(iou=0.7)):
        config = PredictConfig(scales=LOOK.scales, score_threshold=0.3, merge=merge)
        found = model.detect(image, config)
        counts.add((len(found), round(float(found.evidence.sum()), 3)))
    assert len(counts) == 4


@pytest.mark.parametrize(
    ("views", "corners", "side"),
    [
        # Half the size has a short side of 256, and the central square begins at column 22.
        ("ten-view", [(0, 22), (0, 57), (35, 22), (35, 57), (17, 39)], 221),
        ("centre-crop", [(17, 39)], 221),
    ],
)
def test_windows_of_crops_are_reported_in_pixels_of_the_image(views, corners, side):
    model = make_constant([0.8, 0.15, 0.05])
    config = PredictConfig(views=views, score_threshold=0.5, merge=NEVER)
    found = model.detect(make_image(512, 600), config)
    squares = [[2 * x, 2 * y, 2 * (x + side), 2 * (y + side)] for y, x in corners]
    twice = 2 if views == "ten-view" else 1
    expected = sorted(twice * squares)
    assert np.allclose(sorted(found.boxes_xyxy.tolist()), expected, atol=1e-3)


def test_the_window_of_the_original_protocol_begins_at_the_crop():
    # 221 of the 231 pixels that the program cuts at column (300 - 231) / 2, rounded down.
    config = PredictConfig(views="original", score_threshold=0.5)
    found = make_constant([0.8, 0.15, 0.05]).detect(make_image(231, 300), config)
    assert found.boxes_xyxy.tolist() == [[34, 0, 34 + 221, 221]]


def test_a_mirrored_crop_reports_its_box_where_it_is_in_the_image():
    """The left half of the mirrored centre crop is the right half of the crop."""
    model = make_constant([0.8, 0.15, 0.05], regressor="single", edges=[0.0, 0.0, 1.0, 0.5])
    config = PredictConfig(views="centre-crop", flips=True, score_threshold=0.5, merge=NEVER)
    found = model.detect(make_image(256, 300), config)
    halves = [[39, 17, 149.5, 238], [149.5, 17, 260, 238]]
    assert np.allclose(sorted(found.boxes_xyxy.tolist()), halves, atol=1e-3)


def test_boxes_of_all_classes_are_merged_when_asked():
    """An ant and a bee in the same window are one object, of the class with the larger sum."""
    model = make_constant([0.45, 0.5, 0.05])
    look = {"scales": (Canvas(221, 221),), "score_threshold": 0.4}
    each = model.detect(make_image(221, 221), PredictConfig(**look))
    assert each.labels == ("bee", "ant")
    config = PredictConfig(**look, merged_classes="any")
    found = model.detect(make_image(221, 221), config)
    assert found.labels == ("bee",)
    assert found.scores.tolist() == pytest.approx([0.5])
    assert found.evidence.tolist() == pytest.approx([0.5])
    assert found.n_windows.tolist() == [1]


def test_no_box_has_a_score_below_the_threshold(model):
    for threshold in (0.3, 0.5):
        config = PredictConfig(scales=LOOK.scales, score_threshold=threshold)
        found = model.detect(make_image(300, 400), config)
        assert (found.scores >= threshold).all()


@FEW
@given(st.integers(60, 400), st.integers(60, 400), st.integers(0, 999))
def test_the_boxes_of_a_mirrored_image_are_the_mirrored_boxes(model, height, width, seed):
    """On square canvases with even padding: elsewhere the centring rounds to one side."""
    factor = min(245 / height, 245 / width)
    side = max(1, round(width * factor))
    width = width if (245 - side) % 2 == 0 else height
    config = PredictConfig(
        scales=(Canvas(245, 245),), flips=True, score_threshold=0.25, merge=ALL_WINDOWS.merge
    )
    image = make_image(height, width, seed=seed)
    found = model.detect(image, config)
    mirrored = model.detect(np.ascontiguousarray(image[:, ::-1]), config)
    boxes = mirrored.boxes_xyxy.copy()
    mirrored.boxes_xyxy[:, 0], mirrored.boxes_xyxy[:, 2] = width - boxes[:, 2], width - boxes[:, 0]
    assert_close_detections(found, mirrored)
