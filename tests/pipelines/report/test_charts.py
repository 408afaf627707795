"""Bars that have the lengths of their numbers."""

from __future__ import annotations

import re

from overfeat.draw import color_of
from pipelines.report.charts import LABELS_AT_MOST, draw_label_bars, draw_score_histogram


def test_bars_of_labels_are_ordered_and_as_long_as_their_share():
    html = draw_label_bars({"dog": 5, "cat": 20, "ant": 5}, "Boxes")
    assert re.findall(r"</svg>(\w+)</th>", html) == ["cat", "ant", "dog"]
    assert re.findall(r'<rect width="([\d.]+)"', html)[1::2] == ["100.00", "25.00", "25.00"]


def test_a_label_has_the_colour_of_its_boxes():
    red, green, blue = color_of("cat")
    assert f'fill="rgb({red} {green} {blue})"' in draw_label_bars({"cat": 1}, "Boxes")


def test_no_label_is_left_out_of_the_sums():
    counts = {f"label {n:04d}": 1 for n in range(LABELS_AT_MOST + 50)}
    html = draw_label_bars(counts, "Boxes")
    assert html.count("<tr><th") - 2 == LABELS_AT_MOST
    assert "and 50 more labels, 50 in all" in html


def test_bars_of_scores_are_as_high_as_their_share():
    html = draw_score_histogram([0, 10, 5, 0], threshold=0.5)
    assert re.findall(r' height="([\d.]+)"', html) == ["0.00", "100.00", "50.00", "0.00"]
    assert re.findall(r'class="(above|below)"', html) == ["below", "below", "above", "above"]


def test_a_histogram_of_nothing_is_flat():
    assert re.findall(r' height="([\d.]+)"', draw_score_histogram([0, 0], threshold=0.5)) == [
        "0.00",
        "0.00",
    ]


def test_the_numbers_of_a_histogram_are_also_a_table():
    html = draw_score_histogram([1200, 7], threshold=0.5)
    assert '<th scope="row">0.00 to 0.50</th><td class="number">1,200</td>' in html
