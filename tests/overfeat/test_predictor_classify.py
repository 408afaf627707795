"""Classification from an image to its classes: windows, scales, flips, crops."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from overfeat import Canvas, PredictConfig
from overfeat.predictor import Predictor
from overfeat.zoo import ALEXNET_2012, FAST, TINY
from tests.overfeat import literal
from tests.overfeat.builders import (
    make_constant,
    make_image,
    make_member,
    make_predictor,
    make_scripted_member,
)

LADDER = (Canvas(245, 281), Canvas(300, 330))


def by_class(classification):
    """Scores in the order of the classes."""
    assert sorted(classification.label_ids.tolist()) == list(range(len(classification.labels)))
    return classification.scores[np.argsort(classification.label_ids)]


def say(member, crop):
    """The network's softmax on one crop that it sees in one window."""
    normalization = member.config.normalization
    pixels = torch.tensor(np.ascontiguousarray(crop)).permute(2, 0, 1).float()
    mean, std = (
        torch.tensor(each).view(3, 1, 1) for each in (normalization.mean, normalization.std)
    )
    with torch.inference_mode():
        logits = member.network((pixels - mean)[None] / std).logits
    assert logits.shape[2:] == (1, 1)
    return logits[0, :, 0, 0].softmax(dim=0)[: len(member.config.classes)].numpy()


def cut_ten(image, side):
    """Corners and centre of the central 256x256, and their mirror images."""
    top, left = (image.shape[0] - 256) // 2, (image.shape[1] - 256) // 2
    square = image[top : top + 256, left : left + 256]
    rest, middle = 256 - side, (256 - side) // 2
    corners = [(0, 0), (0, rest), (rest, 0), (rest, rest), (middle, middle)]
    crops = [square[y : y + side, x : x + side] for y, x in corners]
    return [*crops, *(crop[:, ::-1] for crop in crops)]


@pytest.mark.parametrize("stride", ["fine", "coarse"])
@pytest.mark.parametrize("flips", [False, True])
@pytest.mark.parametrize("size", [(120, 200), (245, 130)])
def test_classes_are_maxima_over_windows_and_means_over_scales_and_flips(size, flips, stride):
    member, image = make_member(background=True), make_image(*size)
    config = PredictConfig(scales=LADDER, flips=flips, stride=stride)
    windows = literal.look(member, image, LADDER, flips=flips, stride=stride)
    expected = literal.average_maxima(windows, 3)
    found = make_predictor(background=True).classify(image, config)
    assert np.allclose(by_class(found), expected, atol=1e-5)
    assert np.allclose(found.scores, sorted(expected, reverse=True), atol=1e-5)


def test_windows_that_see_only_padding_have_no_say():
    """A panorama in the middle of a square canvas, which two rows of windows miss."""
    logits = torch.randn(1, 3, 21, 21, generator=torch.Generator().manual_seed(1))
    logits[0, 0, [0, -1]] += 9
    image, config = make_image(3, 461), PredictConfig(scales=(Canvas(461, 461),))
    windows = literal.look(make_scripted_member(logits), image, config.scales)
    assert sum(not window.is_counted for window in windows) == 2 * 21
    expected = literal.average_maxima(windows, 3)
    assert expected[0] < 0.99
    found = Predictor([make_scripted_member(logits)]).classify(image, config)
    assert np.allclose(by_class(found), expected, atol=1e-5)


@pytest.mark.parametrize("architecture", [TINY, FAST, ALEXNET_2012])
@pytest.mark.parametrize("size", [(256, 300), (400, 256)])
def test_ten_views_are_the_mean_of_ten_crops(architecture, size):
    member, image = make_member(architecture), make_image(*size)
    crops = cut_ten(image, literal.WINDOWS[architecture.name])
    expected = np.mean([say(member, crop) for crop in crops], axis=0)
    model = make_predictor(architecture)
    found = model.classify(image, PredictConfig(views="ten-view"))
    assert np.allclose(by_class(found), expected, atol=1e-5)
    # Mirroring is a part of the protocol, asked for or not.
    flipped = model.classify(image, PredictConfig(views="ten-view", flips=True))
    assert np.array_equal(flipped.scores, found.scores)


def test_crops_are_taken_of_the_image_scaled_to_a_short_side_of_256():
    """Pillow rounds pixels as we do, within a level."""
    image = make_image(512, 640)
    scaled = np.asarray(Image.fromarray(image).resize((320, 256), Image.Resampling.BILINEAR))
    expected = np.mean([say(make_member(), crop) for crop in cut_ten(scaled, 221)], axis=0)
    found = make_predictor().classify(image, PredictConfig(views="ten-view"))
    assert np.allclose(by_class(found), expected, atol=5e-3)
    # The crops of the unscaled image say something else.
    unscaled = np.mean([say(make_member(), crop) for crop in cut_ten(image, 221)], axis=0)
    assert not np.allclose(unscaled, expected, atol=5e-2)


@pytest.mark.parametrize("flips", [False, True])
def test_the_centre_crop_is_the_one_in_the_middle_of_ten(flips):
    member, image = make_member(), make_image(256, 300)
    crops = cut_ten(image, 221)[4::5]
    expected = np.mean([say(member, crop) for crop in crops[: 1 + flips]], axis=0)
    config = PredictConfig(views="centre-crop", flips=flips)
    assert np.allclose(by_class(make_predictor().classify(image, config)), expected, atol=1e-5)


@pytest.mark.parametrize("architecture", [TINY, FAST, ALEXNET_2012])
@pytest.mark.parametrize("size", [(231, 300), (332, 231), (231, 231)])
def test_the_original_protocol_shows_every_network_the_central_231_pixels(architecture, size):
    member, image = make_member(architecture), make_image(*size)
    top, left = ((side - 231) // 2 for side in size)
    expected = say(member, image[top : top + 231, left : left + 231])
    found = make_predictor(architecture).classify(image, PredictConfig(views="original"))
    assert np.allclose(by_class(found), expected, atol=1e-5)


def test_the_original_protocol_scales_the_short_side_to_231():
    image = make_image(462, 700)
    scaled = np.asarray(Image.fromarray(image).resize((350, 231), Image.Resampling.BILINEAR))
    expected = say(make_member(), scaled[:, 59 : 59 + 231])
    found = make_predictor().classify(image, PredictConfig(views="original"))
    assert np.allclose(by_class(found), expected, atol=5e-3)


def test_an_image_and_its_mirror_image_have_the_same_classes_with_flips(model):
    image = make_image(245, 281)
    config = PredictConfig(scales=(Canvas(245, 281),), flips=True)
    plain = PredictConfig(scales=(Canvas(245, 281),))
    mirror = np.ascontiguousarray(image[:, ::-1])
    with_flips = [model.classify(each, config) for each in (image, mirror)]
    assert with_flips[0].labels == with_flips[1].labels
    assert np.allclose(with_flips[0].scores, with_flips[1].scores, atol=1e-5)
    without = [by_class(model.classify(each, plain)) for each in (image, mirror)]
    assert not np.allclose(*without, atol=1e-3)


@pytest.mark.parametrize(("top", "expected"), [(1, ("bee",)), (2, ("bee", "ant"))])
def test_equal_classes_are_named_in_their_order(top, expected):
    model = make_constant([0.2, 0.6, 0.2])
    config = PredictConfig(scales=(Canvas(245, 245),), top_classes=top)
    assert model.classify(make_image(245, 245), config).labels == expected


def test_asking_for_more_classes_than_there_are_gives_all(window_model):
    config = PredictConfig(scales=(Canvas(245, 245),), top_classes=50)
    classes = window_model.classify(make_image(245, 245), config)
    assert sorted(classes.labels) == ["ant", "bee", "cat"]


@pytest.mark.parametrize("stride", ["fine", "coarse"])
@pytest.mark.parametrize("size", [(120, 200), (245, 130)])
def test_a_class_map_holds_every_window_at_its_place(size, stride):
    member, image = make_member(background=True), make_image(*size)
    config = PredictConfig(scales=LADDER, stride=stride)
    maps = make_predictor(background=True).map_classes(image, config)
    turned = size[0] > size[1]
    assert [each.canvas for each in maps] == (
        ["281x245", "330x300"] if turned else ["245x281", "300x330"]
    )
    windows = literal.look(member, image, LADDER, stride=stride)
    assert sum(each.probabilities[0].size for each in maps) == len(windows)
    for window in windows:
        found = maps[window.view]
        said = found.probabilities[:, window.row, window.col]
        assert np.allclose(said, window.probabilities, atol=1e-5)
        square = found.windows_xyxy[window.row, window.col]
        assert np.allclose(square, window.square, atol=1e-3)


def test_the_maxima_of_class_maps_are_the_scores():
    model, image = make_predictor(background=True), make_image(90, 245)
    config = PredictConfig(scales=LADDER)
    maps = model.map_classes(image, config)
    maxima = [each.probabilities.max(axis=(1, 2)) for each in maps]
    found = model.classify(image, config)
    assert np.allclose(by_class(found), np.mean(maxima, axis=0), atol=1e-6)


def test_a_class_map_is_zero_where_windows_see_only_padding():
    image = make_image(3, 461)
    (found,) = make_predictor().map_classes(image, PredictConfig(scales=(Canvas(461, 461),)))
    assert found.probabilities.shape == (3, 21, 21)
    is_zero = (found.probabilities == 0).all(axis=(0, 2))
    assert is_zero.tolist() == [True, *[False] * 19, True]
    assert (found.probabilities.sum(axis=0)[1:-1] > 0.99).all()


def test_class_maps_come_without_mirror_images():
    model, image = make_predictor(), make_image(245, 281)
    plain = model.map_classes(image, PredictConfig(scales=LADDER))
    asked = model.map_classes(image, PredictConfig(scales=LADDER, flips=True))
    assert len(asked) == len(plain) == 2
    assert np.array_equal(asked[0].probabilities, plain[0].probabilities)
    crops = model.map_classes(image, PredictConfig(views="ten-view"))
    assert [each.canvas for each in crops] == ["221x221"] * 5
    assert [each.probabilities.shape for each in crops] == [(3, 1, 1)] * 5
