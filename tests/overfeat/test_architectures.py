"""The networks by name: layers, shapes, parameters, and the module numbers of the 2014 program."""

from __future__ import annotations

import pytest
import torch

from overfeat.architectures import ConvLayer, NormLayer, narrow
from overfeat.network import OverFeat, count_parameters, initialize
from overfeat.zoo import (
    ACCURATE,
    ALEXNET,
    ALEXNET_2012,
    ARCHITECTURES,
    FAST,
    TINY,
    VGG16,
    get_architecture,
)
from tests.overfeat.builders import make_network, run_trunk

# Modules of the 2014 program on one window: number, name, channels, side.
FAST_MODULES = (
    (0, "standardize", 3, 231),
    (1, "conv1", 96, 56),
    (2, "conv1_relu", 96, 56),
    (3, "pool1", 96, 28),
    (4, "conv2", 256, 24),
    (5, "conv2_relu", 256, 24),
    (6, "pool2", 256, 12),
    (7, "conv3_pad", 256, 14),
    (8, "conv3", 512, 12),
    (9, "conv3_relu", 512, 12),
    (10, "conv4_pad", 512, 14),
    (11, "conv4", 1024, 12),
    (12, "conv4_relu", 1024, 12),
    (13, "conv5_pad", 1024, 14),
    (14, "conv5", 1024, 12),
    (15, "conv5_relu", 1024, 12),
    (16, "pool5", 1024, 6),
    (17, "fc6", 3072, 1),
    (18, "fc6_relu", 3072, 1),
    (19, "fc7", 4096, 1),
    (20, "fc7_relu", 4096, 1),
    (21, "fc8", 1000, 1),
)
ACCURATE_MODULES = (
    (0, "standardize", 3, 221),
    (1, "conv1", 96, 108),
    (2, "conv1_relu", 96, 108),
    (3, "pool1", 96, 36),
    (4, "conv2", 256, 30),
    (5, "conv2_relu", 256, 30),
    (6, "pool2", 256, 15),
    (7, "conv3_pad", 256, 17),
    (8, "conv3", 512, 15),
    (9, "conv3_relu", 512, 15),
    (10, "conv4_pad", 512, 17),
    (11, "conv4", 512, 15),
    (12, "conv4_relu", 512, 15),
    (13, "conv5_pad", 512, 17),
    (14, "conv5", 1024, 15),
    (15, "conv5_relu", 1024, 15),
    (16, "conv6_pad", 1024, 17),
    (17, "conv6", 1024, 15),
    (18, "conv6_relu", 1024, 15),
    (19, "pool6", 1024, 5),
    (20, "fc7", 4096, 1),
    (21, "fc7_relu", 4096, 1),
    (22, "fc8", 4096, 1),
    (23, "fc8_relu", 4096, 1),
    (24, "fc9", 1000, 1),
)
# Modules of the other networks on one window: name, channels, side; ReLUs and paddings left out.
ALEXNET_MAPS = (
    ("conv1", 64, 55),
    ("pool1", 64, 27),
    ("conv2", 192, 27),
    ("pool2", 192, 13),
    ("conv3", 384, 13),
    ("conv4", 256, 13),
    ("conv5", 256, 13),
    ("pool5", 256, 6),
    ("fc6", 4096, 1),
    ("fc7", 4096, 1),
    ("fc8", 1000, 1),
)
ALEXNET_2012_MAPS = (
    ("conv1", 96, 55),
    ("norm1", 96, 55),
    ("pool1", 96, 27),
    ("conv2", 256, 27),
    ("norm2", 256, 27),
    ("pool2", 256, 13),
    ("conv3", 384, 13),
    ("conv4", 384, 13),
    ("conv5", 256, 13),
    ("pool5", 256, 6),
    ("fc6", 4096, 1),
    ("fc7", 4096, 1),
    ("fc8", 1000, 1),
)
VGG16_MAPS = (
    ("conv1_1", 64, 224),
    ("conv1_2", 64, 224),
    ("pool1", 64, 112),
    ("conv2_1", 128, 112),
    ("conv2_2", 128, 112),
    ("pool2", 128, 56),
    ("conv3_1", 256, 56),
    ("conv3_2", 256, 56),
    ("conv3_3", 256, 56),
    ("pool3", 256, 28),
    ("conv4_1", 512, 28),
    ("conv4_2", 512, 28),
    ("conv4_3", 512, 28),
    ("pool4", 512, 14),
    ("conv5_1", 512, 14),
    ("conv5_2", 512, 14),
    ("conv5_3", 512, 14),
    ("pool5", 512, 7),
    ("fc6", 4096, 1),
    ("fc7", 4096, 1),
    ("fc8", 1000, 1),
)


def build_on_meta(architecture, **fields):
    with torch.device("meta"):
        return OverFeat(architecture, outputs=1000, **fields)


@pytest.mark.parametrize(
    ("architecture", "parameters"), [(FAST, 145_920_872), (ACCURATE, 144_656_488)]
)
def test_the_parameters_are_those_of_the_released_weight_files(architecture, parameters):
    assert count_parameters(build_on_meta(architecture)) == parameters


@pytest.mark.parametrize(
    ("architecture", "modules"), [(FAST, FAST_MODULES), (ACCURATE, ACCURATE_MODULES)]
)
def test_every_module_has_the_number_and_the_shape_of_the_2014_program(architecture, modules):
    assert architecture.module_names() == tuple(name for _, name, _, _ in modules)
    network = build_on_meta(architecture)
    window = torch.empty(1, 3, architecture.window, architecture.window, device="meta")
    for number, name, channels, side in modules:
        values = network.activations(window, layer=name)
        assert tuple(values.shape) == (1, channels, side, side), (number, name)


@pytest.mark.parametrize(
    ("architecture", "maps"),
    [(ALEXNET, ALEXNET_MAPS), (ALEXNET_2012, ALEXNET_2012_MAPS), (VGG16, VGG16_MAPS)],
)
def test_the_maps_on_one_window_are_those_of_the_papers(architecture, maps):
    own = [name for name in architecture.module_names() if name not in {"standardize"}]
    named = [name for name in own if not name.endswith(("_relu", "_pad"))]
    assert named == [name for name, _, _ in maps]
    network = build_on_meta(architecture)
    window = torch.empty(1, 3, architecture.window, architecture.window, device="meta")
    for name, channels, side in maps:
        values = network.activations(window, layer=name)
        assert tuple(values.shape) == (1, channels, side, side), name


@pytest.mark.parametrize(
    ("architecture", "megamacs"), [(FAST, 2801.4), (ACCURATE, 5355.4)], ids=["fast", "accurate"]
)
def test_the_multiplications_are_those_of_table_4_but_for_three_per_mille(architecture, megamacs):
    """The table says 2810 and 5369 million connections; nobody knows what it counts besides."""
    network = build_on_meta(architecture)
    window = torch.empty(1, 3, architecture.window, architecture.window, device="meta")
    macs = 0
    for name, conv in (*network.trunk.items(), *network.classifier.items()):
        rows, cols = network.activations(window, layer=name).shape[-2:]
        macs += conv.weight.numel() * rows * cols
    assert round(macs / 1e6, 1) == megamacs


@pytest.mark.parametrize(
    ("architecture", "count", "number"),
    [
        (FAST, 22, 19),
        (ACCURATE, 25, 22),
        (TINY, 25, 22),
        (ALEXNET, 24, 21),
        (ALEXNET_2012, 25, 22),
        (VGG16, 50, 47),
    ],
)
def test_the_default_features_are_the_last_hidden_layer_before_its_relu(
    architecture, count, number
):
    names = architecture.module_names()
    assert len(names) == count
    assert names[number] == architecture.default_feature_layer


@pytest.mark.parametrize(
    ("architecture", "channels", "kernel", "hidden"),
    [
        (FAST, 1024, 6, "box6"),
        (ACCURATE, 1024, 5, "box7"),
        (ALEXNET, 256, 6, "box6"),
        (ALEXNET_2012, 256, 6, "box6"),
        (VGG16, 512, 7, "box6"),
    ],
)
def test_the_regressor_has_the_hidden_layers_of_figure_8(architecture, channels, kernel, hidden):
    network = build_on_meta(architecture, regressor="single")
    shapes = [tuple(layer.weight.shape) for layer in network.regressor.values()]
    assert next(iter(network.regressor)) == hidden
    assert shapes == [(4096, channels, kernel, kernel), (1024, 4096, 1, 1), (4, 1024, 1, 1)]


def test_a_per_class_regressor_has_four_edges_for_every_output():
    network = build_on_meta(TINY, regressor="per-class")
    assert network.regressor["edges"].out_channels == 4000


def test_tiny_has_the_geometry_of_accurate():
    def geometry(architecture):
        chain = (*architecture.trunk, architecture.offset_pool, *architecture.hidden)
        return [
            (layer.name, layer.kernel, layer.stride, getattr(layer, "padding", None))
            for layer in chain
        ]

    assert geometry(TINY) == geometry(ACCURATE)
    assert (TINY.window, TINY.scales) == (ACCURATE.window, ACCURATE.scales)


def test_narrowing_divides_channels_and_keeps_at_least_four():
    thin = narrow(FAST, divisor=64)
    convolutions = [layer for layer in thin.trunk if isinstance(layer, ConvLayer)]
    assert [layer.channels for layer in convolutions] == [4, 4, 8, 16, 16]
    assert [layer.channels for layer in thin.hidden] == [48, 64]
    assert [layer.channels for layer in thin.regressor_hidden] == [64, 16]


@pytest.mark.parametrize("divisor", [1, 3, 10, 24, 37, 10_000])
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_network_can_be_built_at_every_width(name, divisor):
    """384 / 10 is even and 256 / 10 is not: two groups could not share the channels."""
    architecture = narrow(get_architecture(name), divisor=divisor)
    network = build_on_meta(architecture)
    window = torch.empty(1, 3, architecture.window, architecture.window, device="meta")
    assert tuple(network(window).logits.shape) == (1, 1000, 1, 1)


def test_narrowing_keeps_response_normalisation_and_poolings():
    def rest(architecture):
        return [layer for layer in architecture.trunk if not isinstance(layer, ConvLayer)]

    thin = narrow(ALEXNET_2012, divisor=8)
    assert rest(thin) == rest(ALEXNET_2012)
    assert sum(isinstance(layer, NormLayer) for layer in rest(thin)) == 2


@pytest.mark.parametrize("architecture", ARCHITECTURES.values(), ids=ARCHITECTURES)
def test_the_walk_names_each_layer_after_its_padding_and_before_its_relu(architecture):
    walked = list(architecture.walk())
    assert [name for name, _ in walked] == list(architecture.module_names())
    assert len(set(architecture.module_names())) == len(walked)
    for (before, _), (name, layer), (after, relu) in zip(
        walked, walked[1:], walked[2:], strict=False
    ):
        if not isinstance(layer, ConvLayer) or name != layer.name:
            continue
        assert (before == f"{name}_pad") == (layer.padding > 0)
        assert (after, relu) == (f"{name}_relu", None)


@pytest.mark.parametrize("architecture", ARCHITECTURES.values(), ids=ARCHITECTURES)
def test_a_module_is_found_by_name_and_by_number_and_the_default_without_either(architecture):
    for number, name in enumerate(architecture.module_names()):
        assert architecture.find_module(name) == architecture.find_module(number) == name
    assert architecture.find_module(None) == architecture.hidden[-1].name


@pytest.mark.parametrize("number", [-1, 22, 1000])
def test_a_number_beyond_the_modules_is_refused_with_the_range(number):
    with pytest.raises(ValueError, match=f"received {number}, expected a number from 0 to 21"):
        FAST.find_module(number)


@pytest.mark.parametrize("architecture", ARCHITECTURES.values(), ids=ARCHITECTURES)
def test_the_top_channels_are_those_of_the_map_before_the_last_pooling(architecture):
    network = build_on_meta(architecture)
    window = torch.empty(1, 3, architecture.window, architecture.window, device="meta")
    assert run_trunk(network, window).shape[1] == architecture.top_channels


def test_an_unknown_name_is_refused_with_the_known_ones():
    with pytest.raises(
        ValueError, match=r"'big'.*fast, accurate, tiny, alexnet, alexnet-2012, vgg16"
    ):
        get_architecture("big")


def test_an_unknown_layer_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match=r"'fc12'.*conv1.*fc9"):
        build_on_meta(TINY).activations(torch.empty(1, 3, 221, 221, device="meta"), layer="fc12")


def test_activations_are_copies_even_of_the_input():
    network = make_network(narrow(TINY, divisor=64))
    canvases = torch.zeros(1, 3, 221, 221)
    assert network.activations(canvases, layer="standardize").data_ptr() != canvases.data_ptr()


def test_a_seed_gives_the_same_weights_and_another_seed_others():
    networks = [OverFeat(narrow(TINY, divisor=8), outputs=3) for _ in range(3)]
    for network, seed in zip(networks, (7, 7, 8), strict=True):
        initialize(network, seed=seed)
    first, again, other = (network.trunk["conv4"].weight for network in networks)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_a_given_deviation_is_the_deviation_of_every_weight():
    network = OverFeat(TINY, outputs=3)
    initialize(network, seed=7, std=0.01)
    assert network.classifier["fc7"].weight.std().item() == pytest.approx(0.01, rel=0.02)
    assert network.trunk["conv3"].weight.std().item() == pytest.approx(0.01, rel=0.02)
    assert not network.classifier["fc7"].bias.any()
