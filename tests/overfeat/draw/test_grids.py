"""Pictures in rows and columns."""

from __future__ import annotations

import numpy as np

from overfeat.draw.colors import DARK
from overfeat.draw.grids import stack, tile
from tests.overfeat.draw.builders import make_photograph


def test_pictures_stand_row_by_row_between_gaps():
    grid = tile([make_photograph(2, 3, level) for level in (100, 150, 200)], 2, 1)
    d, a, b, c = DARK[0], 100, 150, 200
    assert grid[..., 0].tolist() == [
        [d, d, d, d, d, d, d, d, d],
        [d, a, a, a, d, b, b, b, d],
        [d, a, a, a, d, b, b, b, d],
        [d, d, d, d, d, d, d, d, d],
        [d, c, c, c, d, d, d, d, d],
        [d, c, c, c, d, d, d, d, d],
        [d, d, d, d, d, d, d, d, d],
    ]


def test_a_stack_is_as_wide_as_the_widest():
    column = stack([make_photograph(1, 2, 100), make_photograph(2, 1, 200)])
    d = DARK[0]
    assert column[..., 1].tolist() == [[100, 100], [200, d], [200, d]]
    assert column.dtype == np.uint8
