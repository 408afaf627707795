"""Copy a finished run's tables as files of about 256 MB, laid out for queries.

    overfeat compact --output s3://annotations/2026/ --to s3://warehouse/2026/

The rows are the same; the run itself is untouched.
"""

from __future__ import annotations

import sys
from dataclasses import asdict

from jobs.entrypoint import Result, make_main
from pipelines.compact import CompactConfig, CompactReport, compact


def run(config: CompactConfig) -> Result:
    """Copy a run.

    Args:
        config: The flags.

    Returns:
        Rows and files of each table.
    """
    report = compact(config)
    return Result(values=asdict(report), text=describe(report))


def describe(report: CompactReport) -> str:
    """Write a report for people.

    Args:
        report: What was copied.

    Returns:
        A line for each table, then where the copy is.
    """
    width = max(map(len, report.rows))
    lines = [
        f"{table:<{width}}  {rows:,} rows in {files:,} {'file' if files == 1 else 'files'}"
        for (table, rows), files in zip(report.rows.items(), report.files.values(), strict=True)
    ]
    return "\n".join([*lines, report.to if report.is_new else f"done before: {report.to}"])


main = make_main(CompactConfig, run, name="compact", description=__doc__)


if __name__ == "__main__":
    sys.exit(main())
