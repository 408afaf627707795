"""Half precision and memory layouts: nearly the same numbers, on any device."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from overfeat import Canvas, FeatureConfig, GreedyMerge, LocalizeConfig, PredictConfig
from overfeat.checkpoint import Normalization
from overfeat.member import Member
from overfeat.predictor import Predictor
from overfeat.zoo import ALEXNET_2012, TINY
from tests.overfeat.builders import (
    ALWAYS,
    describe,
    make_config,
    make_image,
    make_member,
    make_network,
    make_predictor,
)

HALVES = ("bfloat16", "float16")
CONFIG = PredictConfig(scales=(Canvas(245, 245), Canvas(281, 317)), flips=True)
# In these images the best class leads by 0.04 or more.
IMAGES = [make_image(240, 200, seed=1), make_image(90, 120, seed=2), make_image(500, 320, seed=3)]
# On a CPU, probabilities here differ by up to 0.018 in bfloat16 and 0.001 in float16 (measured).
TOLERANCE = 2e-2


def by_class(classification):
    return classification.scores[np.argsort(classification.label_ids)]


def assert_nearly_equal(found, expected):
    assert found.scores.dtype == np.float32
    assert np.abs(by_class(found) - by_class(expected)).max() <= TOLERANCE
    assert found.labels[0] == expected.labels[0]


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("architecture", [TINY, ALEXNET_2012])
def test_half_precision_gives_nearly_the_same_classes(architecture, dtype):
    exact = make_predictor(architecture, background=True).classify(IMAGES, CONFIG)
    rough = make_predictor(architecture, background=True, dtype=dtype).classify(IMAGES, CONFIG)
    for found, expected in zip(rough, exact, strict=True):
        assert_nearly_equal(found, expected)
    assert not np.array_equal(rough[0].scores, exact[0].scores)


@pytest.mark.parametrize("dtype", HALVES)
def test_response_normalisation_survives_large_activations(dtype):
    """A network for pixels from -128 to 127 squares values of hundreds: too large for float16."""
    normalization = Normalization(mean=(118.0,) * 3, std=(1.0,) * 3)
    fields = {"normalization": normalization, "background": True}
    image = make_image(240, 300)
    exact = make_member(ALEXNET_2012, **fields)
    with torch.inference_mode():
        canvas = torch.tensor(image).permute(2, 0, 1)[None].float() - 118
        assert exact.network.activations(canvas, layer="conv1").abs().max() > 256
    rough = make_predictor(ALEXNET_2012, dtype=dtype, **fields)
    expected = Predictor([exact]).extract(image, layer="norm1")
    found = rough.extract(image, layer="norm1")
    assert np.isfinite(found).all()
    assert np.abs(found - expected).max() <= 0.02 * np.abs(expected).max()


@pytest.mark.parametrize("dtype", HALVES)
def test_half_precision_places_boxes_within_a_few_pixels(dtype):
    fields = {"background": True, "regressor": "single"}
    image = make_image(300, 400)
    localize = LocalizeConfig(merge=GreedyMerge(threshold=1e6))
    config = PredictConfig(
        scales=CONFIG.scales, score_threshold=1e-6, merge=ALWAYS, localize=localize
    )
    exact, rough = make_predictor(**fields), make_predictor(**fields, dtype=dtype)
    for expected, found in (
        (exact.detect(image, config), rough.detect(image, config)),
        (exact.localize(image, config), rough.localize(image, config)),
    ):
        assert found.boxes_xyxy.dtype == np.float32
        assert len(found) == len(expected) == 3
        boxes = [each.boxes_xyxy[np.argsort(each.label_ids)] for each in (found, expected)]
        assert np.abs(boxes[0] - boxes[1]).max() <= 2


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("pool", ["none", "mean"])
def test_half_precision_features_come_in_single_precision(dtype, pool):
    image = make_image(230, 300)
    exact, rough = make_predictor(), make_predictor(dtype=dtype)
    expected, found = (model.extract(image, pool=pool) for model in (exact, rough))
    assert found.dtype == np.float32
    assert np.abs(found - expected).max() <= 0.03 * np.abs(expected).max()
    config = PredictConfig(scales=CONFIG.scales, features=FeatureConfig(pool=pool))
    (told,) = rough.predict([rough.prepare(image, config)], config, ("features",))
    assert told.features.vectors.dtype == np.float32


@pytest.mark.parametrize("dtype", HALVES)
def test_context_is_told_in_half_precision_too(dtype):
    image = make_image(240, 200)
    expected = make_predictor(context=True).classify(image, CONFIG)
    assert_nearly_equal(make_predictor(context=True, dtype=dtype).classify(image, CONFIG), expected)


def test_half_precision_gives_class_maps_in_single_precision():
    maps = make_predictor(dtype="float16").map_classes(make_image(240, 200), CONFIG)
    assert [each.probabilities.dtype for each in maps] == [np.float32] * 2


@pytest.mark.parametrize("architecture", [TINY, ALEXNET_2012])
@pytest.mark.parametrize("stride", ["fine", "coarse"])
def test_channels_last_gives_what_contiguous_memory_gives(architecture, stride):
    member = make_member(architecture, regressor="single", context=True)
    plain = make_member(architecture, regressor="single", context=True).network
    plain = plain.to(memory_format=torch.contiguous_format)
    canvases = torch.randn(2, 3, 281, 317, generator=torch.Generator().manual_seed(1))
    last = canvases.contiguous(memory_format=torch.channels_last)
    assert last.stride() != canvases.stride()
    with torch.inference_mode():
        found, expected = member.network(last, stride), plain(canvases, stride)
    for name in ("logits", "codes", "context"):
        assert torch.allclose(getattr(found, name), getattr(expected, name), atol=1e-4), name


@pytest.mark.parametrize("dtype", ["float64", "int8", "half", ""])
@pytest.mark.usefixtures("without_shape_checks")
def test_a_number_format_that_is_not_there_is_refused(dtype):
    with pytest.raises(ValueError, match="expected one of float32, bfloat16, float16") as error:
        make_member(dtype=dtype)
    assert f"dtype: received {dtype!r}" in describe(error)


def place_on(device):
    config = make_config()
    return Member(config, make_network(TINY, outputs=3), device=device, dtype="float32")


def test_a_device_is_chosen_by_name():
    assert place_on("cpu").device == torch.device("cpu")
    assert place_on("cpu").network.trunk["conv1"].weight.device == torch.device("cpu")


def test_without_a_name_the_device_is_a_gpu_or_else_the_cpu():
    kind = "cuda" if torch.cuda.is_available() else "cpu"
    assert place_on(None).device.type == kind


@pytest.mark.parametrize("device", ["nonsense", "cuda:99", "cpu:1", "meta", "CPU"])
def test_a_device_that_is_not_there_is_refused(device):
    with pytest.raises(ValueError, match="expected one of cpu") as error:
        place_on(device)
    assert f"device: received {device!r}" in describe(error)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_where_there_is_none_is_refused():
    with pytest.raises(ValueError, match="device: received 'cuda', expected one of cpu") as error:
        place_on("cuda")
    describe(error)


@pytest.mark.parametrize("dtype", ["float32", *HALVES])
def test_the_network_gets_weights_and_canvases_channels_last(dtype, monkeypatch):
    model = make_predictor(dtype=dtype)
    (member,) = model.members
    seen = []
    forward = member.network.forward

    def look(canvases, *arguments, **options):
        seen.append(canvases.is_contiguous(memory_format=torch.channels_last))
        return forward(canvases, *arguments, **options)

    monkeypatch.setattr(member.network, "forward", look)
    model.classify(IMAGES, CONFIG)
    assert seen
    assert all(seen)
    kernels = [weight for weight in member.network.parameters() if weight.ndim == 4]
    assert all(kernel.is_contiguous(memory_format=torch.channels_last) for kernel in kernels)


@pytest.mark.parametrize("dtype", HALVES)
def test_the_softmax_is_taken_in_single_precision(dtype):
    member = make_member(dtype=dtype, classes=tuple("abcdefghij"))
    image = torch.from_numpy(IMAGES[0]).permute(2, 0, 1)
    config = PredictConfig(scales=(Canvas(245, 245),))
    with torch.inference_mode():
        ((view, result),) = member.evaluate([image], [IMAGES[0].shape[:2]], config, ("classify",))
        logits = member.network(member.draw([image], [view]), "fine").logits[0]
    expected = logits.float().softmax(dim=0).amax(dim=(1, 2))
    assert np.abs(result.class_maxima - expected.numpy()).max() <= 1e-6


def test_a_network_that_gives_no_numbers_is_told_of_instead_of_its_answers():
    model = make_predictor()
    with torch.no_grad():
        model.members[0].network.classifier["fc9"].bias[0] = torch.nan
    with pytest.raises(ArithmeticError, match=r"outputs are not finite in torch\.float32"):
        model.classify(IMAGES[0], CONFIG)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
@pytest.mark.parametrize("device", ["cuda", "cuda:0"])
@pytest.mark.parametrize("dtype", ["float32", *HALVES])
@pytest.mark.parametrize("architecture", [TINY, ALEXNET_2012])
def test_a_gpu_gives_nearly_what_the_processor_gives(device, dtype, architecture):
    fields = {"background": True, "regressor": "single", "context": True}
    on_gpu, on_cpu = (
        Predictor([make_member(architecture, device=where, dtype=kind, **fields)])
        for where, kind in ((device, dtype), ("cpu", "float32"))
    )
    found, expected = on_gpu.classify(IMAGES), on_cpu.classify(IMAGES)
    for one, other in zip(found, expected, strict=True):
        assert np.abs(by_class(one) - by_class(other)).max() <= TOLERANCE
    features = on_gpu.extract(IMAGES[2], pool="mean")
    reference = on_cpu.extract(IMAGES[2], pool="mean")
    assert np.linalg.norm(features - reference) <= 0.05 * np.linalg.norm(reference)
    if dtype == "float32":
        boxes, others = on_gpu.detect(IMAGES[2]), on_cpu.detect(IMAGES[2])
        assert abs(len(boxes) - len(others)) <= 0.05 * len(others) + 1
