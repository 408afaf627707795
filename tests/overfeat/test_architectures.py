"""The networks of the paper's tables 1 and 3, and the module numbers of the 2014 program."""

from __future__ import annotations

import pytest
import torch

from overfeat.architectures import ACCURATE, FAST, TINY, ConvLayer, get_architecture, narrow
from overfeat.network import OverFeat, count_parameters, initialize
from tests.overfeat.builders import make_network

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
    ("architecture", "count", "number"), [(FAST, 22, 19), (ACCURATE, 25, 22), (TINY, 25, 22)]
)
def test_the_default_features_are_the_last_hidden_layer_before_its_relu(
    architecture, count, number
):
    names = architecture.module_names()
    assert len(names) == count
    assert names[number] == architecture.default_feature_layer


@pytest.mark.parametrize(
    ("architecture", "kernel", "hidden"), [(FAST, 6, "box6"), (ACCURATE, 5, "box7")]
)
def test_the_regressor_has_the_hidden_layers_of_figure_8(architecture, kernel, hidden):
    network = build_on_meta(architecture, regressor="single")
    shapes = [tuple(layer.weight.shape) for layer in network.regressor.values()]
    assert next(iter(network.regressor)) == hidden
    assert shapes == [(4096, 1024, kernel, kernel), (1024, 4096, 1, 1), (4, 1024, 1, 1)]


def test_a_per_class_regressor_has_four_edges_for_every_output():
    network = build_on_meta(TINY, regressor="per-class")
    assert network.regressor["edges"].out_channels == 4000


def test_tiny_has_the_geometry_of_accurate():
    def geometry(architecture):
        chain = (*architecture.trunk, architecture.offset_pool, *architecture.hidden)
        return [
            (layer.kernel, layer.stride, layer.padding)
            if isinstance(layer, ConvLayer)
            else (layer.kernel,)
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


def test_an_unknown_name_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match=r"'big'.*fast, accurate, tiny"):
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
