"""Dense evaluation against the paper's own procedure, and against what one window sees alone."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from overfeat import dense
from overfeat.architectures import PoolLayer, narrow
from overfeat.geometry import map_size, receptive_field, window_stride
from overfeat.zoo import ACCURATE, ALEXNET, ALEXNET_2012, FAST, VGG16
from tests.overfeat.builders import FEW, MANY, make_canvases, make_network, run_trunk

NETWORKS = {
    architecture.name: make_network(narrow(architecture, divisor=64), regressor="single").double()
    for architecture in (FAST, ACCURATE, ALEXNET, ALEXNET_2012, VGG16)
}
names = st.sampled_from(sorted(NETWORKS))
sides = st.integers(231, 330)
# So bright that response normalisation is far from a division by a constant.
BRIGHTNESS = 300.0


def make_bright(height, width, **fields):
    return BRIGHTNESS * make_canvases(height, width, **fields)


def slide_over_every_offset(top, layers, pool):
    """Section 3.3 word for word: pool at every offset, slide the head, interleave."""
    window = layers[0].kernel_size[0]
    steps = pool.kernel + pool.stride * (window - 1)
    rows, cols = (side - steps + 1 for side in top.shape[-2:])
    result = torch.full((len(top), layers[-1].out_channels, rows, cols), torch.nan).to(top)
    for dy in range(pool.stride):
        for dx in range(pool.stride):
            shifted = top[..., dy:, dx:]
            if min(shifted.shape[-2:]) < steps:
                continue
            values = F.max_pool2d(shifted, pool.kernel, pool.stride)
            for layer in layers:
                values = F.conv2d(values, layer.weight, layer.bias)
                values = values if layer is layers[-1] else values.clamp(min=0)
            result[..., dy :: pool.stride, dx :: pool.stride] = values
    assert not result.isnan().any()
    return result


def slide_network(network, stack, canvases):
    layers = list(stack.values())
    return slide_over_every_offset(
        run_trunk(network, canvases), layers, network.architecture.offset_pool
    )


def relative_difference(values, reference):
    return ((values - reference).abs().max() / reference.abs().max()).item()


def remove_padding(network):
    unpadded = copy.deepcopy(network)
    for module in unpadded.modules():
        if isinstance(module, nn.Conv2d):
            module.padding = (0, 0)
    return unpadded


def make_head(channels, kernel, *, seed=5):
    generator = torch.Generator().manual_seed(seed)
    head = [nn.Conv2d(channels, 4, kernel), nn.Conv2d(4, 3, 1)]
    for parameter in (parameter for layer in head for parameter in layer.parameters()):
        parameter.data = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
    return head


def compare_with_the_loop(pool, kernel, height, width):
    generator = torch.Generator().manual_seed(6)
    top = torch.randn(1, 2, height, width, generator=generator, dtype=torch.float64)
    head = make_head(2, kernel)
    with torch.no_grad():
        literal = slide_over_every_offset(top, head, pool)
        for stride, expected in (
            ("fine", literal),
            ("coarse", literal[..., :: pool.stride, :: pool.stride]),
        ):
            pooled = dense.pool_top_map(top, pool=pool, stride=stride)
            values = dense.apply_head(pooled, head, pool=pool, stride=stride)
            assert values.shape == expected.shape
            assert relative_difference(values, expected) <= 1e-12


@pytest.mark.parametrize(
    ("architecture", "sizes"), [(ACCURATE, range(15, 45)), (FAST, (12, 13, 15, 17, 21))]
)
def test_the_closed_form_equals_the_loop_at_every_size_of_the_top_map(architecture, sizes):
    for side in sizes:
        compare_with_the_loop(
            architecture.offset_pool, architecture.hidden[0].kernel, side, sizes[0]
        )


@MANY
@given(st.data(), st.integers(1, 5), st.integers(1, 6))
def test_the_closed_form_equals_the_loop_for_any_pooling(data, kernel, head):
    """Poolings that overlap, that touch, and that leave gaps."""
    pool = PoolLayer(name="pool", kernel=kernel, stride=data.draw(st.integers(1, 6)))
    least = kernel + pool.stride * (head - 1)
    height, width = (data.draw(st.integers(least, least + 9)) for _ in "hw")
    compare_with_the_loop(pool, head, height, width)


@FEW
@given(names, sides, sides)
def test_fine_stride_equals_the_loop_over_offsets(name, height, width):
    network = NETWORKS[name]
    canvases = make_bright(height, width)
    with torch.no_grad():
        values = network(canvases, "fine")
        for found, stack in (
            (values.logits, network.classifier),
            (values.codes, network.regressor),
        ):
            literal = slide_network(network, stack, canvases)
            assert found.shape == literal.shape
            assert relative_difference(found, literal) <= 1e-12


@pytest.mark.parametrize(
    ("name", "side"),
    [("accurate", 221 + 12 * extra) for extra in (0, 1, 2, 5, 29)]
    + [("fast", 231 + 16 * extra) for extra in (0, 1, 3, 5, 9)]
    + [("alexnet", 224 + 16 * extra) for extra in (0, 1, 4)]
    + [("alexnet-2012", 227 + 16 * extra) for extra in (0, 1, 4)]
    + [("vgg16", 224 + 16 * extra) for extra in (0, 1, 4)],
)
def test_fine_stride_equals_the_loop_in_float32_at_every_kind_of_remainder(name, side):
    network = copy.deepcopy(NETWORKS[name]).float()
    canvases = make_bright(side, 231, dtype=torch.float32)
    with torch.no_grad():
        literal = slide_network(network, network.classifier, canvases)
        assert relative_difference(network(canvases, "fine").logits, literal) <= 1e-5


@FEW
@given(names, sides, sides)
def test_coarse_stride_is_every_strides_cell_of_the_fine_one(name, height, width):
    network = NETWORKS[name]
    step = network.architecture.offset_pool.stride
    canvases = make_bright(height, width)
    with torch.no_grad():
        fine, coarse = (network(canvases, stride)[:2] for stride in ("fine", "coarse"))
    for dense_map, sparse_map in zip(fine, coarse, strict=True):
        assert sparse_map.shape == dense_map[..., ::step, ::step].shape
        assert relative_difference(sparse_map, dense_map[..., ::step, ::step]) <= 1e-12


@settings(FEW, max_examples=15)
@given(st.data(), names, st.sampled_from(["fine", "coarse"]))
def test_an_interior_window_is_the_unpadded_network_on_its_receptive_field(data, name, stride):
    network = NETWORKS[name]
    field = receptive_field(network.architecture, stride=stride)
    first = math.ceil(-field.start / field.step)
    least = field.size + field.start + first * field.step
    height, width = (data.draw(st.integers(least, least + 40)) for _ in "hw")
    row, col = (
        data.draw(st.integers(first, (side - field.start - field.size) // field.step))
        for side in (height, width)
    )
    canvases = make_bright(height, width)
    y, x = (field.start + cell * field.step for cell in (row, col))
    crop = canvases[..., y : y + field.size, x : x + field.size]
    assert crop.shape[-2:] == (field.size, field.size)
    with torch.no_grad():
        whole, alone = network(canvases, stride), remove_padding(network)(crop, "coarse")
    for values, window in zip(whole[:2], alone[:2], strict=True):
        assert window.shape[-2:] == (1, 1)
        assert relative_difference(values[..., row, col], window[..., 0, 0]) <= 1e-12


@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_a_crop_of_the_nominal_window_has_its_own_padding_and_disagrees(name):
    """Zeros stand where the image goes on, at every padded convolution.

    Measured at full width with random weights, three windows of noise and of smooth noise, as part
    of the logits' norm: fast 0.29 to 0.31, accurate 0.27 to 0.28, alexnet 0.22 to 0.30,
    alexnet-2012 0.25 to 0.26, vgg16 0.30 to 0.35; the correlation of the 1000 logits is 0.94 to
    0.98, and the best class is the same one in 22 of 30 cases.
    """
    network = NETWORKS[name]
    window = network.architecture.window
    step = window_stride(network.architecture, "fine")
    side = window + 15 * step
    canvases = make_canvases(side, side)
    y, x = 7 * step, 8 * step
    crop = canvases[..., y : y + window, x : x + window]
    with torch.no_grad():
        whole = network(canvases, "fine").logits[..., 7, 8]
        alone = network(crop, "fine").logits[..., 0, 0]
    assert (whole - alone).norm() / whole.norm() > 0.1


@pytest.mark.parametrize("name", sorted(NETWORKS))
@pytest.mark.parametrize("stride", ["fine", "coarse"])
def test_running_module_by_module_gives_the_logits_of_one_pass(name, stride):
    network = NETWORKS[name]
    canvases = make_canvases(245, 250)
    with torch.no_grad():
        logits = network(canvases, stride).logits
        stepwise = network.activations(canvases, layer=network.architecture.output, stride=stride)
    assert torch.equal(stepwise, logits)


@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_every_hidden_module_knows_both_strides(name):
    network = NETWORKS[name]
    step = network.architecture.offset_pool.stride
    canvases = make_canvases(250, 270)
    first = network.architecture.hidden[0].name
    with torch.no_grad():
        fine = network.activations(canvases, layer=first, stride="fine")
        coarse = network.activations(canvases, layer=first, stride="coarse")
    assert fine.shape[-1] == map_size(network.architecture, 270, "fine")
    assert relative_difference(fine[..., ::step, ::step], coarse) <= 1e-12
