"""Which images failed, for which reasons, and what can be done about it?"""

from __future__ import annotations

from collections.abc import Sequence

from pipelines.errors import ImageReason
from pipelines.report.load import FailedImage, Tally
from pipelines.report.markup import Html, element
from pipelines.wording import tell_count

MESSAGE_AT_MOST = 300

REASONS: dict[str, str] = {
    ImageReason.NOT_FOUND: "The object is not there any more.",
    ImageReason.ACCESS_DENIED: "The store refused; check permissions.",
    ImageReason.UNAVAILABLE: "The store did not answer after retries.",
    ImageReason.CHANGED: "The object changed after the listing.",
    ImageReason.TRUNCATED: "The file ends too early.",
    ImageReason.CORRUPT: "The decoder reports damage.",
    ImageReason.NOT_AN_IMAGE: "The bytes are of no image format.",
    ImageReason.TOO_LARGE: "Over --max-pixels, --max-bytes or --max-frames.",
    ImageReason.UNSUPPORTED: "An image format or variant that is not decoded.",
    ImageReason.TIMEOUT: "Decoding took too long.",
    ImageReason.CRASHED: "It killed its process twice.",
}
"""What each reason means and, where anything can be done about it, what."""


def write_failures(tally: Tally, output: str) -> Html:
    """Write the section of the failed images.

    Args:
        tally: sums over the tables.
        output: URI of the run.

    Returns:
        Each reason with its number, what it means, and the first images with their messages.
    """
    if not tally.n_failed:
        told = element("p", "No image failed.", class_="muted small")
        return element("section", element("h2", "Failed images"), told)
    ordered = sorted(tally.reasons.items(), key=lambda entry: (-entry[1], entry[0]))
    groups = (_write_reason(reason, number, tally.examples[reason]) for reason, number in ordered)
    query = f"pd.read_parquet({output.rstrip('/') + '/images'!r}).query(\"status != 'ok'\")"
    return element(
        "section",
        element("h2", "Failed images"),
        element(
            "p",
            f"{tell_count(tally.n_failed, 'image', 'images')} by reason. All of them: ",
            element("code", query),
            class_="muted small",
        ),
        *groups,
    )


def _write_reason(reason: str, number: int, examples: Sequence[FailedImage]) -> Html:
    rows = (
        element(
            "tr",
            element("td", failed.image, class_="uri"),
            element("td", _cut(failed.message)),
        )
        for failed in examples
    )
    head = (element("th", name, scope="col") for name in ("Image", "Message"))
    more = number - len(examples)
    return element(
        "details",
        element(
            "summary",
            element("span", reason, class_="reason"),
            f" {number:,} ",
            element("span", REASONS.get(reason, ""), class_="muted"),
        ),
        element(
            "div",
            element("table", element("thead", element("tr", *head)), element("tbody", *rows)),
            class_="scroll messages",
            tabindex=0,
            role="region",
            aria_label=f"Images that failed with the reason {reason}",
        ),
        element("p", f"and {more:,} more", class_="muted small") if more else None,
        open=True,
    )


def _cut(message: str) -> str:
    return message if len(message) <= MESSAGE_AT_MOST else f"{message[:MESSAGE_AT_MOST]}…"
