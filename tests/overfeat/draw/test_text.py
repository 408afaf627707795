"""Texts: how they are cut, and where they stand."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from overfeat.draw.colors import DARK
from overfeat.draw.text import ELLIPSIS, flatten, load_font_for, shorten, write_line

FONT = load_font_for(0)


def find_written_columns(strip):
    return np.flatnonzero((strip != DARK).any(axis=(0, 2)))


def test_one_text_stands_at_the_left_edge():
    columns = find_written_columns(write_line(["max"], FONT, width=200))
    assert columns[0] <= 2
    assert columns[-1] < 60


def test_three_texts_stand_at_the_left_in_the_middle_and_at_the_right():
    columns = find_written_columns(write_line(["0", "0", "0"], FONT, width=300))
    assert columns[0] <= 2
    assert columns[-1] >= 297
    middle = columns[(columns > 50) & (columns < 250)]
    assert abs(middle.mean() - 149.5) < 1.5


def test_no_text_leaves_the_strip_dark():
    strip = write_line([], FONT, width=7)
    assert strip.shape == (sum(FONT.getmetrics()), 7, 3)
    assert (strip == DARK).all()


@settings(deadline=None, max_examples=40, derandomize=True)
@given(label=st.text("abcwi ", max_size=30), room=st.integers(1, 300))
def test_a_shortened_text_fits_and_begins_like_the_whole(label, room):
    text = shorten(label, " 0.9", FONT, room=room)
    if text is None:
        assert FONT.getlength(label + " 0.9") > room
        return
    assert FONT.getlength(text) <= room
    assert text.endswith(" 0.9")
    assert label.startswith(text.removesuffix(" 0.9").removesuffix(ELLIPSIS))


def test_a_text_of_many_lines_becomes_one():
    assert flatten(" tabby\n\tcat ") == "tabby cat"
