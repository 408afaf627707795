"""Where a class is seen, as people look at it: places, sizes, legends, sheets, what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from overfeat.draw import draw_heat_map, draw_heat_maps
from overfeat.draw.colors import DARK
from overfeat.draw.heat_colors import tint
from tests.overfeat.draw.builders import (
    make_cells,
    make_heat,
    make_photograph,
    relative_luminance,
)

BIG = {"step": 12, "window": 221}


def find_colored(picture):
    return picture[..., 0] > picture[..., 2]


def heat_gained(picture, photograph):
    cold = relative_luminance(tint(photograph, np.zeros(photograph.shape[:2], np.float32)))
    return relative_luminance(picture) - cold


def find_dark_corner(picture):
    """Which corner of the picture has the legend's ground: bottom or top, left or right."""
    return [
        f"{y} {x}"
        for y, row in (("bottom", -1), ("top", 0))
        for x, col in (("left", 0), ("right", -1))
        if tuple(picture[row, col]) == DARK
    ]


@pytest.mark.parametrize("blend", ["smooth", "blocks"])
def test_a_hot_cell_off_the_centre_lights_up_where_its_window_has_its_centre(blend):
    photograph = make_photograph(110, 120)
    cells = make_cells(6, 7, window=130, left=-20.0, top=-30.0)
    picture = draw_heat_map(photograph, make_heat(6, 7, r1c4=1), cells, blend=blend, legend=False)
    gained = heat_gained(picture, photograph)
    y, x = np.mgrid[:110, :120] + 0.5
    assert (gained * y).sum() / gained.sum() == pytest.approx(-30 + 12 + 65, abs=0.1)
    assert (gained * x).sum() / gained.sum() == pytest.approx(-20 + 48 + 65, abs=0.1)
    # Half a step to each side in blocks, a whole one when blended.
    assert np.flatnonzero(gained.max(axis=0) > 1e-3).size == pytest.approx(
        {"smooth": 23, "blocks": 12}[blend], abs=1
    )


def test_a_cell_as_hot_as_the_full_scale_has_the_last_colour():
    photograph = make_photograph(40, 40)
    full, low = (
        draw_heat_map(
            photograph,
            make_heat(1, 1, r0c0=value),
            make_cells(1, 1, window=40),
            full_scale=scale,
            legend=False,
        )
        for value, scale in ((1, 1.0), (0.2, 0.2))
    )
    assert np.array_equal(full, low)
    assert np.array_equal(full[0, 0], tint(photograph, np.ones((40, 40), np.float32))[0, 0])


def test_heat_above_the_full_scale_does_not_leave_the_colours():
    photograph = make_photograph(40, 40)
    at, above = (
        draw_heat_map(
            photograph,
            make_heat(1, 1, r0c0=value),
            make_cells(1, 1, window=40),
            full_scale=0.1,
            legend=False,
        )
        for value in (0.1, 0.9)
    )
    assert np.array_equal(at, above)


def test_more_heat_is_nowhere_darker():
    photograph = np.random.default_rng(1).integers(0, 256, (50, 60, 3), dtype=np.uint8)
    luminance = [
        relative_luminance(
            draw_heat_map(
                photograph,
                make_heat(2, 2, r0c1=value, r1c0=0.3),
                make_cells(2, 2, step=20),
                legend=False,
            )
        )
        for value in (0.2, 0.4, 0.6, 0.8, 1)
    ]
    # Rounding to whole levels, where heat hardly differs.
    assert np.diff(luminance, axis=0).min() > -3e-3
    assert luminance[-1][10, 35] > 2 * luminance[0][10, 35]


def test_beyond_the_windows_there_is_no_colour_but_a_mark():
    picture = draw_heat_map(
        make_photograph(60, 100), make_heat(1, 1, r0c0=1), make_cells(1, 1, window=40), legend=False
    )
    assert find_colored(picture)[:40, :40].all()
    assert not find_colored(picture)[40:].any()
    assert not find_colored(picture)[:, 40:].any()
    assert len(np.unique(picture[40:])) > 1, "hatched"


def test_the_inputs_are_not_modified():
    photograph, heat, cells = make_photograph(60, 60), make_heat(2, 2, r0c0=1), make_cells(2, 2)
    copies = [array.copy() for array in (photograph, heat, cells)]
    for array in (photograph, heat, cells):
        array.flags.writeable = False
    draw_heat_map(photograph, heat, cells, label="cat")
    draw_heat_maps(photograph, [heat], [cells], ["a"])
    for array, copy in zip((photograph, heat, cells), copies, strict=True):
        assert np.array_equal(array, copy)


@pytest.mark.parametrize(
    ("hot", "corner"),
    [("r0c0", "bottom right"), ("r2c0", "top right"), ("r0c2", "bottom left")],
)
def test_the_legend_hides_as_little_heat_as_it_can(hot, corner):
    heat = np.full((3, 3), 0.5, dtype=np.float32)
    row, col = (
        {"bottom": 2, "top": 0}[corner.split()[0]],
        {"left": 0, "right": 2}[corner.split()[1]],
    )
    heat[row, col] = 0
    heat[int(hot[1]), int(hot[3])] = 1
    cells = make_cells(3, 3, step=200, window=200)
    picture = draw_heat_map(make_photograph(600, 600), heat, cells, label="cat")
    assert find_dark_corner(picture) == [corner]


def test_the_legend_names_the_label_and_the_largest_heat():
    arguments = (make_photograph(300, 300), make_heat(1, 1, r0c0=0.5), make_cells(1, 1, window=300))
    pictures = [draw_heat_map(*arguments, label=label) for label in ("cat", "dog", None)]
    hotter = draw_heat_map(
        arguments[0], make_heat(1, 1, r0c0=0.502), arguments[2], label="cat", full_scale=0.4
    )
    same = draw_heat_map(*arguments, label="cat", full_scale=0.4)
    assert len({picture.tobytes() for picture in pictures}) == 3
    assert np.array_equal(same, hotter), "both are 0.50"
    hottest = draw_heat_map(
        arguments[0], make_heat(1, 1, r0c0=0.6), arguments[2], label="cat", full_scale=0.4
    )
    assert not np.array_equal(same, hottest)


def test_an_image_too_small_for_a_legend_goes_without():
    arguments = (make_photograph(50, 50), make_heat(1, 1, r0c0=0.5), make_cells(1, 1, window=50))
    assert np.array_equal(
        draw_heat_map(*arguments, label="cat"), draw_heat_map(*arguments, legend=False)
    )


def test_the_legend_hides_at_most_a_quarter_of_the_image():
    for side in range(60, 400, 20):
        arguments = (make_photograph(side, side), make_heat(1, 1, r0c0=0.5))
        cells = make_cells(1, 1, window=side)
        changed = draw_heat_map(*arguments, cells, label="cat") != draw_heat_map(
            *arguments, cells, legend=False
        )
        assert changed.any(axis=2).mean() <= 0.25
    assert changed.any()


@settings(deadline=None, max_examples=40, derandomize=True)
@given(
    size=st.tuples(st.integers(1, 300), st.integers(1, 300)),
    grid=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    corner=st.tuples(st.floats(-300, 300), st.floats(-300, 300)),
    label=st.text(max_size=40),
    seed=st.integers(0, 99),
)
def test_any_image_and_any_label_keep_the_shape_and_are_deterministic(
    size, grid, corner, label, seed
):
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
    heat, cells = rng.random(grid), make_cells(*grid, left=corner[0], top=corner[1], **BIG)
    picture = draw_heat_map(image, heat, cells, label=label)
    assert picture.shape == image.shape
    assert picture.dtype == np.uint8
    assert np.array_equal(picture, draw_heat_map(image, heat, cells, label=label))


@pytest.mark.parametrize("size", [(1, 1), (1, 3000), (3000, 1), (100, 3000)])
def test_an_extreme_image_is_drawn(size):
    cells = make_cells(2, 2, step=size[1] / 4, window=size[1])
    picture = draw_heat_map(make_photograph(*size), make_heat(2, 2, r0c0=1), cells, label="cat")
    assert picture.shape == (*size, 3)
    assert find_colored(picture)[0, 0]
    sheet = draw_heat_maps(
        make_photograph(*size), [make_heat(2, 2, r0c0=1)] * 2, [cells] * 2, ["245x245", "b"]
    )
    assert sheet.shape[0] > size[0]
    assert sheet.shape[1] > 2 * size[1]


def test_a_sheet_holds_each_map_unchanged_in_order():
    photograph = make_photograph(150, 260)
    heats = [make_heat(1, 1, r0c0=0.2), make_heat(2, 3, r1c2=0.9), make_heat(1, 2, r0c0=0.6)]
    cells = [make_cells(*heat.shape, step=20, window=220) for heat in heats]
    sheet = draw_heat_maps(photograph, heats, cells, ["a", "b", "c"], columns=2)
    maps = [
        draw_heat_map(photograph, heat, windows, legend=False)
        for heat, windows in zip(heats, cells, strict=True)
    ]
    tops = [locate(sheet, map_) for map_ in maps]
    assert tops[0][0] == tops[1][0] < tops[2][0]
    assert tops[0][1] == tops[2][1] < tops[1][1]


def locate(sheet, piece):
    """The one place of a picture in a sheet."""
    rows, cols = piece.shape[:2]
    places = [
        (y, x)
        for y, x in np.argwhere((sheet[: 1 - rows, : 1 - cols] == piece[0, 0]).all(axis=2)).tolist()
        if np.array_equal(sheet[y : y + rows, x : x + cols], piece)
    ]
    assert len(places) == 1
    return places[0]


def test_by_default_all_maps_stand_in_one_row():
    photograph, heat, cells = make_photograph(90, 300), make_heat(1, 1), make_cells(1, 1)
    one, three = (
        draw_heat_maps(photograph, [heat] * n, [cells] * n, ["a"] * n).shape for n in (1, 3)
    )
    assert one[0] == three[0]
    assert three[1] > 2.9 * one[1]


def test_titles_and_the_label_are_written():
    photograph, heat, cells = make_photograph(90, 300), make_heat(1, 1), make_cells(1, 1)
    sheets = [
        draw_heat_maps(photograph, [heat], [cells], [title], label=label)
        for title, label in (("a", "x"), ("b", "x"), ("a", "y"))
    ]
    assert len({sheet.tobytes() for sheet in sheets}) == 3


def test_titles_and_labels_of_many_lines_are_written_on_one():
    photograph, heat, cells = make_photograph(90, 300), make_heat(1, 1), make_cells(1, 1)
    one, two = (
        draw_heat_maps(photograph, [heat], [cells], [f"a{gap}b"], label=f"x{gap}y")
        for gap in (" ", "\n")
    )
    assert np.array_equal(one, two)


def test_a_narrow_map_gets_room_for_its_title_but_not_for_a_novel():
    heat, cells = make_heat(1, 1), make_cells(1, 1)
    short, long = (
        draw_heat_maps(make_photograph(60, 5), [heat], [cells], [title]).shape[1]
        for title in ("245x245", "w" * 999)
    )
    assert 80 < short < long < 320


@pytest.mark.usefixtures("without_shape_checks")
@pytest.mark.parametrize(
    "image", [np.zeros((4, 5), np.uint8), np.zeros((4, 5, 3), np.float32), np.zeros((0, 5, 3))]
)
def test_what_is_no_image_is_refused_by_both(image):
    heat, cells = make_heat(1, 1), make_cells(1, 1)
    with pytest.raises(ValueError, match="draw_heat_map: image is"):
        draw_heat_map(image, heat, cells)
    with pytest.raises(ValueError, match="draw_heat_maps: image is"):
        draw_heat_maps(image, [heat], [cells], ["a"])


@pytest.mark.parametrize("full_scale", [0.0, -1.0, 1.1, 1e-9, float("nan")])
def test_a_full_scale_that_is_no_probability_is_refused(full_scale):
    with pytest.raises(ValueError, match="draw_heat_map: full_scale is"):
        draw_heat_map(
            make_photograph(9, 9), make_heat(1, 1), make_cells(1, 1), full_scale=full_scale
        )


def test_a_wrong_map_in_a_sheet_is_refused_with_its_number():
    heats = [make_heat(1, 1), make_heat(1, 1, r0c0=2)]
    with pytest.raises(ValueError, match=r"draw_heat_maps: map 1: heat of cell \(0, 0\) is 2"):
        draw_heat_maps(make_photograph(9, 9), heats, [make_cells(1, 1)] * 2, ["a", "b"])


@pytest.mark.parametrize(("n_cells", "n_titles"), [(2, 1), (1, 2)])
def test_a_sheet_needs_as_many_windows_and_titles_as_maps(n_cells, n_titles):
    with pytest.raises(ValueError, match=r"2 (cells_xyxy|titles) for 1 heats"):
        draw_heat_maps(
            make_photograph(9, 9), [make_heat(1, 1)], [make_cells(1, 1)] * n_cells, ["a"] * n_titles
        )


def test_a_sheet_without_a_map_or_a_column_is_refused():
    with pytest.raises(ValueError, match="need at least one map"):
        draw_heat_maps(make_photograph(9, 9), [], [], [])
    with pytest.raises(ValueError, match="columns is 0"):
        draw_heat_maps(
            make_photograph(9, 9), [make_heat(1, 1)], [make_cells(1, 1)], ["a"], columns=0
        )
