"""Features in front of scikit-learn: its conventions, and the numbers behind them."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline

import overfeat
from overfeat import FeatureExtractor
from overfeat.scales import Canvas, place, render, shrink
from tests.overfeat.builders import make_image

IMAGES = [make_image(height, width, seed=height) for height, width in ((60, 90), (300, 240))]


def compute_literally(image, module, pool):
    """The demo network on the image in its smallest canvas, cell by cell, padding left out."""
    (member,) = overfeat.load("demo", device="cpu").members
    placement = place(Canvas(245, 245), height=image.shape[0], width=image.shape[1])
    # Larger images are shrunk in whole numbers from 0 to 255 first.
    pixels = torch.from_numpy(shrink(image, [placement])).permute(2, 0, 1)
    mean, std = (torch.full((3, 1, 1), value) for value in (118.380948, 61.896913))
    canvas = render(pixels, placement, mean=mean, std=std)
    with torch.no_grad():
        (values,) = member.network.activations(canvas[None], layer=module, stride="coarse")
    cells = values.flatten(1)
    return (cells.mean(dim=1) if pool == "mean" else cells.amax(dim=1)).numpy()


@pytest.mark.parametrize("pool", ["mean", "max"])
def test_a_row_is_the_pooled_layer_of_the_image_in_the_smallest_canvas(pool):
    extractor = FeatureExtractor("demo", layer="fc7", pool=pool, device="cpu")
    rows = extractor.fit_transform(IMAGES)
    assert rows.dtype == np.float32
    assert rows.shape == (2, 256)
    for row, image in zip(rows, IMAGES, strict=True):
        assert np.allclose(row, compute_literally(image, "fc7", pool), atol=1e-5)


def test_another_scale_gives_other_features():
    small, large = (
        FeatureExtractor("demo", scale=scale, device="cpu").fit_transform(IMAGES)
        for scale in (None, "281x317")
    )
    assert small.shape == large.shape
    assert not np.allclose(small, large, atol=1e-3)


def test_batches_do_not_show_in_the_rows():
    images = [make_image(100, 80 + index, seed=index) for index in range(5)]
    whole = FeatureExtractor("demo", device="cpu").fit_transform(images)
    pairs = FeatureExtractor("demo", batch_size=2, device="cpu").fit_transform(images)
    assert np.allclose(whole, pairs, atol=1e-5)


def test_an_array_of_equal_images_is_taken_like_a_list():
    batch = np.stack([make_image(80, 80, seed=seed) for seed in (1, 2)])
    extractor = FeatureExtractor("demo", device="cpu")
    assert np.array_equal(extractor.transform(batch), extractor.transform(list(batch)))


def test_no_images_give_no_rows_of_the_right_width():
    extractor = FeatureExtractor("demo", layer=22, device="cpu")
    assert extractor.transform([]).shape == (0, 128)
    assert list(extractor.get_feature_names_out()[:2]) == ["fc8_0", "fc8_1"]


def test_the_output_layer_has_a_column_for_each_class_and_the_background():
    assert FeatureExtractor("demo", layer="fc9", device="cpu").transform(IMAGES).shape == (2, 11)


def test_a_pipeline_learns_from_the_features_and_survives_a_pickle():
    images = [make_image(60, 60, seed=seed) // (1 if seed % 2 else 4) for seed in range(8)]
    labels = [seed % 2 for seed in range(8)]
    pipeline = make_pipeline(
        FeatureExtractor("demo", device="cpu"), LogisticRegression(max_iter=1000)
    )
    assert pipeline.fit(images, labels).score(images, labels) == 1
    again = pickle.loads(pickle.dumps(pipeline))
    assert again.predict(images).tolist() == labels
    assert list(pipeline[:-1].get_feature_names_out()[:1]) == ["fc8_0"]


def test_a_search_over_layers_goes_through():
    images = [make_image(60, 60, seed=seed) // (1 if seed % 2 else 4) for seed in range(4)]
    pipeline = make_pipeline(FeatureExtractor("demo", device="cpu"), LogisticRegression())
    grid = {"featureextractor__layer": ["conv6_relu", 22]}
    search = GridSearchCV(pipeline, grid, cv=2).fit(images, [0, 1, 0, 1])
    assert search.best_params_["featureextractor__layer"] in grid["featureextractor__layer"]


def test_a_clone_has_the_settings_and_not_the_model():
    extractor = FeatureExtractor("demo", layer="fc7", pool="max", batch_size=3, device="cpu").fit(
        []
    )
    copy = clone(extractor)
    assert copy.get_params() == extractor.get_params()
    assert copy is not extractor
    assert "fc7" in repr(copy)


def test_changed_settings_are_in_force():
    extractor = FeatureExtractor("demo", device="cpu").fit([])
    assert extractor.set_params(layer="fc7").transform(IMAGES).shape == (2, 256)


def test_a_pickle_does_not_carry_the_weights():
    assert len(pickle.dumps(FeatureExtractor("demo", device="cpu").fit([]))) < 1000


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"layer": "fc99"}, "layer: received 'fc99', expected one of standardize, "),
        ({"pool": "none"}, "pool: received 'none', expected mean or max"),
        ({"batch_size": 0}, "batch_size: received 0, expected at least 1"),
        ({"scale": "100x100"}, "scales: received 100x100, expected at least 221x221"),
    ],
)
def test_a_setting_that_cannot_be_is_refused_by_fit(settings, message, without_shape_checks):
    with pytest.raises(ValueError, match=message):
        FeatureExtractor("demo", device="cpu", **settings).fit(IMAGES)


def test_an_unknown_setting_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match=r"no setting 'layers', expected one of .*layer"):
        FeatureExtractor("demo").set_params(layers="fc7")
