"""What one pass hands out: any module's output, the boxes, what the next scale hears."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from overfeat.architectures import ConvLayer, narrow
from overfeat.geometry import window_stride
from overfeat.network import PAPER_STD, OverFeat, initialize
from overfeat.zoo import ACCURATE, ALEXNET, ALEXNET_2012, FAST, TINY, VGG16
from tests.overfeat.builders import make_canvases, make_network, run_trunk

NETWORKS = {
    architecture.name: make_network(
        narrow(architecture, divisor=64), outputs=3, regressor="single", context=True
    ).eval()
    for architecture in (FAST, ACCURATE, ALEXNET, ALEXNET_2012, VGG16)
}
every_network = pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS)
both_strides = pytest.mark.parametrize("stride", ["fine", "coarse"])


def make_few_cells(network):
    """A canvas with one or two cells for every offset of the last pooling."""
    architecture = network.architecture
    offsets, step = architecture.offset_pool.stride, window_stride(architecture, "fine")
    sides = (architecture.window + more * step for more in (offsets - 1, offsets))
    return make_canvases(*sides, dtype=torch.float32)


def run(network, canvases, stride="fine", **fields):
    with torch.no_grad():
        return network(canvases, stride, **fields)


def run_up_to(network, canvases, layer, stride="coarse"):
    with torch.no_grad():
        return network.activations(canvases, layer=layer, stride=stride)


@every_network
@both_strides
def test_tapping_a_module_gives_its_activations_and_changes_nothing_else(network, stride):
    canvases = make_few_cells(network)
    plain = run(network, canvases, stride)
    assert plain.tapped is None
    names = network.architecture.module_names()
    last_pooling = names.index(network.architecture.offset_pool.name)
    # Before the last pooling the strides are one.
    for module in names[last_pooling if stride == "coarse" else 0 :]:
        values = run(network, canvases, stride, tap=module)
        assert torch.equal(values.tapped, run_up_to(network, canvases, module, stride)), module
        for name in ("logits", "codes", "context"):
            assert torch.equal(getattr(values, name), getattr(plain, name)), (module, name)


@every_network
def test_a_convolutions_name_means_before_its_relu_and_a_padding_has_zeros_around(network):
    canvases = make_few_cells(network)
    outputs = {
        name: run_up_to(network, canvases, name) for name in network.architecture.module_names()
    }
    before = "standardize"
    for name, layer in network.architecture.walk():
        if name.endswith("_relu"):
            convolved = outputs[name.removesuffix("_relu")]
            assert (convolved < 0).any(), name
            assert torch.equal(outputs[name], convolved.clamp(min=0)), name
        elif name.endswith("_pad"):
            assert isinstance(layer, ConvLayer)
            n = layer.padding
            assert torch.equal(outputs[name][..., n:-n, n:-n], outputs[before]), name
            assert outputs[name].abs().sum() == pytest.approx(outputs[before].abs().sum()), name
            assert outputs[name].shape[-1] == outputs[before].shape[-1] + 2 * n, name
            weight, bias = network.trunk[layer.name].weight, network.trunk[layer.name].bias
            unpadded = F.conv2d(outputs[name], weight, bias, layer.stride, groups=layer.groups)
            assert torch.allclose(outputs[layer.name], unpadded, atol=1e-5), name
        before = name
    assert torch.equal(outputs["standardize"], canvases)
    assert torch.equal(outputs[before], run(network, canvases, "coarse").logits)


def test_tapping_an_unknown_module_is_refused_with_the_known_ones():
    network = NETWORKS["fast"]
    with pytest.raises(ValueError, match=r"'pool6'.*conv1.*fc8"):
        run(network, make_few_cells(network), tap="pool6")


def test_a_tapped_input_is_a_copy():
    network = NETWORKS["fast"]
    canvases = make_few_cells(network)
    assert run(network, canvases, tap="standardize").tapped.data_ptr() != canvases.data_ptr()


def drop_context(network):
    """The same weights in a network that knows of no lower scale."""
    plain = OverFeat(network.architecture, outputs=3, regressor="single")
    weights = network.state_dict()
    dropped = {name: weights[name] for name in plain.state_dict()}
    assert set(weights) - set(dropped) == {
        f"context.{network.architecture.hidden[0].name}.{part}" for part in ("weight", "bias")
    }
    plain.load_state_dict(dropped)
    return plain.eval()


def slide_layer(network, pooled_from, layer):
    """One layer over the last pooling, offset by offset, before any ReLU."""
    pool = network.architecture.offset_pool
    side = pool.kernel + pool.stride * (layer.kernel_size[0] - 1) - 1
    rows, cols = (length - side for length in pooled_from.shape[-2:])
    values = torch.full((len(pooled_from), layer.out_channels, rows, cols), torch.nan)
    for dy in range(pool.stride):
        for dx in range(pool.stride):
            pooled = F.max_pool2d(pooled_from[..., dy:, dx:], pool.kernel, pool.stride)
            slid = F.conv2d(pooled, layer.weight, layer.bias)
            values[..., dy :: pool.stride, dx :: pool.stride] = slid
    return values


@every_network
@both_strides
def test_the_lowest_scale_is_evaluated_as_without_context(network, stride):
    canvases = make_few_cells(network)
    told, untold = run(network, canvases, stride), run(drop_context(network), canvases, stride)
    assert untold.context is None
    assert torch.equal(told.logits, untold.logits)
    assert torch.equal(told.codes, untold.codes)


@every_network
def test_context_is_added_to_the_first_hidden_layer_and_nowhere_else(network):
    canvases = make_few_cells(network)
    with torch.no_grad():
        top = run_trunk(network, canvases)
        (first, second, output) = network.classifier.values()
        hidden = slide_layer(network, top, first)
        context = 3 * torch.randn(hidden.shape, generator=torch.Generator().manual_seed(7))
        values = run(network, canvases, context=context)
        logits = output(F.relu(second(F.relu(hidden + context))))
        without = run(network, canvases)
    assert torch.allclose(values.logits, logits, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(values.logits, without.logits, rtol=0.1, atol=0.1)
    assert torch.equal(values.codes, without.codes)
    assert torch.equal(values.context, without.context)


@every_network
@both_strides
def test_what_the_next_scale_hears_is_a_layer_of_its_own_over_the_last_pooling(network, stride):
    canvases = make_few_cells(network)
    with torch.no_grad():
        (layer,) = network.context.values()
        heard = slide_layer(network, run_trunk(network, canvases), layer)
    if stride == "coarse":
        step = network.architecture.offset_pool.stride
        heard = heard[..., ::step, ::step]
    found = run(network, canvases, stride).context
    assert found.shape == heard.shape
    assert torch.allclose(found, heard, rtol=1e-4, atol=1e-4)


def test_without_a_regressor_there_are_no_boxes():
    network = make_network(narrow(TINY, divisor=64))
    values = run(network, make_canvases(221, 221, dtype=torch.float32))
    assert (values.codes, values.context, values.tapped) == (None, None, None)


def test_a_head_is_initialised_without_touching_the_trunk():
    """As the paper trains its regressor: on a trunk that another task has taught."""
    network = make_network(narrow(TINY, divisor=8), regressor="single")
    before = {name: value.clone() for name, value in network.state_dict().items()}
    initialize(network.regressor, seed=5, std=PAPER_STD)
    after = network.state_dict()
    changed = {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"regressor"}
    first = next(iter(network.regressor.values()))
    assert first.weight.std().item() == pytest.approx(0.01, rel=0.05)
    assert first.weight.mean().item() == pytest.approx(0, abs=5e-4)
    assert not any(layer.bias.any() for layer in network.regressor.values())


@pytest.mark.parametrize("std", [0.0, -0.01, math.nan, math.inf])
def test_a_deviation_that_is_no_number_above_zero_is_refused(std):
    network = OverFeat(narrow(TINY, divisor=64), outputs=3)
    with pytest.raises(ValueError, match=f"received {std}, expected a finite number above 0"):
        initialize(network, seed=1, std=std)
