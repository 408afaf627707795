"""Map sizes, windows, receptive fields: the numbers of the paper's table 5 and the program's."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from overfeat.architectures import ACCURATE, FAST, TINY, narrow
from overfeat.geometry import (
    map_size,
    pre_pool_size,
    receptive_field,
    window_boxes,
    window_stride,
)
from overfeat.network import OverFeat
from tests.overfeat.builders import MANY, make_canvases, make_network

# Table 5: input, map before the last pooling, interleaved map; row 5 as kernels give it.
TABLE_5 = (
    ((245, 245), (17, 17), (3, 3)),
    ((281, 317), (20, 23), (6, 9)),
    ((317, 389), (23, 29), (9, 15)),
    ((389, 461), (29, 35), (15, 21)),
    ((425, 497), (32, 38), (18, 24)),
    ((461, 569), (35, 44), (21, 30)),
)


@pytest.mark.parametrize(("canvas", "pre_pool", "fine"), TABLE_5)
def test_the_maps_are_those_of_table_5(canvas, pre_pool, fine):
    assert tuple(pre_pool_size(ACCURATE, side) for side in canvas) == pre_pool
    assert tuple(map_size(ACCURATE, side, "fine") for side in canvas) == fine
    # Every offset gives a map of the same size, a third of the interleaved one.
    assert tuple(3 * map_size(ACCURATE, side, "coarse") for side in canvas) == fine


def test_the_default_ladder_of_accurate_is_table_5():
    sizes = [(canvas.height, canvas.width) for canvas in ACCURATE.scales]
    assert sizes == [canvas for canvas, _, _ in TABLE_5]


def test_the_offset_maps_of_fast_are_equally_large_on_its_default_ladder():
    for canvas in FAST.scales:
        for side in (canvas.height, canvas.width):
            assert map_size(FAST, side, "fine") == 2 * map_size(FAST, side, "coarse")


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


@pytest.mark.parametrize(
    ("side", "cells"),
    [(221, 1), (245, 3), (281, 6), (317, 9), (389, 15), (425, 18), (461, 21), (497, 24), (569, 30)],
)
def test_the_fine_map_of_accurate_is_that_of_the_interleaved_offsets(side, cells):
    assert map_size(ACCURATE, side, "fine") == cells


@pytest.mark.parametrize(("side", "cells"), [(231, 12), (247, 13), (279, 15), (375, 21)])
def test_the_fine_map_of_fast_is_eleven_cells_below_its_top_map(side, cells):
    assert pre_pool_size(FAST, side) == cells
    assert map_size(FAST, side, "fine") == cells - 11


@pytest.mark.parametrize("side", [0, 1, 5, 6, 7, 40])
def test_a_canvas_smaller_than_a_kernel_gives_no_cells(side):
    for architecture in (FAST, ACCURATE):
        assert map_size(architecture, side, "fine") == 0
        assert map_size(architecture, side, "coarse") == 0


@MANY
@given(
    st.sampled_from([FAST, ACCURATE]),
    st.integers(231, 420),
    st.integers(231, 420),
    st.sampled_from(["fine", "coarse"]),
)
def test_the_network_gives_a_map_of_the_computed_size(architecture, height, width, stride):
    with torch.device("meta"):
        network = OverFeat(narrow(architecture, divisor=32), outputs=2)
        logits, _ = network(torch.empty(1, 3, height, width), stride)
    expected = (map_size(architecture, height, stride), map_size(architecture, width, stride))
    assert tuple(logits.shape[-2:]) == expected


@pytest.mark.parametrize(
    ("architecture", "fine", "coarse"), [(FAST, 16, 32), (ACCURATE, 12, 36), (TINY, 12, 36)]
)
def test_neighbouring_windows_are_a_stride_apart(architecture, fine, coarse):
    assert window_stride(architecture, "fine") == fine
    assert window_stride(architecture, "coarse") == coarse


@pytest.mark.parametrize(("architecture", "side"), [(FAST, 327), (ACCURATE, 317), (TINY, 317)])
def test_padding_widens_the_receptive_field_by_48_pixels_on_each_side(architecture, side):
    size, start = receptive_field(architecture)
    assert (size, start) == (side, -48)
    assert size == architecture.window + 2 * 48


@pytest.mark.parametrize("architecture", [FAST, ACCURATE])
@pytest.mark.parametrize("stride", ["fine", "coarse"])
def test_only_the_pixels_of_the_receptive_field_move_a_cell(architecture, stride):
    side, row, col = 461, 2, 1
    network = make_network(narrow(architecture, divisor=32)).double()
    canvas = make_canvases(side, side).requires_grad_()
    network(canvas, stride).logits[0, 0, row, col].backward()
    moving = canvas.grad[0].abs().sum(dim=0).nonzero()
    size, start = receptive_field(architecture)
    step = window_stride(architecture, stride)
    low, high = moving.min(dim=0).values, moving.max(dim=0).values
    for axis, cell in enumerate((row, col)):
        first = cell * step + start
        assert low[axis] >= max(0, first)
        assert high[axis] < first + size


def test_windows_start_flush_with_the_canvas_and_go_by_the_stride():
    windows = window_boxes(ACCURATE, 2, 3, "fine")
    assert windows.dtype == np.float32
    assert windows.tolist() == [
        [[0, 0, 221, 221], [12, 0, 233, 221], [24, 0, 245, 221]],
        [[0, 12, 221, 233], [12, 12, 233, 233], [24, 12, 245, 233]],
    ]


@MANY
@given(
    st.sampled_from([FAST, ACCURATE]), st.integers(221, 2000), st.sampled_from(["fine", "coarse"])
)
def test_the_last_window_lies_inside_the_canvas_and_another_would_not(architecture, side, stride):
    cells = map_size(architecture, side, stride)
    if not cells:
        assert side < architecture.window
        return
    last_end = window_boxes(architecture, 1, cells, stride)[0, -1, 2]
    assert last_end <= side < last_end + window_stride(architecture, stride)
