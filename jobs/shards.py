"""A data set -> WebDataset shards, readable by `webdataset` alone.

    overfeat shards --source voc --input VOCdevkit/VOC2012 --split train --output shards

Writes SPLIT-000000.tar, rejects.parquet and, last, index.json. Killed, it goes on by the same
command.
"""

from __future__ import annotations

import sys
from dataclasses import asdict

from jobs.entrypoint import Result, make_main
from pipelines.shards.config import ShardsConfig
from pipelines.shards.run import ShardsReport, write_shards
from pipelines.wording import tell_count


def run(config: ShardsConfig) -> Result:
    """Pack one split.

    Args:
        config: The flags.

    Returns:
        Counts of shards, samples, bytes and rejects.
    """
    report = write_shards(config)
    return Result(values=asdict(report), text=describe(report))


def describe(report: ShardsReport) -> str:
    """Write a report for people.

    Args:
        report: What stands in the output.

    Returns:
        A few lines.
    """
    reasons = ", ".join(f"{count:,} {reason}" for reason, count in report.reasons.items())
    there = report.shards - report.packed
    before = f"; {there:,} {'was' if there == 1 else 'were'} there before" if there > 0 else ""
    shards, noun = tell_count(report.shards, "shard"), "shard" if report.packed == 1 else "shards"
    named = f"({reasons}): rejects.parquet names them" if reasons else ""
    return "\n".join(
        [
            f"samples {report.samples:>12,}  in {shards}, {tell_count(report.bytes, 'byte')}",
            f"rejects {report.rejects:>12,}  {named}".rstrip(),
            f"packed  {report.packed:>12,}  {noun} now{before}",
            f"split {report.split} in {report.output}",
        ]
    )


main = make_main(ShardsConfig, run, name="shards", description=__doc__)


if __name__ == "__main__":
    sys.exit(main())
