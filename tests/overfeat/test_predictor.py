"""The model that users hold: what it takes, what it gives back, how it classifies and loads."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import overfeat
from overfeat import Canvas, CheckpointError, PredictConfig
from overfeat.architectures import TINY
from overfeat.checkpoint import save_checkpoint
from overfeat.predictor import Predictor
from tests.overfeat.builders import (
    ALL_WINDOWS,
    FEW,
    LOOK,
    assert_close_detections,
    assert_equal_detections,
    describe,
    make_config,
    make_constant,
    make_image,
    make_network,
    make_predictor,
)


def test_one_image_gives_one_result_and_a_list_a_list(model):
    image = make_image(200, 300)
    alone, listed = model.detect(image, LOOK), model.detect([image], LOOK)
    assert isinstance(listed, list)
    assert_equal_detections(alone, listed[0])
    assert model.classify(image, LOOK).labels == model.classify([image], LOOK)[0].labels
    features = model.extract([make_image(221, 230), make_image(260, 225)])
    assert [array.shape[1:] for array in features] == [(1, 1), (2, 1)]
    assert np.array_equal(features[0], model.extract(make_image(221, 230)))


def test_an_empty_list_gives_an_empty_list(model):
    assert model.detect([], LOOK) == model.classify([], LOOK) == model.extract([]) == []


def test_images_of_any_shape_keep_their_order(model):
    images = [make_image(40, 700), make_image(300, 200), make_image(300, 201, seed=9)]
    together = model.detect(images, LOOK)
    for image, found in zip(images, together, strict=True):
        assert_close_detections(found, model.detect(image, LOOK))


@settings(FEW, max_examples=12)
@given(
    st.lists(st.tuples(st.integers(1, 400), st.integers(1, 400)), min_size=2, max_size=4),
    st.sampled_from([1, 200_000, 2_000_000]),
)
def test_a_batch_equals_its_images_one_by_one(sizes, batch_pixels):
    model = make_predictor(background=True, regressor="single")
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
    for image, prediction in zip(images, together, strict=True):
        alone, classes = model.classify(image, config), prediction.classification
        orders = np.argsort(alone.label_ids), np.argsort(classes.label_ids)
        assert np.allclose(alone.scores[orders[0]], classes.scores[orders[1]], atol=1e-4)
        assert_close_detections(model.detect(image, config), prediction.detections)


def test_only_what_was_asked_for_is_answered(model):
    prepared = [model.prepare(make_image(200, 300), LOOK)]
    both = model.predict(prepared, LOOK, ("classify", "detect"))[0]
    classes = model.predict(prepared, LOOK, ("classify",))[0]
    boxes = model.predict(prepared, LOOK, ("detect",))[0]
    assert classes.detections is None
    assert boxes.classification is None
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
@pytest.mark.parametrize("method", ["detect", "classify", "extract"])
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
    first = model.detect(image, LOOK), model.classify(image, LOOK), model.extract(image)
    kept = [array.copy() for array in (first[0].boxes_xyxy, first[1].scores, first[2])]
    others = make_image(300, 240, seed=50)
    model.detect(others, LOOK), model.classify(others, LOOK), model.extract(others)
    assert np.array_equal(first[0].boxes_xyxy, kept[0])
    assert np.array_equal(first[1].scores, kept[1])
    assert np.array_equal(first[2], kept[2])
    for array in (first[0].boxes_xyxy, first[1].scores, first[2]):
        array[:] = -1
    assert np.array_equal(model.extract(image), kept[2])
    assert np.array_equal(image, original)


def test_classes_are_the_spatial_maximum_averaged_over_scales(model):
    image = make_image(200, 240)
    single = []
    for canvas in LOOK.scales:
        config = PredictConfig(
            scales=(canvas,), score_threshold=1e-9, max_boxes=10**6, merge=ALL_WINDOWS.merge
        )
        found = model.detect(image, config)
        single.append([found.scores[found.label_ids == label].max() for label in range(3)])
    classes = model.classify(image, LOOK)
    expected = np.mean(single, axis=0)
    assert np.allclose(classes.scores, expected[classes.label_ids], atol=1e-5)
    assert classes.labels == tuple(model.config.classes[label] for label in classes.label_ids)
    assert (np.diff(classes.scores) <= 0).all()


@pytest.mark.parametrize(("top", "expected"), [(1, ("bee",)), (2, ("bee", "ant"))])
def test_equal_classes_are_named_in_their_order(top, expected):
    model = make_constant([0.2, 0.6, 0.2])
    config = PredictConfig(scales=(Canvas(245, 245),), top_classes=top)
    assert model.classify(make_image(245, 245), config).labels == expected


def test_asking_for_more_classes_than_there_are_gives_all(window_model):
    config = PredictConfig(scales=(Canvas(245, 245),), top_classes=50)
    classes = window_model.classify(make_image(245, 245), config)
    assert sorted(classes.labels) == ["ant", "bee", "cat"]


def test_bfloat16_gives_nearly_the_same_classes():
    image = make_image(300, 400)
    exact = make_predictor().classify(image, LOOK)
    rough = make_predictor(dtype="bfloat16").classify(image, LOOK)
    assert rough.scores.dtype == np.float32
    order = np.argsort(exact.label_ids), np.argsort(rough.label_ids)
    assert np.allclose(exact.scores[order[0]], rough.scores[order[1]], atol=0.03)


def test_bfloat16_detects_and_extracts_in_float32():
    model = make_predictor(dtype="bfloat16", regressor="single")
    found = model.detect(make_image(300, 400), LOOK)
    assert found.boxes_xyxy.dtype == found.scores.dtype == np.float32
    assert model.extract(make_image(230, 230)).dtype == np.float32


def test_the_ladder_is_the_settings_then_the_checkpoints_then_the_architectures():
    scales = (Canvas(233, 245),)
    assert make_predictor().ladder(PredictConfig()) == TINY.scales
    model = make_predictor(scales=scales)
    assert model.ladder(PredictConfig()) == scales
    assert model.ladder(LOOK) == LOOK.scales


def test_a_scale_without_room_for_a_window_is_refused(model):
    config = PredictConfig(scales=(Canvas(200, 300),))
    with pytest.raises(ValueError, match=r"scales: received 200x300, expected at least 221x221"):
        model.detect(make_image(50, 50), config)


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"score_threshold": 0.0}, "score threshold: received 0.0"),
        ({"score_threshold": 1.1}, "score threshold: received 1.1"),
        ({"score_threshold": float("nan")}, "score threshold: received nan"),
        ({"max_boxes": 0}, "max_boxes: received 0, expected at least 1"),
        ({"top_classes": 0}, "top_classes: received 0"),
        ({"batch_pixels": 0}, "batch_pixels: received 0"),
    ],
)
def test_settings_out_of_range_are_refused(fields, named):
    with pytest.raises(ValueError, match=named) as error:
        PredictConfig(**fields)
    describe(error)


def test_a_saved_model_detects_like_the_one_in_memory(tmp_path):
    config = make_config(background=True, regressor="single", scales=LOOK.scales)
    network = make_network(TINY, outputs=config.outputs, regressor="single")
    save_checkpoint(tmp_path, config, network.state_dict())
    expected = Predictor(config, network, device="cpu").detect(make_image(200, 260), LOOK)
    for folder in (tmp_path, str(tmp_path)):
        loaded = overfeat.load(folder, device="cpu")
        assert loaded.config == config
        assert_equal_detections(loaded.detect(make_image(200, 260), LOOK), expected)


def test_a_model_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(CheckpointError) as error:
        overfeat.load(tmp_path / "nowhere")
    assert str(tmp_path / "nowhere") in describe(error)


def test_only_demo_is_a_name_and_not_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CheckpointError, match="checkpoint accurate"):
        overfeat.load("accurate")
