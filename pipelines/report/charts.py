"""How do counts become bars?

Bars are inline SVG without text, so they stretch to any width; all words and numbers are HTML. Each
chart is readable without seeing it: a table, or a picture with its data in words.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

from overfeat.draw import color_of
from pipelines.report.markup import Html, element, join

LABELS_AT_ONCE = 12
LABELS_AT_MOST = 200
CHART_HEIGHT = 100


def draw_label_bars(counts: Mapping[str, int], unit: str) -> Html:
    """Draw a table of labels with bars, the most frequent first.

    Args:
        counts: by label; not empty.
        unit: what is counted, for the heading of the column.

    Returns:
        The first labels, and the others folded below them.
    """
    ordered = sorted(counts.items(), key=lambda entry: (-entry[1], entry[0]))
    most = ordered[0][1]
    first, others = ordered[:LABELS_AT_ONCE], ordered[LABELS_AT_ONCE:LABELS_AT_MOST]
    return join(
        [
            _draw_label_table(first, most, unit),
            element(
                "details",
                element("summary", f"{len(others):,} more labels"),
                _draw_label_table(others, most, unit),
                _tell_rest(ordered[LABELS_AT_MOST:]),
            )
            if others
            else None,
        ]
    )


def draw_score_histogram(counts: Sequence[int], *, threshold: float) -> Html:
    """Draw bars of equal width from 0 to 1.

    Args:
        counts: one for each bin, in order.
        threshold: scores from 0 to 1; bars that begin at least there are drawn stronger.

    Returns:
        The bars, their axis, and the same numbers as a folded table.
    """
    edges = [index / len(counts) for index in range(len(counts) + 1)]
    spans = [f"{low:.2f} to {high:.2f}" for low, high in pairwise(edges)]
    most = max(*counts, 1)
    bars = [
        _draw_bar(index, count / most, span, count, is_above=edges[index] >= threshold - 1e-9)
        for index, (span, count) in enumerate(zip(spans, counts, strict=True))
    ]
    axis = (element("span", f"{tick / 4:.2f}") for tick in range(5))
    return join(
        [
            element(
                "svg",
                *bars,
                class_="histogram",
                viewBox=f"0 0 {len(counts)} {CHART_HEIGHT}",
                preserveAspectRatio="none",
                role="img",
                aria_label="Histogram of the scores; its numbers are in the table below",
            ),
            element("div", *axis, class_="axis", aria_hidden="true"),
            _tell_histogram(spans, counts),
        ]
    )


def draw_swatch(label: str) -> Html:
    """Draw the colour that a label has in the pictures.

    Args:
        label: any text.

    Returns:
        A small square, of no meaning to those who do not see it.
    """
    red, green, blue = color_of(label)
    square = element("rect", width="1", height="1", fill=f"rgb({red} {green} {blue})")
    return element("svg", square, class_="swatch", viewBox="0 0 1 1", aria_hidden="true")


def _draw_label_table(entries: Sequence[tuple[str, int]], most: int, unit: str) -> Html:
    rows = (
        element(
            "tr",
            element("th", draw_swatch(label), label, scope="row"),
            element("td", _draw_share(count / most)),
            element("td", f"{count:,}", class_="number"),
        )
        for label, count in entries
    )
    head = element(
        "tr",
        element("th", "Label", scope="col"),
        element("td"),
        element("th", unit, scope="col", class_="number"),
    )
    return element("table", element("thead", head), element("tbody", *rows), class_="bars")


def _draw_share(share: float) -> Html:
    bar = element("rect", width=f"{100 * share:.2f}", height="1")
    return element(
        "svg",
        bar,
        class_="bar",
        viewBox="0 0 100 1",
        preserveAspectRatio="none",
        aria_hidden="true",
    )


def _tell_rest(entries: Sequence[tuple[str, int]]) -> Html | None:
    if not entries:
        return None
    total = sum(count for _, count in entries)
    return element("p", f"and {len(entries):,} more labels, {total:,} in all", class_="muted small")


def _draw_bar(index: int, share: float, span: str, count: int, *, is_above: bool) -> Html:
    height = CHART_HEIGHT * share
    return element(
        "rect",
        element("title", f"{span}: {count:,}"),
        x=f"{index + 0.06:.2f}",
        y=f"{CHART_HEIGHT - height:.2f}",
        width="0.88",
        height=f"{height:.2f}",
        class_="above" if is_above else "below",
    )


def _tell_histogram(spans: Sequence[str], counts: Sequence[int]) -> Html:
    rows = (
        element(
            "tr",
            element("th", span, scope="row"),
            element("td", f"{count:,}", class_="number"),
        )
        for span, count in zip(spans, counts, strict=True)
    )
    return element(
        "details",
        element("summary", "The numbers"),
        element("table", element("tbody", *rows)),
    )
