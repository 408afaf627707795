"""What the legend says, and when it is left out."""

from __future__ import annotations

import numpy as np
import pytest

from overfeat.draw.heat_colors import tint
from overfeat.draw.heat_fields import spread_heat
from overfeat.draw.legends import draw_legend, without_marks, write_legend, write_peak
from overfeat.draw.text import load_font_for
from tests.overfeat.draw.builders import make_cells, make_photograph


def make_field(peak=0.5, side=200, window=200):
    heat = np.array([[peak]], dtype=np.float32)
    return spread_heat("", heat, make_cells(1, 1, window=window), (side, side), "smooth")


def draw(legend, max_width=1000):
    return draw_legend(legend, load_font_for(200), max_width=max_width)


@pytest.mark.parametrize(
    ("peak", "text"), [(0.934, "0.93"), (1, "1.00"), (0, "0.00"), (0.0042, "0.0042")]
)
def test_the_largest_heat_is_written_with_the_digits_that_count(peak, text):
    assert write_peak(make_field(peak), "cat") == f", max {text}"
    assert write_peak(make_field(peak), "") == f"max {text}"


def test_the_scale_ends_at_the_full_scale_and_says_so_when_some_heat_is_above():
    below, above = (write_legend("", "", [make_field(p)], 0.2).ticks for p in (0.2, 0.3))
    assert below == ("0", "0.1", "0.2")
    assert above == ("0", "0.1", "0.2+")


def test_only_marks_that_are_there_are_explained():
    assert write_legend("", "", [make_field()], 1.0).keys == ("window", "centers")
    assert write_legend("", "", [make_field(0)], 1.0).keys == ("centers",)
    assert write_legend("", "", [make_field(side=90)], 1.0).keys == ()
    unseen = write_legend("", "", [make_field(), make_field(window=100)], 1.0)
    assert unseen.keys == ("window", "centers", "unseen")
    assert without_marks(unseen).keys == ("unseen",)


def test_the_bar_has_the_colours_of_the_map_from_no_heat_to_full_heat():
    panel = draw(write_legend("", "", [make_field()], 1.0))
    ends = tint(make_photograph(1, 2), np.float32([[0, 1]]))[0].tolist()
    bar = next(row[3:-3] for row in panel if row[3].tolist() == ends[0])
    assert bar[-1].tolist() == ends[1]
    assert (np.diff(bar.astype(int).sum(axis=1)) >= 0).all()


def test_a_long_heading_is_cut_but_not_its_ending():
    panels = [
        draw(write_legend("w" * 300, ending, [make_field()], 1.0)) for ending in (" 0.2", " 0.7")
    ]
    changed = np.flatnonzero((panels[0] != panels[1]).any(axis=(0, 2)))
    assert panels[0].shape[1] < 400
    assert changed[0] > 0.8 * panels[0].shape[1]


def test_each_key_is_a_line_and_has_its_own_picture():
    full = write_legend("", "", [make_field(window=100)], 1.0)
    panels = [draw(legend) for legend in (full, without_marks(full))]
    line = sum(load_font_for(200).getmetrics())
    assert panels[0].shape[0] - panels[1].shape[0] == 2 * line
    marks = [panels[0][-3 - (n + 1) * line : -3 - n * line, 3 : 3 + line] for n in range(3)]
    assert len({piece.tobytes() for piece in marks}) == 3


def test_without_room_for_its_numbers_there_is_no_legend():
    legend = write_legend("cat", ", max 0.50", [make_field()], 1.0)
    assert draw(legend, 60) is None
    assert draw(legend, 200).shape[1] <= 200


def test_without_room_for_its_keys_there_is_no_legend_but_one_without_them_may_fit():
    legend = write_legend("", "", [make_field()], 1.0)
    assert draw(legend, 120) is None
    assert draw(without_marks(legend), 120).shape[1] <= 120
