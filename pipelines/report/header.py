"""What is to be known of a run at first sight: is it finished, how much is in it, who made it?"""

from __future__ import annotations

from pipelines.report.facts import RunFacts, find_fact
from pipelines.report.load import Tally
from pipelines.report.markup import Html, element
from pipelines.report.pending import PendingSlices
from pipelines.report.words import name_of, tell_value
from pipelines.wording import tell_count

HEADLINES = (
    ("Model", ("weights",)),
    ("Architecture", ("architectures", "architecture")),
    ("Model digest", ("digest", "weights_digest")),
    ("Images from", ("images",)),
    ("Tasks", ("tasks",)),
    ("Device", ("device",)),
    ("Number type", ("dtype",)),
    ("Started", ("created",)),
    ("Fingerprint", ("fingerprint",)),
)
"""What stands in the head of the page, and the keys of `run.json` that may hold it."""


def write_header(output: str, facts: RunFacts, tally: Tally, pending: PendingSlices) -> Html:
    """Write the head of the page.

    Args:
        output: URI of the run.
        facts: what the run wrote about itself.
        tally: sums over its tables.
        pending: what is still to be done.

    Returns:
        Name and state, what must be known before the page is believed, and the main numbers.
    """
    css, state, notices = _tell_state(pending)
    return element(
        "header",
        element(
            "div",
            element("p", "OverFeat at scale", class_="brand"),
            element(
                "div",
                element("h1", name_of(output)),
                element("span", state, class_=f"state {css}"),
                class_="title",
            ),
            element("p", output, class_="uri muted"),
            *(element("p", notice, class_="notice") for notice in notices),
            _write_tiles(tally, facts),
            _write_headlines(facts),
        ),
    )


def _tell_state(pending: PendingSlices) -> tuple[str, str, list[str]]:
    """A class, a word, and what must be known before the page is believed."""
    notices = []
    if pending.n_pending:
        notices.append(
            f"This run is not finished: {pending.n_pending:,} of "
            f"{tell_count(pending.n_planned or 0, 'slice', 'slices')} "
            "to be done. This page shows what is committed."
        )
    if pending.n_ahead:
        notices.append(
            f"{tell_count(pending.n_ahead, 'slice has', 'slices have')} boxes but no receipt yet: "
            "in flight, or left by a killed run; not counted here."
        )
    if pending.is_finished is None:
        return "unknown", "No manifest", notices
    if pending.is_finished:
        return "finished", "Finished", notices
    return "progress", "In progress", notices


def _write_tiles(tally: Tally, facts: RunFacts) -> Html:
    n_images = tally.n_ok + tally.n_failed
    failed_share = f"{tally.n_failed / max(n_images, 1):.1%} of {n_images:,}"
    per_image = f"{tally.n_boxes / max(tally.n_ok, 1):.1f} per image"
    rate = find_fact(facts.invocation, "images_per_second")
    tiles = [_write_tile("images ok", f"{tally.n_ok:,}")]
    tiles.append(
        _write_tile("images failed", f"{tally.n_failed:,}", failed_share, is_bad=tally.n_failed > 0)
    )
    if tally.has_boxes:
        tiles.append(_write_tile("boxes", f"{tally.n_boxes:,}", per_image))
    tiles.append(_write_tile("labels", f"{len(tally.labels):,}"))
    # An invocation that found all slices committed has read no image.
    if isinstance(rate, int | float) and rate > 0:
        tiles.append(_write_tile("images/s", f"{rate:,.1f}", "newest invocation"))
    return element("dl", *tiles, class_="tiles")


def _write_tile(name: str, value: str, note: str = "", *, is_bad: bool = False) -> Html:
    return element(
        "div",
        element("dt", name, f", {note}" if note else ""),
        element("dd", value, class_="value"),
        class_="tile bad" if is_bad else "tile",
    )


def _write_headlines(facts: RunFacts) -> Html | None:
    lines = []
    for name, keys in HEADLINES:
        value = find_fact(facts.run, *keys)
        if value is not None:
            lines.append(element("div", element("dt", name), element("dd", tell_value(value))))
    return element("dl", *lines, class_="facts") if lines else None
