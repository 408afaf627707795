"""The model that users hold: what it takes, and what it gives back."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from overfeat import Canvas, PredictConfig
from overfeat.member import plan_views
from overfeat.zoo import TINY
from tests.overfeat.builders import (
    ALL_WINDOWS,
    FEW,
    LOOK,
    assert_close_detections,
    assert_equal_detections,
    describe,
    make_config,
    make_image,
    make_member,
)


def test_one_image_gives_one_result_and_a_list_a_list(model):
    image = make_image(200, 300)
    alone, listed = model.detect(image, LOOK), model.detect([image], LOOK)
    assert isinstance(listed, list)
    assert_equal_detections(alone, listed[0])
    assert model.classify(image, LOOK).labels == model.classify([image], LOOK)[0].labels
    assert model.localize(image, LOOK).labels == model.localize((image,), LOOK)[0].labels
    features = model.extract([make_image(221, 230), make_image(260, 225)])
    assert [array.shape[1:] for array in features] == [(1, 1), (2, 1)]
    assert np.array_equal(features[0], model.extract(make_image(221, 230)))


def test_a_batch_is_a_list_of_its_images(model):
    """An array (images, height, width, 3), as data loaders make them."""
    batch = np.stack([make_image(240, 260, seed=seed) for seed in range(3)])
    for method in (model.classify, model.localize, model.detect):
        found, expected = method(batch, LOOK), method(list(batch), LOOK)
        assert isinstance(found, list)
        assert len(found) == 3
        for one, other in zip(found, expected, strict=True):
            assert one.labels == other.labels
            assert np.array_equal(one.scores, other.scores)
    features, expected = model.extract(batch), model.extract(list(batch))
    assert isinstance(features, list)
    assert all(map(np.array_equal, features, expected))
    assert not np.array_equal(features[0], features[1])


def test_an_empty_batch_gives_an_empty_list(model):
    batch = np.zeros((0, 240, 260, 3), dtype=np.uint8)
    assert model.detect(batch, LOOK) == model.localize(batch, LOOK) == model.extract(batch) == []


def test_an_empty_list_gives_an_empty_list(model):
    assert model.detect([], LOOK) == model.classify([], LOOK) == model.extract([]) == []


def test_images_of_any_shape_keep_their_order(model):
    images = [make_image(40, 700), make_image(300, 200), make_image(300, 201, seed=9)]
    together = model.detect(images, LOOK)
    for image, found in zip(images, together, strict=True):
        assert_close_detections(found, model.detect(image, LOOK))


@settings(FEW, max_examples=10)
@given(
    st.lists(st.tuples(st.integers(1, 400), st.integers(1, 400)), min_size=2, max_size=4),
    st.sampled_from([1, 200_000, 2_000_000]),
)
def test_a_batch_equals_its_images_one_by_one(model, sizes, batch_pixels):
    images = [make_image(*size, seed=seed) for seed, size in enumerate(sizes)]
    config = PredictConfig(
        scales=LOOK.scales,
        stride="coarse",
        flips=True,
        score_threshold=0.05,
        merge=ALL_WINDOWS.merge,
        batch_pixels=batch_pixels,
    )
    prepared = [model.prepare(image, config) for image in images]
    together = model.predict(prepared, config, ("classify", "detect"))
    for image, found in zip(prepared, together, strict=True):
        (alone,) = model.predict([image], config, ("classify", "detect"))
        classes = alone.classification, found.classification
        scores = [each.scores[np.argsort(each.label_ids)] for each in classes]
        assert np.allclose(*scores, atol=1e-4)
        assert_close_detections(alone.detections, found.detections)


def test_only_what_was_asked_for_is_answered(model):
    prepared = [model.prepare(make_image(200, 300), LOOK)]
    both = model.predict(prepared, LOOK, ("classify", "detect"))[0]
    classes = model.predict(prepared, LOOK, ("classify",))[0]
    boxes = model.predict(prepared, LOOK, ("detect",))[0]
    assert classes.detections is classes.guesses is classes.features is None
    assert boxes.classification is boxes.guesses is boxes.features is None
    assert_equal_detections(both.detections, boxes.detections)
    assert np.array_equal(both.classification.scores, classes.classification.scores)


@pytest.mark.parametrize(
    ("image", "received"),
    [
        (np.zeros((50, 60, 3), dtype=np.float32), "float32 (50, 60, 3)"),
        (np.zeros((50, 60), dtype=np.uint8), "uint8 (50, 60)"),
        (np.zeros((2, 50, 60, 3), dtype=np.uint8), "uint8 (2, 50, 60, 3)"),
        (np.zeros((50, 60, 4), dtype=np.uint8), "(50, 60, 4)"),
        (np.zeros((3, 50, 60), dtype=np.uint8), "(3, 50, 60)"),
        (np.zeros((0, 60, 3), dtype=np.uint8), "(0, 60, 3)"),
        ("photo.jpg", "str"),
        (torch.zeros(50, 60, 3, dtype=torch.uint8), "uint8"),
    ],
)
@pytest.mark.parametrize("method", ["detect", "localize", "classify", "extract"])
@pytest.mark.usefixtures("without_shape_checks")
def test_what_is_no_rgb_image_is_refused(model, method, image, received):
    with pytest.raises(ValueError, match="image: received") as error:
        getattr(model, method)([image])
    message = describe(error)
    assert received in message
    assert "(height, width, 3)" in message


def test_an_image_of_five_pixels_is_enlarged(model):
    image = make_image(5, 5)
    found = model.detect(image, LOOK)
    assert len(found) > 0
    assert found.boxes_xyxy.min() >= 0
    assert found.boxes_xyxy.max() <= 5
    assert len(model.classify(image, LOOK).labels) == 3


@pytest.mark.parametrize("size", [(1, 1), (1, 900), (2000, 3)])
def test_boxes_lie_inside_an_image_of_any_proportions(window_model, size):
    height, width = size
    found = window_model.detect(make_image(*size), LOOK)
    assert len(found) > 0
    assert (found.boxes_xyxy >= 0).all()
    assert (found.boxes_xyxy <= [width, height, width, height]).all()
    assert (found.boxes_xyxy[:, 2:] > found.boxes_xyxy[:, :2]).all()


@pytest.mark.parametrize("view", [np.s_[:, ::-1], np.s_[..., ::-1], np.s_[::2, ::2]])
@pytest.mark.parametrize("size", [(240, 300), (700, 900)])
def test_a_view_of_an_array_is_an_image_like_its_copy(model, view, size):
    """OpenCV users turn BGR into RGB with a negative stride."""
    image = make_image(*size)[view]
    assert_equal_detections(model.detect(image, LOOK), model.detect(image.copy(), LOOK))


@pytest.mark.parametrize("size", [(240, 300), (700, 900)])
def test_a_read_only_image_is_read_and_not_warned_about(model, size):
    image = make_image(*size)
    expected = model.detect(image, LOOK)
    image.setflags(write=False)
    assert_equal_detections(model.detect(image, LOOK), expected)


def test_results_are_copies(model):
    image = make_image(300, 240)
    original = image.copy()

    def list_arrays(pixels):
        (crowd,) = model.map_classes(pixels, PredictConfig(scales=LOOK.scales[:1]))
        return [
            model.detect(pixels, LOOK).boxes_xyxy,
            model.localize(pixels, LOOK).boxes_xyxy,
            model.classify(pixels, LOOK).scores,
            model.extract(pixels),
            crowd.probabilities,
            crowd.windows_xyxy,
        ]

    first = list_arrays(image)
    kept = [array.copy() for array in first]
    list_arrays(make_image(300, 240, seed=50))
    assert all(map(np.array_equal, first, kept))
    for array in first:
        array[:] = -1
    assert all(map(np.array_equal, list_arrays(image), kept))
    assert np.array_equal(image, original)


def test_the_ladder_is_the_settings_then_the_checkpoints_then_the_architectures():
    scales = (Canvas(233, 245),)
    assert plan_views(make_member().config, PredictConfig()).scales == TINY.scales
    member = make_member(scales=scales)
    assert plan_views(member.config, PredictConfig()).scales == scales
    assert plan_views(member.config, LOOK).scales == LOOK.scales


def test_a_scale_without_room_for_a_window_is_refused(model):
    config = PredictConfig(scales=(Canvas(200, 300),))
    with pytest.raises(ValueError, match=r"scales: received 200x300, expected at least 221x221"):
        model.detect(make_image(50, 50), config)


def test_an_unknown_task_is_refused_with_the_known_ones(model, without_shape_checks):
    prepared = model.prepare(make_image(240, 240), LOOK)
    with pytest.raises(ValueError, match="task: received 'segment', expected one of classify, "):
        model.predict([prepared], LOOK, ("classify", "segment"))


def test_context_needs_a_ladder_with_the_smallest_scale_first():
    config = PredictConfig(scales=(Canvas(281, 317), Canvas(245, 245)))
    with pytest.raises(ValueError, match="received 281x317 245x245, expected the smallest first"):
        plan_views(make_config(context=True), config)
    assert plan_views(make_config(), config).scales == config.scales


@pytest.mark.parametrize("images", [None, "photo.png", 7, torch.zeros(9, 9, 3, dtype=torch.uint8)])
def test_what_is_no_array_and_no_list_is_refused_by_its_type(model, images, without_shape_checks):
    with pytest.raises(ValueError, match=f"images: received {type(images).__name__}, expected"):
        model.classify(images)


def test_a_model_says_what_it_is(model):
    assert repr(model) == "Predictor(tiny on cpu in torch.float32; 3 classes)"
