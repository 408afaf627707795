"""Detection from an image to its boxes: windows, scales, regressors, padding, flips, ranks."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from overfeat import Canvas, MergeConfig, PredictConfig
from overfeat.architectures import TINY
from overfeat.geometry import map_size
from overfeat.predictor import PreparedImage
from overfeat.scales import shrink
from tests.overfeat.builders import (
    ALL_WINDOWS,
    COLUMNS,
    FEW,
    LOOK,
    assert_close_detections,
    assert_equal_detections,
    make_constant,
    make_image,
    make_predictor,
)


def test_detecting_equals_predicting_what_was_prepared(model):
    image = make_image(700, 900)
    prepared = model.prepare(image, LOOK)
    assert prepared.pixels.shape == (247, 317, 3)
    assert (prepared.height, prepared.width) == (700, 900)
    assert np.array_equal(prepared.pixels, shrink(image, LOOK.scales))
    predicted = model.predict([prepared], LOOK, ("detect",))[0].detections
    assert_equal_detections(predicted, model.detect(image, LOOK))


def test_a_small_image_is_prepared_as_it_is(model):
    image = make_image(120, 90)
    prepared = model.prepare(image, LOOK)
    assert prepared.pixels is image


def test_boxes_come_in_pixels_of_the_image_and_not_of_the_shrunk_one(model):
    image = make_image(700, 900)
    small = shrink(image, LOOK.scales)
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
        merge=MergeConfig(threshold=-1.0),
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
        merge=MergeConfig(threshold=1e6),
    )
    found = model.detect(make_image(490, 490), config)
    # 3 x 3 and 6 x 9 windows, twice.
    assert found.n_windows.tolist() == [2 * (9 + 54)]
    assert found.evidence[0] == pytest.approx(0.8 * 126, rel=1e-5)
    assert found.scores[0] == pytest.approx(0.8)


def test_windows_on_the_padding_of_a_panorama_are_not_counted():
    model = make_constant([0.8, 0.15, 0.05])
    config = PredictConfig(
        scales=(Canvas(461, 569),), score_threshold=0.5, merge=MergeConfig(threshold=1e6)
    )
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
    config = PredictConfig(
        scales=(Canvas(245, 245),), score_threshold=0.3, merge=MergeConfig(threshold=-1.0)
    )
    found = model.detect(make_image(245, 245), config)
    assert found.labels == ("ant",) * 9 + ("bee",) * 9
    corners = [tuple(box[:2]) for box in found.boxes_xyxy.tolist()]
    assert corners == 2 * [(x, y) for x in (0, 12, 24) for y in (0, 12, 24)]


def test_no_box_has_a_score_below_the_threshold(model):
    for threshold in (0.3, 0.5):
        config = PredictConfig(scales=LOOK.scales, score_threshold=threshold)
        found = model.detect(make_image(300, 400), config)
        assert (found.scores >= threshold).all()


@FEW
@given(st.integers(60, 400), st.integers(60, 400), st.integers(0, 999))
def test_the_boxes_of_a_mirrored_image_are_the_mirrored_boxes(height, width, seed):
    """On square canvases with even padding: elsewhere the centring rounds to one side."""
    factor = min(245 / height, 245 / width)
    side = max(1, round(width * factor))
    width = width if (245 - side) % 2 == 0 else height
    model = make_predictor(background=True, regressor="single")
    config = PredictConfig(
        scales=(Canvas(245, 245),), flips=True, score_threshold=0.25, merge=ALL_WINDOWS.merge
    )
    image = make_image(height, width, seed=seed)
    found = model.detect(image, config)
    mirrored = model.detect(np.ascontiguousarray(image[:, ::-1]), config)
    boxes = mirrored.boxes_xyxy.copy()
    mirrored.boxes_xyxy[:, 0], mirrored.boxes_xyxy[:, 2] = width - boxes[:, 2], width - boxes[:, 0]
    assert_close_detections(found, mirrored)


def test_an_image_and_its_mirror_image_have_the_same_classes_with_flips(model):
    image = make_image(245, 281)
    config = PredictConfig(scales=(Canvas(245, 281),), flips=True)
    plain = PredictConfig(scales=(Canvas(245, 281),))
    mirror = np.ascontiguousarray(image[:, ::-1])
    with_flips = [model.classify(each, config) for each in (image, mirror)]
    assert with_flips[0].labels == with_flips[1].labels
    assert np.allclose(with_flips[0].scores, with_flips[1].scores, atol=1e-5)
    without = [model.classify(each, plain) for each in (image, mirror)]
    by_class = [each.scores[np.argsort(each.label_ids)] for each in without]
    assert not np.allclose(*by_class, atol=1e-3)
    # The mean over flips is the mean of the two images without them.
    order = np.argsort(with_flips[0].label_ids)
    assert np.allclose(with_flips[0].scores[order], (by_class[0] + by_class[1]) / 2, atol=1e-5)
