"""Are a run's views and features known, and refused if they do not fit, without an image?"""

from __future__ import annotations

import re

import pytest
import torch

from overfeat.checkpoint import CheckpointConfig
from overfeat.member import plan_views
from overfeat.scales import Canvas
from pipelines.annotate.resolve import MAX_FEATURE_BYTES, resolve_model
from pipelines.errors import InputError
from pipelines.weights import CheckpointFiles, ModelFiles, fetch_model, open_predictor
from tests.builders import make_checkpoint, make_config, make_picture

FRAMES = [(231, 308), (308, 231)]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A committee of two with ladders of their own."""
    folder = tmp_path_factory.mktemp("checkpoints")
    return fetch_model(
        [
            make_checkpoint(folder / "one", seed=1),
            make_checkpoint(folder / "two", seed=2, scales=("245x281", "281x317")),
        ]
    )


@pytest.fixture(scope="module")
def one(files):
    """The first of them alone."""
    return ModelFiles(members=files.members[:1])


def resolve_features(files, **changes):
    return resolve_model(make_config("/r", "w", tasks=("features",), **changes), files).features


def refusal(files, **changes):
    with pytest.raises(InputError) as error:
        resolve_model(make_config("/r", "w", **changes), files)
    assert "\n" not in str(error.value)
    return str(error.value)


def describe_only(architecture, regressor="none"):
    """A model without its weights: as much as is known before a worker starts."""
    config = CheckpointConfig(architecture=architecture, classes=("ant",), regressor=regressor)
    return ModelFiles(members=(CheckpointFiles(config=config, digest="d", contents={}),))


def test_boxes_that_are_windows_are_called_so_once_for_all(caplog):
    """A committee's boxes are those of all its members."""
    blind, seeing = describe_only("tiny"), describe_only("tiny", regressor="single")
    mixed = ModelFiles(members=seeing.members + blind.members)
    resolve_model(make_config("/r", "seeing", "blind", tasks=("classify",)), mixed)
    resolve_model(make_config("/r", "seeing"), seeing)
    assert caplog.messages == []
    resolve_model(make_config("/r", "seeing", "blind"), mixed)
    (message,) = caplog.messages
    assert message.startswith("--weights blind: has no box regressor, so that its boxes are whole")


@pytest.mark.parametrize(
    "changes",
    [{}, {"flips": True}, {"scales": ("281x317", "245x245")}, {"views": "ten-view"}],
)
def test_the_views_are_those_that_the_networks_will_take(files, changes):
    config = make_config("/r", "a", "b", **changes)
    members = open_predictor(files, device="cpu", dtype="float32").members
    expected = tuple(plan_views(member.config, config.predict_config()) for member in members)
    assert resolve_model(config, files).plans == expected


def test_the_ladder_is_the_commands_or_else_each_checkpoints(files):
    plans = resolve_model(make_config("/r", "a", "b"), files).plans
    assert plans[0].scales == (Canvas(245, 245),)
    assert plans[1].scales == (Canvas(245, 281), Canvas(281, 317))
    asked = make_config("/r", "a", "b", scales=("281x317", "245x245"))
    for plan in resolve_model(asked, files).plans:
        assert plan.scales == (Canvas(281, 317), Canvas(245, 245))


def test_a_scale_without_room_for_a_window_is_refused(files):
    sentence = refusal(files, scales=("245x245", "100x300"))
    assert "--scales: received 100x300, expected at least 221x221" in sentence


@pytest.mark.parametrize(
    ("changes", "fitting"),
    [
        # Rows, columns and colours of the largest canvas, or of four times its square of a crop's.
        ({"scales": ("245x245", "1000x2000")}, 2**33 // (1000 * 2000 * 3)),
        ({"views": "ten-view"}, 2**33 // (256 * 1024 * 3)),
        ({"views": "original"}, 2**33 // (231 * 924 * 3)),
    ],
)
def test_slices_whose_pixels_the_engine_would_split_are_refused(one, changes, fitting):
    sentence = refusal(one, **changes, slice_size=fitting + 1)
    assert f"lower --slice-size to {fitting}" in sentence
    for allowed in ({"slice_size": fitting}, {"slice_size": fitting + 1, "limit": fitting}):
        assert resolve_model(make_config("/r", "w", **changes, **allowed), one)


def test_an_image_whose_pixels_alone_are_too_many_is_told_so(one):
    assert "choose smaller --scales" in refusal(one, scales=("60000x60000",), slice_size=1)


def test_features_are_resolved_only_if_they_are_asked_for(one):
    assert resolve_model(make_config("/r", "w"), one).features is None
    assert resolve_features(one).layer == "fc8"


@pytest.mark.parametrize(
    ("layer", "words"),
    [
        ("fc99", "--feature-layer: received 'fc99', expected one of standardize, conv1, "),
        ("99", "--feature-layer: received 99, expected a number from 0 to 24"),
        ("-1", "--feature-layer: received '-1', expected one of "),
    ],
)
def test_a_layer_that_is_not_there_is_refused_naming_those_that_are(one, layer, words):
    assert words in refusal(one, tasks=("features",), feature_layer=layer)


@pytest.mark.parametrize(
    ("layer", "stride", "pool"),
    [
        (None, "fine", "none"),
        (None, "fine", "mean"),
        ("0", "coarse", "none"),
        ("conv3_pad", "coarse", "none"),
        ("pool6", "fine", "none"),
        ("fc7_relu", "coarse", "max"),
    ],
)
def test_the_shape_of_features_is_known_without_an_image(one, layer, stride, pool):
    config = make_config(
        "/r", "w", tasks=("features",), feature_layer=layer, feature_pool=pool, stride=stride,
        scales=("222x296", "231x308"),
    )  # fmt: skip
    expected = resolve_model(config, one).features
    torch.set_num_threads(config.threads)
    model = open_predictor(one, device="cpu", dtype="float32")
    predict = config.predict_config()
    # As wide as the canvases, both ways round: no cell sees padding alone.
    pictures = [make_picture(1, height=height, width=width) for height, width in FRAMES]
    prepared = [model.prepare(picture, predict) for picture in pictures]
    for found in model.predict(prepared, predict, ("features",)):
        assert found.features.layer == expected.layer
        assert found.features.vectors.shape == (expected.vectors, expected.channels)
        assert found.features.vectors.nbytes == expected.image_bytes


def test_each_crop_has_its_features(one):
    for views, crops in (("ten-view", 5), ("centre-crop", 1), ("original", 1)):
        assert resolve_features(one, views=views).vectors == crops


@pytest.mark.parametrize(("architecture", "fitting"), [("accurate", 41), ("vgg16", 80)])
def test_dense_features_that_do_not_fit_are_refused_with_the_slices_that_do(architecture, fitting):
    files = describe_only(architecture)
    dense = {"tasks": ("features",), "feature_pool": "none"}
    sentence = refusal(files, **dense, slice_size=128)
    assert f"lower --slice-size to {fitting} or pool them" in sentence
    assert f"expected at most {MAX_FEATURE_BYTES:,}" in sentence
    assert resolve_features(files, feature_pool="none", slice_size=fitting)
    refusal(files, **dense, slice_size=fitting + 1)
    assert resolve_features(files, feature_pool="none", slice_size=128, limit=fitting)
    assert resolve_features(files, slice_size=128).image_bytes == 6 * 4096 * 4


def test_pooled_features_of_huge_slices_are_refused_too():
    sentence = refusal(describe_only("fast"), tasks=("features",), slice_size=20_000)
    (fitting,) = re.findall(r"lower --slice-size to (\d+)$", sentence)
    assert resolve_features(describe_only("fast"), slice_size=int(fitting))


def test_an_image_whose_features_alone_are_too_many_is_told_so(one):
    sentence = refusal(
        one,
        tasks=("features",),
        feature_pool="none",
        feature_layer="conv1",
        scales=("8000x8000",),
    )
    assert "choose other --scales or pool them" in sentence
