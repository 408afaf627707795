"""Dense evaluation against the paper's own procedure, and against what one window sees alone."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from overfeat.architectures import ACCURATE, FAST, narrow
from overfeat.geometry import map_size, receptive_field, window_stride
from tests.overfeat.builders import FEW, make_canvases, make_network

NETWORKS = {
    architecture.name: make_network(narrow(architecture, divisor=32), regressor="single").double()
    for architecture in (FAST, ACCURATE)
}
names = st.sampled_from(sorted(NETWORKS))
sides = st.integers(231, 430)


def slide_over_every_offset(network, layers, canvases):
    """Section 3.3 word for word: pool at every offset, slide the head, interleave."""
    top = network.top_map(canvases)
    pool = network.architecture.offset_pool.kernel
    window = network.architecture.hidden[0].kernel
    rows, cols = (side - pool * window + 1 for side in top.shape[-2:])
    result = torch.full((len(top), layers[-1].out_channels, rows, cols), torch.nan).to(top)
    for dy in range(pool):
        for dx in range(pool):
            pooled = F.max_pool2d(top[..., dy:, dx:], pool)
            if min(pooled.shape[-2:]) < window:
                continue
            values = pooled
            for layer in layers:
                values = F.conv2d(values, layer.weight, layer.bias)
                values = values if layer is layers[-1] else values.clamp(min=0)
            result[..., dy::pool, dx::pool] = values
    return result


def relative_difference(values, reference):
    return ((values - reference).abs().max() / reference.abs().max()).item()


def remove_padding(network):
    unpadded = copy.deepcopy(network)
    for module in unpadded.modules():
        if isinstance(module, nn.Conv2d):
            module.padding = (0, 0)
    return unpadded


@FEW
@given(names, sides, sides)
def test_fine_stride_equals_the_loop_over_offsets(name, height, width):
    network = NETWORKS[name]
    canvases = make_canvases(height, width)
    with torch.no_grad():
        logits, edges = network(canvases, "fine")
        for values, stack in ((logits, network.classifier), (edges, network.regressor)):
            literal = slide_over_every_offset(network, list(stack.values()), canvases)
            assert values.shape == literal.shape
            assert relative_difference(values, literal) <= 1e-5


@pytest.mark.parametrize(
    ("name", "side"),
    [("accurate", 221 + 12 * extra) for extra in (0, 1, 2, 5, 29)]
    + [("fast", 231 + 16 * extra) for extra in (0, 1, 3, 5, 9)],
)
def test_fine_stride_equals_the_loop_in_float32_at_every_kind_of_remainder(name, side):
    network = copy.deepcopy(NETWORKS[name]).float()
    canvases = make_canvases(side, 231, dtype=torch.float32)
    with torch.no_grad():
        literal = slide_over_every_offset(network, list(network.classifier.values()), canvases)
        assert relative_difference(network(canvases, "fine").logits, literal) <= 1e-5


@FEW
@given(names, sides, sides)
def test_coarse_stride_is_every_pools_cell_of_the_fine_one(name, height, width):
    network = NETWORKS[name]
    pool = network.architecture.offset_pool.kernel
    canvases = make_canvases(height, width)
    with torch.no_grad():
        fine, coarse = (network(canvases, stride) for stride in ("fine", "coarse"))
    for dense, sparse in zip(fine, coarse, strict=True):
        assert sparse.shape == dense[..., ::pool, ::pool].shape
        assert relative_difference(sparse, dense[..., ::pool, ::pool]) <= 1e-12


@FEW
@given(st.data(), names, st.sampled_from(["fine", "coarse"]))
def test_an_interior_window_is_the_unpadded_network_on_its_receptive_field(data, name, stride):
    network = NETWORKS[name]
    size, start = receptive_field(network.architecture)
    step = window_stride(network.architecture, stride)
    first = math.ceil(-start / step)
    height, width = (data.draw(st.integers(size + first * step, 450)) for _ in "hw")
    row, col = (
        data.draw(st.integers(first, (side - start - size) // step)) for side in (height, width)
    )
    canvases = make_canvases(height, width)
    y, x = row * step + start, col * step + start
    crop = canvases[..., y : y + size, x : x + size]
    assert crop.shape[-2:] == (size, size)
    with torch.no_grad():
        dense, alone = network(canvases, stride), remove_padding(network)(crop, "coarse")
    for values, window in zip(dense, alone, strict=True):
        assert window.shape[-2:] == (1, 1)
        assert relative_difference(values[..., row, col], window[..., 0, 0]) <= 1e-5


@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_a_crop_of_the_nominal_window_has_its_own_padding_and_disagrees(name):
    """Measured: 0.22 (fast) and 0.29 (accurate) of the logits' norm, 0.29 at full width."""
    network = NETWORKS[name]
    window = network.architecture.window
    step = window_stride(network.architecture, "fine")
    canvases = make_canvases(461, 461)
    y, x = 5 * step, 6 * step
    crop = canvases[..., y : y + window, x : x + window]
    with torch.no_grad():
        dense = network(canvases, "fine").logits[..., 5, 6]
        alone = network(crop, "fine").logits[..., 0, 0]
    assert (dense - alone).norm() / dense.norm() > 0.05


@pytest.mark.parametrize("name", sorted(NETWORKS))
@pytest.mark.parametrize("stride", ["fine", "coarse"])
def test_running_module_by_module_gives_the_logits_of_one_pass(name, stride):
    network = NETWORKS[name]
    canvases = make_canvases(263, 250)
    with torch.no_grad():
        logits = network(canvases, stride).logits
        stepwise = network.activations(canvases, layer=network.architecture.output, stride=stride)
    assert relative_difference(stepwise, logits) <= 1e-12


@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_every_hidden_module_knows_both_strides(name):
    network = NETWORKS[name]
    pool = network.architecture.offset_pool.kernel
    canvases = make_canvases(300, 270)
    first = network.architecture.hidden[0].name
    with torch.no_grad():
        fine = network.activations(canvases, layer=first, stride="fine")
        coarse = network.activations(canvases, layer=first, stride="coarse")
    assert fine.shape[-1] == map_size(network.architecture, 270, "fine")
    assert relative_difference(fine[..., ::pool, ::pool], coarse) <= 1e-12
