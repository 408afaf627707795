"""How do all facts of a run become one HTML file that needs nothing else?

Styles, script and pictures are inside, and a content security policy forbids the browser to load
anything: the page can be mailed, archived and opened without a network.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pipelines.report.cards import write_card
from pipelines.report.charts import draw_label_bars, draw_score_histogram
from pipelines.report.facts import RunFacts, flatten_facts
from pipelines.report.failures import write_failures
from pipelines.report.header import write_header
from pipelines.report.load import ShownImage, Tally
from pipelines.report.markup import Html, element, join
from pipelines.report.pending import PendingSlices
from pipelines.report.pictures import Picture
from pipelines.report.style import SCRIPT, STYLE
from pipelines.report.words import name_of, tell_value
from pipelines.wording import tell_count


@dataclass(frozen=True, kw_only=True, slots=True)
class PageContent:
    """All that stands on the page."""

    output: str
    """URI of the run."""
    facts: RunFacts
    """What the run wrote about itself."""
    tally: Tally
    """Sums over its tables."""
    pending: PendingSlices
    """What is still to be done."""
    cards: Sequence[tuple[ShownImage, Picture]]
    """The shown images."""


def write_page(content: PageContent) -> str:
    """Write the whole page.

    Args:
        content: all that stands on it.

    Returns:
        An HTML document; the same content gives the same text.
    """
    main = element(
        "main",
        _write_charts(content.tally),
        write_failures(content.tally, content.output),
        _write_cards(content),
        _write_configuration(content.facts),
    )
    footer = element("footer", element("p", "Made by overfeat report from the run's tables."))
    body = element(
        "body",
        write_header(content.output, content.facts, content.tally, content.pending),
        main,
        footer,
        _write_script(),
    )
    head = _write_head(f"Report of {name_of(content.output)}")
    return f"<!doctype html>\n{element('html', head, body, lang='en')}\n"


def _write_head(title: str) -> Html:
    policy = (
        "default-src 'none'; img-src data:; base-uri 'none'; form-action 'none'; "
        f"style-src '{_hash(STYLE)}'; script-src '{_hash(SCRIPT)}'"
    )
    return element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=policy),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("link", rel="icon", href="data:,"),
        element("title", title),
        element("style", Html(STYLE)),
    )


def _write_script() -> Html:
    return element("script", Html(SCRIPT))


def _hash(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return f"sha256-{base64.b64encode(digest).decode('ascii')}"


def _write_charts(tally: Tally) -> Html:
    unit = "Boxes" if tally.has_boxes else "Images"
    what = "All boxes of the run by label." if tally.has_boxes else "Images by their first class."
    labels = (
        draw_label_bars(tally.labels, unit)
        if tally.labels
        else element("p", "There are none.", class_="muted")
    )
    charts = [
        element(
            "section", element("h2", "Labels"), element("p", what, class_="muted small"), labels
        )
    ]
    if tally.n_boxes:
        charts.append(_write_scores(tally))
    return element("div", *charts, class_="charts")


def _write_scores(tally: Tally) -> Html:
    told = (
        f"{tally.n_kept_boxes:,} of {tell_count(tally.n_boxes, 'box', 'boxes')} have a score of "
        f"{tally.score_threshold:g} or more: the stronger bars, and the boxes drawn below."
    )
    counts = [int(value) for value in tally.score_counts]
    return element(
        "section",
        element("h2", "Scores"),
        element("p", told, class_="muted small"),
        draw_score_histogram(counts, threshold=tally.score_threshold),
    )


def _write_cards(content: PageContent) -> Html:
    tally = content.tally
    cards = (
        write_card(shown, picture, score_threshold=tally.score_threshold, has_boxes=tally.has_boxes)
        for shown, picture in content.cards
    )
    told = (
        f"{len(content.cards):,} of {tell_count(tally.n_ok, 'image', 'images')}, chosen for "
        "variety and the same each time: one of each label in turn, the most frequent first."
    )
    notes = []
    if tally.n_without_kept_box:
        told_images = tell_count(tally.n_without_kept_box, "image has", "images have")
        notes.append(f" {told_images} no box with a score of {tally.score_threshold:g}.")
    if tally.n_truncated:
        notes.append(
            f" {tell_count(tally.n_truncated, 'image', 'images')} had more boxes than kept."
        )
    return element(
        "section",
        element("h2", "Images"),
        element("p", told, *notes, class_="muted small"),
        _write_find() if content.cards else None,
        element("ul", *cards, class_="cards") if content.cards else None,
    )


def _write_find() -> Html:
    """Shown by the script alone: without it there is nothing to find with."""
    return element(
        "div",
        element("label", "Find", for_="find"),
        element("input", id="find", type="search", placeholder="label or file name"),
        element("output", for_="find", class_="muted small"),
        class_="find",
        hidden=True,
    )


def _write_configuration(facts: RunFacts) -> Html:
    parts: list[Html] = []
    for name, values in (("run.json", facts.run), ("Newest of runs/", facts.invocation)):
        rows = list(flatten_facts(values))
        if rows:
            parts.append(_write_settings(name, rows))
    told = (
        None if parts else element("p", "The run left no readable run.json.", class_="muted small")
    )
    return element("section", element("h2", "Configuration"), told, join(parts))


def _write_settings(name: str, rows: Iterable[tuple[str, object]]) -> Html:
    lines = (
        element("tr", element("th", key, scope="row"), element("td", tell_value(value)))
        for key, value in rows
    )
    return element(
        "details",
        element("summary", name),
        element("div", element("table", element("tbody", *lines)), class_="scroll config"),
    )
