"""Frame and dots: where they stand, and when there are none."""

from __future__ import annotations

import numpy as np

from overfeat.draw.colors import DARK, WHITE
from overfeat.draw.heat_fields import spread_heat
from overfeat.draw.marks import draw_dots, mark
from tests.overfeat.draw.builders import make_cells, make_heat, make_photograph


def find(pixels, color):
    return (pixels == color).all(axis=2)


def draw_marks(heat, cells, height=200, width=200):
    pixels = make_photograph(height, width)
    mark(pixels, spread_heat("", heat, cells, (height, width), "smooth"))
    return pixels


def test_the_frame_is_the_hottest_window():
    cells = make_cells(4, 4, step=20, window=120)
    heat = make_heat(4, 4, r2c1=0.9, r0c0=0.1)
    frame = find(draw_marks(heat, cells), WHITE)
    assert frame[40, 20:140].all()
    assert frame[159, 20:140].all()
    assert frame[40:160, [20, 139]].all()
    assert not frame[:40].any()


def test_dots_are_the_centres_of_the_outermost_windows():
    pixels = draw_marks(make_heat(3, 4), make_cells(3, 4, step=20, window=121, left=5))
    x, y = [65, 85, 105, 125], [60, 80, 100]
    expected = [(60, c) for c in x] + [(80, 65), (80, 125)] + [(100, c) for c in x]
    assert [tuple(p) for p in np.argwhere(find(pixels, WHITE)).tolist()] == expected
    assert tuple(pixels[y[0] - 1, x[0] - 1]) == DARK


def test_without_heat_there_is_no_frame():
    pixels = draw_marks(make_heat(1, 1), make_cells(1, 1, window=199))
    assert find(pixels, WHITE).sum() == 1


def test_a_small_image_has_neither_frame_nor_dots():
    pixels = draw_marks(make_heat(1, 1, r0c0=1), make_cells(1, 1, window=200), 127)
    assert (pixels == 128).all()


def test_what_no_window_covers_is_hatched_in_a_small_image_too():
    pixels = draw_marks(make_heat(1, 1, r0c0=1), make_cells(1, 1, window=20), 30, 30)
    assert (pixels[:20, :20] == 128).all()
    assert (pixels[20:] != 128).any()
    assert (pixels[:, 20:] != 128).any()


def test_marks_grow_with_the_image():
    small, large = (
        find(draw_marks(make_heat(1, 1), make_cells(1, 1, window=side), side, side), WHITE).sum()
        for side in (200, 2000)
    )
    assert (small, large) == (1, 25)


def test_dots_beyond_the_image_are_not_drawn_at_its_edge():
    pixels = make_photograph(5, 5)
    draw_dots(pixels, np.array([[-0.5, 2], [2, 5.0], [-4, -4]]), 1)
    assert (pixels == 128).all()
    draw_dots(pixels, np.array([[0.0, 4.9]]), 1)
    assert np.argwhere(find(pixels, WHITE)).tolist() == [[4, 0]]
