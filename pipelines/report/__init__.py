"""From the tables of a run to one HTML page to look at."""

from __future__ import annotations

from pipelines.report.write import ReportConfig, ReportSummary, write_report

__all__ = ["ReportConfig", "ReportSummary", "write_report"]
