"""How does a run's output become one page to look at?"""

from __future__ import annotations

import logging
from dataclasses import dataclass

from pipelines import storage
from pipelines.errors import InputError
from pipelines.report.choose import pick_images
from pipelines.report.facts import read_facts
from pipelines.report.load import read_shown, tally_tables
from pipelines.report.page import PageContent, write_page
from pipelines.report.pending import count_pending
from pipelines.report.pictures import make_pictures

logger = logging.getLogger(__name__)

PAGE_NAME = "report.html"
MIN_THUMBNAIL_PX = 64
MAX_THUMBNAIL_PX = 2048


@dataclass(frozen=True, kw_only=True, slots=True)
class ReportConfig:
    """What to show, and where to write it."""

    output: str
    """URI of the run: the folder that `annotate` wrote, finished or not."""
    page: str | None = None
    """URI of the page to write; `report.html` in `output` if None."""
    max_images: int = 60
    """Pictures on the page. Each adds about 50 kB to it."""
    score_threshold: float = 0.5
    """Boxes with a lower score, from 0 to 1, are counted and not drawn."""
    thumbnail_px: int = 480
    """The longer side of a picture in pixels, 64 to 2048."""

    def __post_init__(self) -> None:
        if self.max_images < 0:
            raise InputError(f"ReportConfig: max_images is {self.max_images}, need at least 0")
        if not 0 <= self.score_threshold <= 1:
            raise InputError(
                f"ReportConfig: score_threshold is {self.score_threshold}, need 0 to 1"
            )
        if not MIN_THUMBNAIL_PX <= self.thumbnail_px <= MAX_THUMBNAIL_PX:
            raise InputError(
                f"ReportConfig: thumbnail_px is {self.thumbnail_px} pixels, "
                f"need {MIN_THUMBNAIL_PX} to {MAX_THUMBNAIL_PX}"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class ReportSummary:
    """What the page says, in numbers."""

    page: str
    """URI of the page."""
    n_ok: int
    """Images with the status "ok"."""
    n_failed: int
    """Images with the status "error"."""
    n_boxes: int
    """Boxes of the run, whatever their score."""
    n_shown: int
    """Images on the page, those without a picture too."""
    n_unreadable: int
    """Images on the page that could not be read again."""
    is_finished: bool | None
    """Whether the run has all slices of its manifest; None where no manifest says how many."""


def write_report(config: ReportConfig) -> ReportSummary:
    """Make the page of a run and put it in its place.

    The same tables, images and settings give the same bytes. The cost is one read of the `images`
    and `boxes` tables and of the shown images; nothing but the page is written.

    Args:
        config: what to show, and where to write it.

    Returns:
        What the page says, in numbers.

    Raises:
        InputError: there is no run in `config.output`.
        StorageError: a table cannot be read, or the page not written.
    """
    output = storage.resolve_uri(config.output)
    page = storage.resolve_uri(config.page or storage.join_uri(output, PAGE_NAME))
    facts = read_facts(output)
    tally = tally_tables(
        output, max_images=config.max_images, score_threshold=config.score_threshold
    )
    if not (facts.run or tally.receipts or tally.n_ahead):
        raise InputError(
            f"{output}: no run here, expected run.json and images/slice-000000.parquet; "
            "name the folder that annotate wrote with --output"
        )
    pending = count_pending(output, tally.receipts, tally.n_ahead)
    shown = read_shown(output, pick_images(tally.shortlist), score_threshold=config.score_threshold)
    pictures = list(make_pictures(shown, thumbnail_px=config.thumbnail_px))
    content = PageContent(
        output=output,
        facts=facts,
        tally=tally,
        pending=pending,
        cards=tuple(zip(shown, pictures, strict=True)),
    )
    scratch = storage.join_uri(output, ".tmp") if config.page is None else None
    storage.write_bytes(page, write_page(content).encode(), scratch=scratch)
    logger.info("report: wrote %s with %d images", page, len(shown))
    return ReportSummary(
        page=page,
        n_ok=tally.n_ok,
        n_failed=tally.n_failed,
        n_boxes=tally.n_boxes,
        n_shown=len(shown),
        n_unreadable=sum(picture.data_uri is None for picture in pictures),
        is_finished=pending.is_finished,
    )
