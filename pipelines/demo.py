"""The whole main job on a sample bucket made here: pictures, tables, a pandas query, a page."""

from __future__ import annotations

import importlib.util
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pandas as pd

from overfeat.checkpoint import digest_checkpoint
from overfeat.loading import find_checkpoint
from pipelines.annotate.config import AnnotateConfig
from pipelines.annotate.run import AnnotateReport, annotate
from pipelines.errors import InputError
from pipelines.report import ReportConfig, write_report
from pipelines.sample_bucket import write_sample_bucket

SURE: Final = "score >= 0.9"
"""Which boxes the labels are counted over, as a query of pandas."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DemoConfig:
    """Where the demo works, and on how much."""

    folder: Path = Path("demo-output")
    """Local folder for the sample bucket, the tables and the page."""
    scenes: int = 24
    """Digit scenes in the sample bucket, beside the real photographs."""
    score_threshold: float = 0.8
    """Least score of a box: the small model is often half sure of things that are no digit."""

    def __post_init__(self) -> None:
        if self.scenes < 0:
            raise InputError(f"--scenes: received {self.scenes}, expected at least 0")


@dataclass(frozen=True, kw_only=True, slots=True)
class DemoReport:
    """What the demo made."""

    annotated: AnnotateReport
    """How the run went."""
    table: str
    """The first rows of the boxes, as pandas prints them."""
    labels: str
    """How often each label was found, as pandas prints it."""
    page: str
    """The HTML page."""


def run_demo(config: DemoConfig) -> DemoReport:
    """Make a sample bucket, annotate it, query the tables, write the page.

    Args:
        config: Where, and how much.

    Returns:
        What was made.

    Raises:
        InputError: If the packages that ship the pictures are missing.
    """
    missing = [name for name in ("sklearn", "skimage") if importlib.util.find_spec(name) is None]
    if missing:
        raise InputError(
            "demo: its pictures come with scikit-learn and scikit-image; "
            "pip install 'overfeat-at-scale[pipelines,scenes]'"
        )
    bucket = _make_bucket(config)
    # Another model gives other rows: it gets an output of its own.
    digest = digest_checkpoint(find_checkpoint("demo"))[:8]
    output = config.folder / f"annotations-{config.scenes}-{config.score_threshold}-{digest}"
    report = annotate(
        AnnotateConfig(
            images=str(bucket),
            output=str(output),
            slice_size=8,
            score_threshold=config.score_threshold,
        )
    )
    page = write_report(
        ReportConfig(
            output=str(output),
            page=str(config.folder / "report.html"),
            score_threshold=config.score_threshold,
        )
    ).page
    boxes = pd.read_parquet(output / "boxes")
    return DemoReport(
        annotated=report, table=_show_boxes(boxes), labels=_count_labels(boxes), page=page
    )


def _make_bucket(config: DemoConfig) -> Path:
    """Write the sample bucket, once: a second demo finds its files unchanged and reads none."""
    bucket = config.folder / f"bucket-{config.scenes}"
    if not bucket.exists():
        unfinished = config.folder / ".bucket"
        shutil.rmtree(unfinished, ignore_errors=True)
        write_sample_bucket(unfinished, scenes=config.scenes)
        unfinished.rename(bucket)
    return bucket


def _show_boxes(boxes: pd.DataFrame) -> str:
    best = boxes.nlargest(10, "evidence")
    best["image"] = best["image"].str.split("/").str[-1]
    return best.to_string(index=False, float_format="%.2f")


def _count_labels(boxes: pd.DataFrame) -> str:
    counts = boxes.query(SURE).groupby("label")["image"].agg(boxes="size", images="nunique")
    return counts.to_string()
