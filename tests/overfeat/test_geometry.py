"""Map sizes, windows, receptive fields: the numbers of the paper's table 5 and the program's."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from overfeat.architectures import narrow
from overfeat.geometry import (
    CellField,
    map_size,
    pre_pool_size,
    receptive_field,
    window_boxes,
    window_stride,
)
from overfeat.network import OverFeat
from overfeat.zoo import ACCURATE, ALEXNET, ALEXNET_2012, ARCHITECTURES, FAST, TINY, VGG16
from tests.overfeat.builders import FEW, MANY, make_canvases, make_network
from tests.overfeat.reference_networks import REFERENCES, make_reference

# Table 5: input, map before the last pooling, pooled map and classifier's map of each offset,
# interleaved map; row 5 as kernels give it, where the paper prints 32x35, 10x11 and 6x7.
TABLE_5 = (
    ((245, 245), (17, 17), (5, 5), (1, 1), (3, 3)),
    ((281, 317), (20, 23), (6, 7), (2, 3), (6, 9)),
    ((317, 389), (23, 29), (7, 9), (3, 5), (9, 15)),
    ((389, 461), (29, 35), (9, 11), (5, 7), (15, 21)),
    ((425, 497), (32, 38), (10, 12), (6, 8), (18, 24)),
    ((461, 569), (35, 44), (11, 14), (7, 10), (21, 30)),
)
strides = st.sampled_from(["fine", "coarse"])
every_network = pytest.mark.parametrize("architecture", ARCHITECTURES.values(), ids=ARCHITECTURES)


def build_on_meta(architecture):
    with torch.device("meta"):
        return OverFeat(narrow(architecture, divisor=64), outputs=2)


def draw_on_meta(height, width):
    return torch.empty(1, 3, height, width, device="meta")


@pytest.mark.parametrize(("canvas", "pre_pool", "pooled", "coarse", "fine"), TABLE_5)
def test_the_maps_are_those_of_table_5(canvas, pre_pool, pooled, coarse, fine):
    assert tuple(pre_pool_size(ACCURATE, side) for side in canvas) == pre_pool
    assert tuple(map_size(ACCURATE, side, "coarse") for side in canvas) == coarse
    assert tuple(map_size(ACCURATE, side, "fine") for side in canvas) == fine
    network, canvases = build_on_meta(ACCURATE), draw_on_meta(*canvas)
    assert tuple(network.activations(canvases, layer="conv6").shape[-2:]) == pre_pool
    assert tuple(network.activations(canvases, layer="pool6").shape[-2:]) == pooled
    assert tuple(network(canvases, "coarse").logits.shape[-2:]) == coarse
    assert tuple(network(canvases, "fine").logits.shape[-2:]) == fine


def test_the_default_ladder_of_accurate_is_table_5():
    sizes = [(canvas.height, canvas.width) for canvas in ACCURATE.scales]
    assert sizes == [row[0] for row in TABLE_5]


@every_network
def test_the_offset_maps_are_equally_large_on_the_default_ladder(architecture):
    offsets = architecture.offset_pool.stride
    areas = [canvas.height * canvas.width for canvas in architecture.scales]
    assert areas == sorted(set(areas))
    for canvas in architecture.scales:
        for side in (canvas.height, canvas.width):
            coarse = map_size(architecture, side, "coarse")
            assert map_size(architecture, side, "fine") == offsets * coarse > 0
    # One step less and the last offset has no map of that size.
    side = architecture.scales[0].height - window_stride(architecture, "fine")
    coarse = map_size(architecture, side, "coarse")
    assert map_size(architecture, side, "fine") == offsets * coarse - 1


@pytest.mark.parametrize(
    ("architecture", "side", "cells"),
    [
        (FAST, 230, 0),
        (FAST, 231, 1),
        (FAST, 262, 1),
        (FAST, 263, 2),
        (FAST, 461, 8),
        (FAST, 569, 11),
        (ACCURATE, 220, 0),
        (ACCURATE, 221, 1),
        (ACCURATE, 256, 1),
        (ACCURATE, 257, 2),
        (ACCURATE, 461, 7),
        (ACCURATE, 569, 10),
    ],
)
def test_the_coarse_map_is_that_of_the_2014_program(architecture, side, cells):
    assert map_size(architecture, side, "coarse") == cells


@MANY
@given(st.integers(231, 3000))
def test_the_coarse_map_follows_the_2014_programs_formulas(side):
    assert map_size(FAST, side, "coarse") == ((side - 11) // 4 + 1) // 8 - 6
    assert map_size(ACCURATE, side, "coarse") == ((side - 7) // 2 + 1) // 18 - 5


@pytest.mark.parametrize(
    ("side", "cells"),
    [(221, 1), (245, 3), (281, 6), (317, 9), (389, 15), (425, 18), (461, 21), (497, 24), (569, 30)],
)
def test_the_fine_map_of_accurate_is_that_of_the_interleaved_offsets(side, cells):
    assert map_size(ACCURATE, side, "fine") == cells
    assert pre_pool_size(ACCURATE, side) - 14 == cells


@pytest.mark.parametrize(("side", "cells"), [(231, 12), (247, 13), (279, 15), (375, 21)])
def test_the_fine_map_of_fast_is_eleven_cells_below_its_top_map(side, cells):
    assert pre_pool_size(FAST, side) == cells
    assert map_size(FAST, side, "fine") == cells - 11


@pytest.mark.parametrize(
    ("architecture", "least"),
    [(FAST, 231), (ACCURATE, 221), (TINY, 221), (ALEXNET, 223), (ALEXNET_2012, 227), (VGG16, 224)],
)
def test_the_smallest_canvas_with_a_cell_is_the_window_but_for_one_pixel_of_alexnet(
    architecture, least
):
    """Of 224 pixels and 2 + 2 of padding, alexnet's 11 pixels every 4 leave the last one out."""
    for stride in ("fine", "coarse"):
        assert [
            map_size(architecture, least - 1, stride),
            map_size(architecture, least, stride),
        ] == [0, 1]
        assert map_size(architecture, architecture.window, stride) == 1


@every_network
@pytest.mark.parametrize("side", [0, 1, 5, 6, 7, 40])
def test_a_canvas_smaller_than_a_kernel_gives_no_cells(architecture, side):
    assert map_size(architecture, side, "fine") == 0
    assert map_size(architecture, side, "coarse") == 0


@MANY
@given(
    st.sampled_from(list(ARCHITECTURES.values())),
    st.integers(231, 420),
    st.integers(231, 420),
    strides,
)
def test_the_network_gives_a_map_of_the_computed_size(architecture, height, width, stride):
    logits = build_on_meta(architecture)(draw_on_meta(height, width), stride).logits
    expected = (map_size(architecture, height, stride), map_size(architecture, width, stride))
    assert tuple(logits.shape[-2:]) == expected


@FEW
@given(st.sampled_from(REFERENCES), st.integers(231, 420), st.integers(231, 420))
def test_the_trunk_gives_maps_of_the_references_sizes(name, height, width):
    architecture = ARCHITECTURES[name]
    with torch.device("meta"):
        *trunk, pool = make_reference(name, divisor=64).features
    top = torch.nn.Sequential(*trunk)(draw_on_meta(height, width))
    sizes = tuple(pre_pool_size(architecture, side) for side in (height, width))
    assert sizes == tuple(top.shape[-2:])
    head = architecture.hidden[0].kernel
    coarse = tuple(map_size(architecture, side, "coarse") for side in (height, width))
    assert coarse == tuple(side - head + 1 for side in pool(top).shape[-2:])


@pytest.mark.parametrize(
    ("architecture", "fine", "coarse"),
    [
        (FAST, 16, 32),
        (ACCURATE, 12, 36),
        (TINY, 12, 36),
        (ALEXNET, 16, 32),
        (ALEXNET_2012, 16, 32),
        (VGG16, 16, 32),
    ],
)
def test_neighbouring_windows_are_a_stride_apart(architecture, fine, coarse):
    assert window_stride(architecture, "fine") == fine
    assert window_stride(architecture, "coarse") == coarse


@pytest.mark.parametrize(
    ("architecture", "size", "start"),
    [
        (FAST, 327, -48),
        (ACCURATE, 317, -48),
        (TINY, 317, -48),
        (ALEXNET, 355, -66),
        (ALEXNET_2012, 355, -64),
        (VGG16, 404, -90),
    ],
)
def test_padding_widens_the_receptive_field_by_as_much_on_each_side(architecture, size, start):
    field = receptive_field(architecture)
    assert (field.size, field.start) == (size, start)
    reached = 223 if architecture is ALEXNET else architecture.window
    assert size == reached - 2 * start


@pytest.mark.parametrize(
    ("architecture", "fields"),
    [
        (
            ALEXNET_2012,
            {
                "conv1": (11, 4), "norm1": (11, 4), "pool1": (19, 8), "conv2": (51, 8),
                "pool2": (67, 16), "conv3": (99, 16), "conv4": (131, 16), "conv5": (163, 16),
                "pool5": (195, 32),
            },
        ),
        (
            VGG16,
            {
                "conv1_1": (3, 1), "conv1_2": (5, 1), "pool1": (6, 2), "conv2_2": (14, 2),
                "pool2": (16, 4), "conv3_3": (40, 4), "pool3": (44, 8), "conv4_3": (92, 8),
                "pool4": (100, 16), "conv5_3": (196, 16), "pool5": (212, 32),
            },
        ),
    ],
)  # fmt: skip
def test_the_fields_of_the_layers_are_the_known_ones(architecture, fields):
    for name, (size, step) in fields.items():
        field = receptive_field(architecture, name)
        assert (field.size, field.step) == (size, step), name


@every_network
def test_a_relu_sees_what_its_convolution_sees_and_standardize_one_pixel(architecture):
    assert receptive_field(architecture, "standardize") == CellField(size=1, start=0, step=1)
    for name in architecture.module_names():
        if name.endswith("_relu"):
            field = receptive_field(architecture, name)
            assert field == receptive_field(architecture, name.removesuffix("_relu"))


@every_network
def test_fine_stride_makes_fields_denser_from_the_last_pooling_on(architecture):
    names = architecture.module_names()
    pool = names.index(architecture.offset_pool.name)
    for number, name in enumerate(names):
        fine, coarse = (
            receptive_field(architecture, name, stride) for stride in ("fine", "coarse")
        )
        denser = architecture.offset_pool.stride if number >= pool else 1
        assert (fine.size, fine.start) == (coarse.size, coarse.start)
        assert fine.step * denser == coarse.step


def sample_modules(architecture):
    """Modules of every kind at several depths, from the last pooling on with both strides."""
    names = architecture.module_names()
    last_pad = [name for name in names if name.endswith("_pad")][-1]
    first, _, third, *_, top = (layer.name for layer in architecture.trunk)
    head = (architecture.offset_pool.name, architecture.hidden[0].name, architecture.output)
    yield from ((name, "coarse") for name in (first, third, last_pad, top))
    yield from ((name, stride) for name in head for stride in ("fine", "coarse"))


def make_averaging(architecture):
    """Every cell becomes a mean of all that it sees, so that no pixel's part is hidden."""
    network = OverFeat(narrow(architecture, divisor=10_000), outputs=1)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.fill_(1 / parameter[0].numel() if parameter.dim() > 1 else 0.0)
    return network


def find_moving(network, canvas, *, module, stride, cells):
    """First and last row and column of the pixels that move each of some cells."""
    canvas = canvas.requires_grad_()
    tapped = network(canvas, stride, tap=module).tapped
    for row, col in cells:
        (gradient,) = torch.autograd.grad(tapped[0, 0, row, col], canvas, retain_graph=True)
        moving = gradient[0].abs().sum(dim=0).nonzero()
        yield moving.min(dim=0).values.tolist(), moving.max(dim=0).values.tolist()


@pytest.mark.parametrize("name", REFERENCES)
def test_exactly_the_pixels_of_its_field_move_a_cell(name, monkeypatch):
    """Seen by gradients, where the poolings take means; in the canvas and at its border."""
    monkeypatch.setattr(F, "max_pool2d", F.avg_pool2d)
    architecture = ARCHITECTURES[name]
    network = make_averaging(architecture)
    for module, stride in sample_modules(architecture):
        field = receptive_field(architecture, module, stride)
        inside = math.ceil(-field.start / field.step)
        ends = (field.start + (inside + n) * field.step + field.size for n in (1, 0))
        canvas = torch.ones(1, 3, *(max(end + 5, architecture.window) for end in ends))
        # The zeros of a padding see nothing, wherever its cells are reckoned to be.
        border = inside if module.endswith("_pad") else 0
        cells = ((inside + 1, inside), (border, border))
        moving = find_moving(network, canvas, module=module, stride=stride, cells=cells)
        for cell, (low, high) in zip(cells, moving, strict=True):
            firsts = [field.start + n * field.step for n in cell]
            assert low == [max(0, first) for first in firsts], (module, stride, cell)
            assert high == [first + field.size - 1 for first in firsts], (module, stride, cell)


@every_network
@pytest.mark.parametrize("stride", ["fine", "coarse"])
def test_no_pixel_outside_the_field_moves_a_window(architecture, stride):
    row, col = 2, 1
    field = receptive_field(architecture, stride=stride)
    side = architecture.window + 3 * field.step
    network = make_network(narrow(architecture, divisor=24)).double()
    canvas = make_canvases(side, side)
    output = architecture.output
    moving = find_moving(network, canvas, module=output, stride=stride, cells=[(row, col)])
    ((low, high),) = moving
    for axis, cell in enumerate((row, col)):
        first = cell * field.step + field.start
        assert low[axis] >= max(0, first)
        assert high[axis] < first + field.size


def test_windows_start_flush_with_the_canvas_and_go_by_the_stride():
    windows = window_boxes(ACCURATE, 2, 3, "fine")
    assert windows.dtype == np.float32
    assert windows.tolist() == [
        [[0, 0, 221, 221], [12, 0, 233, 221], [24, 0, 245, 221]],
        [[0, 12, 221, 233], [12, 12, 233, 233], [24, 12, 245, 233]],
    ]


def test_the_fields_of_a_map_start_before_the_canvas_where_cells_see_padding():
    boxes = CellField(size=10, start=-3, step=4).boxes(1, 3)
    assert boxes.dtype == np.float32
    assert boxes.tolist() == [[[-3, -3, 7, 7], [1, -3, 11, 7], [5, -3, 15, 7]]]


@MANY
@given(st.sampled_from(list(ARCHITECTURES.values())), st.integers(221, 2000), strides)
def test_the_last_window_lies_inside_the_canvas_and_another_would_not(architecture, side, stride):
    cells = map_size(architecture, side, stride)
    spare = int(architecture is ALEXNET)  # see above: 223 pixels and all padding would do
    if not cells:
        assert side < architecture.window - spare
        return
    last_end = window_boxes(architecture, 1, cells, stride)[0, -1, 2] - spare
    assert last_end <= side < last_end + window_stride(architecture, stride)
