"""From one number a window to one number a pixel: where it lands, and where there is none."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from overfeat.draw.heat_fields import spread_heat
from tests.overfeat.draw.builders import make_cells, make_heat


def spread(heat, cells, size, blend="smooth"):
    return spread_heat("place", heat, cells, size, blend)


def flip_axes(cells):
    return cells.transpose(1, 0, 2)[..., [1, 0, 3, 2]]


grids = st.fixed_dictionaries(
    {
        "rows": st.integers(1, 5),
        "cols": st.integers(1, 5),
        "step": st.integers(1, 20),
        "window": st.integers(1, 40),
        "left": st.integers(-30, 30),
        "top": st.integers(-30, 30),
    }
)


@pytest.mark.parametrize("blend", ["smooth", "blocks"])
def test_a_cells_heat_stands_at_the_centre_of_its_window(blend):
    # 29 pixels from 4 + 12 * col on: the middle one, number 18 + 12 * col, has its centre there.
    cells = make_cells(3, 4, window=29, left=4, top=7)
    heat = np.linspace(0.05, 0.95, 12, dtype=np.float32).reshape(3, 4)
    field = spread(heat, cells, (70, 80), blend).heat
    assert np.array_equal(field[21 : 21 + 36 : 12, 18 : 18 + 48 : 12], heat)


def test_halfway_between_centres_stands_the_mean():
    cells = make_cells(2, 2, step=12, window=29)
    field = spread(make_heat(2, 2, r0c0=0.8, r0c1=0.4), cells, (50, 50)).heat
    assert field[14, 20] == pytest.approx(0.6)
    assert field[20, 14] == pytest.approx(0.4)
    assert field[20, 20] == pytest.approx(0.3)


def test_in_blocks_a_pixel_takes_the_heat_of_the_nearest_centre():
    cells = make_cells(1, 3, step=10, window=20)
    field = spread(np.float32([[0.1, 0.5, 0.9]]), cells, (20, 40), "blocks").heat
    expected = np.float32([0.1] * 15 + [0.5] * 10 + [0.9] * 15)
    assert np.array_equal(field, np.tile(expected, (20, 1)))


def test_beyond_the_outermost_centres_stands_the_heat_of_the_nearest():
    cells = make_cells(2, 2, step=10, window=20)
    heat = np.float32([[0.1, 0.2], [0.3, 0.4]])
    field = spread(heat, cells, (30, 30)).heat
    assert np.array_equal(field[[0, 0, -1, -1], [0, -1, 0, -1]], heat.ravel())


def test_a_pixel_is_covered_where_its_centre_lies_in_a_window():
    field = spread(make_heat(1, 1, r0c0=0.9), np.float32([[[2.5, 1.4, 6.4, 3]]]), (5, 8))
    expected = np.zeros((5, 8), dtype=bool)
    expected[1:3, 2:6] = True
    assert np.array_equal(field.is_covered, expected)
    assert np.array_equal(field.heat > 0, expected)


def test_a_gap_between_windows_is_not_covered():
    field = spread(np.float32([[0.5, 0.5]]), make_cells(1, 2, step=10, window=4), (4, 14))
    assert np.flatnonzero(~field.is_covered[0]).tolist() == [4, 5, 6, 7, 8, 9]
    assert not field.heat[:, 4:10].any()


def test_windows_may_reach_beyond_the_image():
    cells = make_cells(3, 3, step=10, window=100, left=-60, top=-60)
    field = spread(make_heat(3, 3, r2c2=1), cells, (20, 20))
    assert field.is_covered.all()
    # The last centre is at -60 + 20 + 50 = 10, between the pixels 9 and 10.
    assert field.heat[10:, 10:].min() == 1
    assert field.heat[0, 0] < 0.1


def test_the_hottest_cell_names_its_window_and_of_equal_ones_the_first():
    cells = make_cells(2, 3, left=-5)
    field = spread(make_heat(2, 3, r0c2=0.7, r1c1=0.7), cells, (9, 9))
    assert field.peak == np.float32(0.7)
    assert field.peak_window.tolist() == [19, 0, 49, 30]


@settings(deadline=None, max_examples=50, derandomize=True)
@given(grid=grids, seed=st.integers(0, 99), blend=st.sampled_from(["smooth", "blocks"]))
def test_heat_stays_between_the_coolest_and_the_hottest_cell(grid, seed, blend):
    cells = make_cells(**grid)
    heat = np.random.default_rng(seed).random(cells.shape[:2], dtype=np.float32)
    field = spread(heat, cells, (25, 31), blend)
    shown = field.heat[field.is_covered]
    assert (shown >= heat.min() - 1e-6).all()
    assert (shown <= heat.max() + 1e-6).all()
    assert not field.heat[~field.is_covered].any()


@settings(deadline=None, max_examples=50, derandomize=True)
@given(grid=grids, value=st.floats(0, 1, width=32))
def test_equal_cells_give_equal_pixels(grid, value):
    cells = make_cells(**grid)
    field = spread(np.full(cells.shape[:2], value, dtype=np.float32), cells, (25, 31))
    assert (field.heat[field.is_covered] == np.float32(value)).all()


@settings(deadline=None, max_examples=50, derandomize=True)
@given(grid=grids, seed=st.integers(0, 99), blend=st.sampled_from(["smooth", "blocks"]))
def test_rows_and_columns_are_treated_alike(grid, seed, blend):
    cells = make_cells(**grid)
    heat = np.random.default_rng(seed).random(cells.shape[:2], dtype=np.float32)
    field = spread(heat, cells, (25, 31), blend)
    flipped = spread(heat.T, flip_axes(cells), (31, 25), blend)
    assert np.allclose(field.heat.T, flipped.heat, atol=1e-6)
    assert np.array_equal(field.is_covered.T, flipped.is_covered)


def test_more_heat_in_a_cell_is_nowhere_less_heat():
    cells = make_cells(3, 3)
    cool, hot = (spread(make_heat(3, 3, r1c2=p, r0c0=0.5), cells, (60, 60)).heat for p in (0.3, 1))
    assert (hot >= cool).all()
    assert (hot > cool).any()


def test_the_rounding_of_float32_probabilities_is_accepted():
    heat = np.float32([[1.000001, -1e-6]])
    field = spread(heat, make_cells(1, 2), (30, 42))
    assert field.heat.max() == 1
    assert field.heat.min() == 0


@pytest.mark.parametrize("value", [1.5, -0.1, np.nan, np.inf])
def test_what_is_no_probability_is_refused_with_its_cell(value):
    with pytest.raises(ValueError, match=r"place: heat of cell \(1, 2\) is .*a probability"):
        spread(make_heat(2, 3, r1c2=value), make_cells(2, 3), (9, 9))


@pytest.mark.parametrize(
    ("heat", "cells"),
    [
        (np.zeros((2, 3), np.float32), make_cells(3, 2)),
        (np.zeros((2, 3), np.float32), make_cells(2, 3)[..., :2]),
        (np.zeros(3, np.float32), make_cells(1, 3)[0]),
        (np.zeros((0, 3), np.float32), make_cells(1, 3)[:0]),
    ],
)
def test_shapes_that_do_not_fit_are_refused_with_both(heat, cells):
    with pytest.raises(ValueError, match=r"heat has the shape .* and cells_xyxy .*at least one"):
        spread(heat, cells, (9, 9))


@pytest.mark.parametrize("corners", [(12, 0, 12, 30), (12, 30, 42, 0), (12, 0, np.nan, 30)])
def test_a_window_without_area_is_refused_with_its_cell(corners):
    cells = make_cells(2, 2)
    cells[0, 1] = corners
    with pytest.raises(ValueError, match=r"window of cell \(0, 1\) is .*x_min < x_max"):
        spread(make_heat(2, 2), cells, (9, 9))


@pytest.mark.parametrize("corner", [0, 1, 2, 3])
def test_windows_that_are_no_grid_are_refused_with_what_was_expected(corner):
    cells = make_cells(2, 3)
    cells[1, 2, corner] += 1
    with pytest.raises(ValueError, match=r"window of cell \(1, 2\) .*\[24.0, 12.0, 54.0, 42.0\]"):
        spread(make_heat(2, 3), cells, (9, 9))


def test_the_rounding_of_float32_corners_is_accepted():
    cells = make_cells(2, 3, left=50_000)
    cells[1, 2] = np.nextafter(cells[1, 2], np.float32(np.inf))
    assert spread(make_heat(2, 3, r1c1=1), cells, (9, 9)).peak == 1


@pytest.mark.parametrize(("turn", "axis"), [((1, -1), "x"), ((-1, 1), "y")])
def test_a_flipped_grid_is_refused(turn, axis):
    cells = make_cells(2, 3)[:: turn[0], :: turn[1]]
    with pytest.raises(ValueError, match=rf"centres have {axis} .*expected them to grow"):
        spread(make_heat(2, 3), cells, (9, 9))


@pytest.mark.usefixtures("without_shape_checks")
def test_an_unknown_blend_is_refused():
    with pytest.raises(ValueError, match="blend is 'cubic', expected one of"):
        spread(make_heat(2, 3), make_cells(2, 3), (9, 9), "cubic")
