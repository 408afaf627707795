"""Filters as pictures: what a pixel says about a weight, and where each filter stands."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from overfeat.draw import draw_filters
from overfeat.draw.colors import DARK


def make_weights(count, kernel=3, seed=0):
    return np.random.default_rng(seed).normal(size=(count, 3, kernel, kernel)).astype(np.float32)


def read_filters(picture, count, columns, kernel, zoom):
    """Back from the picture to (count, kernel, kernel, 3) levels, one of each block of pixels."""
    step = kernel * zoom + 1
    corners = [divmod(index, columns) for index in range(count)]
    tiles = [
        picture[row * step + 1 : (row + 1) * step, col * step + 1 : (col + 1) * step]
        for row, col in corners
    ]
    return np.array(tiles)[:, ::zoom, ::zoom]


def test_a_worked_filter():
    weights = np.zeros((1, 3, 1, 2), dtype=np.float32)
    weights[0, :, 0, 0] = [2, -1, 0]
    weights[0, :, 0, 1] = [-2, 0.5, 1]
    picture = draw_filters(weights, zoom=1)
    assert picture.shape == (3, 4, 3)
    assert picture[1, 1].tolist() == [255, 64, 128]
    assert picture[1, 2].tolist() == [1, 160, 192]
    assert (picture[[0, 2]] == DARK).all()
    assert (picture[:, [0, 3]] == DARK).all()


@settings(deadline=None, max_examples=40, derandomize=True)
@given(
    count=st.integers(1, 9),
    kernel=st.integers(1, 5),
    columns=st.integers(1, 10),
    zoom=st.integers(1, 4),
    seed=st.integers(0, 99),
)
def test_the_weights_can_be_read_back_up_to_each_filters_scale(count, kernel, columns, zoom, seed):
    weights = make_weights(count, kernel, seed)
    picture = draw_filters(weights, columns=columns, zoom=zoom)
    levels = read_filters(picture, count, columns, kernel, zoom).transpose(0, 3, 1, 2)
    largest = np.abs(weights).max(axis=(1, 2, 3), keepdims=True)
    assert np.abs((levels - 128.0) / 127 * largest - weights).max() <= largest.max() * 0.51 / 127


def test_each_filter_is_scaled_on_its_own_and_uses_the_whole_range():
    weights = make_weights(4)
    weights[2] *= 1000
    weights[3] *= 1e-30
    levels = read_filters(draw_filters(weights, columns=2, zoom=2), 4, 2, 3, 2).astype(int)
    assert (np.abs(levels - 128).max(axis=(1, 2, 3)) == 127).all()


def test_a_weight_of_zero_is_mid_grey_even_among_positive_ones():
    weights = np.abs(make_weights(1))
    weights[0, :, 1, 1] = 0
    levels = read_filters(draw_filters(weights, zoom=1), 1, 1, 3, 1)
    assert levels[0, 1, 1].tolist() == [128, 128, 128]
    assert levels.min() == 128


def test_a_filter_without_weights_is_mid_grey():
    levels = read_filters(draw_filters(np.zeros((1, 3, 2, 2), np.float32)), 1, 1, 2, 6)
    assert (levels == 128).all()


@settings(deadline=None, max_examples=30, derandomize=True)
@given(seed=st.integers(0, 99))
def test_the_opposite_filter_has_the_opposite_colours(seed):
    weights = make_weights(2, seed=seed)
    pictures = [read_filters(draw_filters(w), 2, 2, 3, 6) for w in (weights, -weights)]
    assert np.array_equal(pictures[0].astype(int) - 128, 128 - pictures[1].astype(int))


def test_a_pixel_for_each_weight_and_zoom_makes_squares_of_it():
    weights = make_weights(6)
    small, large = (draw_filters(weights, columns=3, zoom=zoom) for zoom in (1, 5))
    assert small.shape == (2 * 4 + 1, 3 * 4 + 1, 3)
    assert large.shape == (2 * 16 + 1, 3 * 16 + 1, 3)
    assert np.array_equal(read_filters(large, 6, 3, 3, 5), read_filters(small, 6, 3, 3, 1))
    assert np.array_equal(large[1:6, 1:6], np.broadcast_to(large[1, 1], (5, 5, 3)))


@pytest.mark.parametrize(
    ("count", "rows", "columns"), [(96, 8, 12), (24, 4, 6), (1, 1, 1), (7, 3, 3), (2, 1, 2)]
)
def test_the_grid_is_about_square_and_full_where_it_can_be(count, rows, columns):
    shape = draw_filters(make_weights(count, 1), zoom=1).shape
    assert shape == (2 * rows + 1, 2 * columns + 1, 3)


def test_filters_need_not_be_square():
    weights = np.random.default_rng(0).normal(size=(2, 3, 2, 5)).astype(np.float32)
    assert draw_filters(weights, columns=1, zoom=1).shape == (7, 7, 3)


def test_the_weights_are_not_modified_and_the_picture_is_the_same_again():
    weights = make_weights(5)
    copy = weights.copy()
    weights.flags.writeable = False
    assert np.array_equal(draw_filters(weights), draw_filters(weights))
    assert np.array_equal(weights, copy)


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_other_floats_give_the_same_picture(dtype):
    weights = make_weights(4).astype(np.float16)
    assert np.array_equal(draw_filters(weights.astype(dtype)), draw_filters(np.float32(weights)))


@pytest.mark.parametrize("shape", [(8, 24, 3, 3), (8, 1, 3, 3), (8, 3, 3), (0, 3, 3, 3)])
@pytest.mark.usefixtures("without_shape_checks")
def test_what_is_no_first_layer_is_refused_with_its_shape(shape):
    with pytest.raises(ValueError, match=r"draw_filters: weights have the shape .*pass the first"):
        draw_filters(np.zeros(shape, np.float32))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_weight_that_is_not_finite_is_refused_with_its_filter(value):
    weights = make_weights(3)
    weights[1, 2, 0, 0] = value
    with pytest.raises(ValueError, match="filter 1 has a weight that is not finite"):
        draw_filters(weights)


@pytest.mark.parametrize("name", ["columns", "zoom"])
def test_a_grid_without_a_column_or_a_pixel_is_refused(name):
    with pytest.raises(ValueError, match=f"draw_filters: {name} is 0, need at least 1"):
        draw_filters(make_weights(1), **{name: 0})
