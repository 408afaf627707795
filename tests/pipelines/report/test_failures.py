"""What the page says of reasons."""

from __future__ import annotations

from collections import Counter

from pipelines.errors import ImageReason
from pipelines.report.choose import Shortlist
from pipelines.report.failures import REASONS, write_failures
from pipelines.report.load import FailedImage, Tally


def tally_of(reason, message):
    failed = FailedImage(image="s3://bucket/a.jpg", message=message)
    return Tally(
        score_threshold=0.5,
        shortlist=Shortlist(max_images=1),
        reasons=Counter({reason: 1}),
        examples={reason: [failed]},
    )


def test_every_reason_is_explained():
    assert set(REASONS) == set(ImageReason)


def test_a_reason_from_the_table_finds_its_explanation():
    assert "The file ends too early." in write_failures(tally_of("truncated", ""), "out")


def test_a_reason_of_a_later_version_is_shown_without_explanation():
    assert "melted" in write_failures(tally_of("melted", ""), "out")


def test_an_endless_message_is_cut():
    html = write_failures(tally_of("corrupt", "x" * 10_000), "out")
    assert "x" * 300 + "…" in html
    assert "x" * 301 not in html
