"""Tables -> one self-contained HTML page to look at.

    overfeat report --output s3://annotations/2026/ --page report.html

Shows counts, labels, failures and pictures with their boxes; works on a run in progress too.
"""

from __future__ import annotations

import sys
from dataclasses import asdict

from jobs.entrypoint import Result, make_main
from pipelines.report import ReportConfig, write_report


def run(config: ReportConfig) -> Result:
    """Write the page.

    Args:
        config: The flags.

    Returns:
        Where it is, and what it says.
    """
    summary = write_report(config)
    images = summary.n_ok + summary.n_failed
    is_cut = summary.n_shown == config.max_images < images
    more = " (--max-images shows more)" if is_cut else ""
    text = f"{summary.n_shown:,} pictures of {images:,}{more}: {summary.page}"
    return Result(values=asdict(summary), text=text)


main = make_main(ReportConfig, run, name="report", description=__doc__)


if __name__ == "__main__":
    sys.exit(main())
