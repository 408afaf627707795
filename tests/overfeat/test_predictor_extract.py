"""Features: any layer by name or number, of the whole image as it is."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from overfeat.geometry import map_size
from overfeat.zoo import TINY
from tests.overfeat.builders import (
    describe,
    make_image,
    make_predictor,
)


def test_a_layer_by_name_is_the_layer_by_number(model):
    image = make_image(230, 257)
    for number, name in enumerate(TINY.module_names()):
        by_number, by_name = model.extract(image, layer=number), model.extract(image, layer=name)
        assert by_number.dtype == np.float32
        assert np.array_equal(by_number, by_name), name


def test_the_default_features_are_those_before_the_last_hidden_relu(model):
    image = make_image(230, 257)
    features = model.extract(image)
    assert features.shape == (16, 1, 2)
    assert np.array_equal(features, model.extract(image, layer=22))
    assert features.min() < 0


def test_a_name_with_relu_is_the_same_layer_after_its_relu(model):
    image = make_image(230, 257)
    before, after = model.extract(image, layer="fc7"), model.extract(image, layer="fc7_relu")
    assert before.min() < 0
    assert np.array_equal(after, np.maximum(before, 0))


def test_the_first_layer_is_the_normalised_image_itself(model):
    image = make_image(230, 257)
    expected = (image.transpose(2, 0, 1) - np.float32(118.380948)) / np.float32(61.896913)
    assert np.allclose(model.extract(image, layer="standardize"), expected, atol=1e-6)


def test_the_image_is_fed_whole_and_upright():
    """Portrait images too: no turning, no resizing, no cropping."""
    model = make_predictor()
    for size in ((400, 230), (230, 400), (300, 300)):
        image = make_image(*size)
        standardized = model.extract(image, layer=0)
        assert standardized.shape == (3, *size)
        logits = model.members[0].network(torch.from_numpy(standardized)[None], "coarse").logits[0]
        found = model.extract(image, layer="fc9")
        assert found.shape[1:] == tuple(map_size(TINY, side, "coarse") for side in size)
        assert np.allclose(found, logits.detach().numpy(), atol=1e-4)


def test_coarse_features_are_every_third_of_the_fine_ones(model):
    image = make_image(300, 400)
    fine, coarse = model.extract(image, stride="fine"), model.extract(image)
    assert fine.shape[1:] == (map_size(TINY, 300, "fine"), map_size(TINY, 400, "fine"))
    assert np.allclose(fine[:, ::3, ::3], coarse, atol=1e-4)


@pytest.mark.parametrize("size", [(220, 400), (400, 220), (5, 5)])
def test_an_image_without_room_for_a_window_has_no_features(model, size):
    with pytest.raises(ValueError, match="image: received") as error:
        model.extract(make_image(*size))
    message = describe(error)
    assert f"received {size[0]}x{size[1]} pixels" in message
    assert "at least 221x221" in message


@pytest.mark.parametrize("layer", [25, -1, 1000])
def test_a_layer_number_that_is_not_there_is_refused(model, layer):
    with pytest.raises(ValueError, match=f"layer: received {layer}, expected .* 0 to 24"):
        model.extract(make_image(230, 230), layer=layer)


def test_a_layer_name_that_is_not_there_is_refused(model):
    with pytest.raises(ValueError, match=r"layer: received 'fc77', expected one of .*fc8_relu"):
        model.extract(make_image(230, 230), layer="fc77")
