"""How far a run is: slices and images done, failures by reason, rate, last slice, time left.

    overfeat status --output s3://annotations/2026/

Reads the manifest and the receipts; never disturbs the run.
"""

from __future__ import annotations

import sys
from dataclasses import asdict

from jobs.entrypoint import Result, make_main
from pipelines.progress import format_seconds
from pipelines.status import Status, StatusConfig, read_status


def run(config: StatusConfig) -> Result:
    """Look at a run.

    Args:
        config: The flags.

    Returns:
        Its counts.
    """
    status = read_status(config)
    return Result(values=asdict(status), text=describe(status))


def describe(status: Status) -> str:
    """Write a status for people.

    Args:
        status: How far the run is.

    Returns:
        A few lines.
    """
    rate = "-" if status.images_per_second is None else f"{status.images_per_second:.1f} images/s"
    left = "-" if status.seconds_left is None else format_seconds(status.seconds_left)
    since = status.seconds_since_last
    last = "-" if since is None else f"a slice {format_seconds(since)} ago"
    reasons = ", ".join(f"{count:,} {reason}" for reason, count in status.errors.items())
    lines = [
        f"slices  {status.slices_done:,} of {status.slices:,}",
        f"images  {status.images_done:,} of {status.images:,}",
        f"failed  {status.failed:,} {f'({reasons})' if reasons else ''}".rstrip(),
        f"boxes   {status.boxes:,}",
        f"rate    {rate}",
        f"last    {last}",
        f"left    {left}",
    ]
    return "\n".join(lines)


main = make_main(StatusConfig, run, name="status", description=__doc__)


if __name__ == "__main__":
    sys.exit(main())
