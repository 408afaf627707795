"""The whole main job on a sample bucket made here: pictures, tables, a pandas query, a page."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from pipelines.annotate.config import AnnotateConfig
from pipelines.annotate.run import AnnotateReport, annotate
from pipelines.errors import InputError
from pipelines.report import ReportConfig, write_report
from pipelines.sample_bucket import write_sample_bucket


@dataclass(frozen=True, kw_only=True, slots=True)
class DemoConfig:
    """Where the demo works, and on how much."""

    folder: Path = Path("demo-output")
    """Local folder for the sample bucket, the tables and the page."""
    scenes: int = 24
    """Digit scenes in the sample bucket, beside the real photographs."""


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
    bucket, output = config.folder / "bucket", config.folder / "annotations"
    # A second demo finds its files unchanged, and so reads none of them again.
    if not bucket.exists():
        write_sample_bucket(bucket, scenes=config.scenes)
    report = annotate(AnnotateConfig(images=str(bucket), output=str(output), slice_size=8))
    page = write_report(
        ReportConfig(output=str(output), page=str(config.folder / "report.html"))
    ).page
    boxes = pd.read_parquet(output / "boxes")
    return DemoReport(
        annotated=report, table=_show_boxes(boxes), labels=_count_labels(boxes), page=page
    )


def _show_boxes(boxes: pd.DataFrame) -> str:
    """Show the boxes with the most evidence, with file names instead of whole paths."""
    best = boxes.sort_values("evidence", ascending=False).head(10)
    names = best["image"].map(lambda uri: Path(uri).name)
    columns = ["label", "score", "evidence", "x_min", "y_min", "x_max", "y_max", "n_windows"]
    shown = best[columns].round(2)
    shown.insert(0, "image", names)
    return shown.to_string(index=False)


def _count_labels(boxes: pd.DataFrame) -> str:
    counts = (
        boxes.query("score >= 0.5").groupby("label")["image"].agg(boxes="size", images="nunique")
    )
    return counts.to_string()
