"""Images -> tables of classes, boxes, guesses and features.

    overfeat annotate --images s3://photos/2026/ --output s3://annotations/2026/ --weights FOLDER

Writes Parquet tables under the output. Killed, it goes on by the same command. One actor
of one thread did 4 images a second with the shipped model on a busy machine (docs/benchmarks.md).
"""

from __future__ import annotations

import sys
from dataclasses import asdict

from jobs.entrypoint import DONE, TOO_MANY_FAILED, Result, make_main
from pipelines.annotate.config import AnnotateConfig
from pipelines.annotate.dry_run import Estimate, estimate
from pipelines.annotate.run import AnnotateReport, annotate
from pipelines.comparison import Changes
from pipelines.progress import format_seconds
from pipelines.wording import tell_count


def run(config: AnnotateConfig) -> Result:
    """Annotate, or say what there is to do.

    Args:
        config: The flags.

    Returns:
        Counts of images, failures and boxes.
    """
    if config.dry_run:
        plan = estimate(config)
        return Result(values=asdict(plan), text=describe_estimate(plan))
    report = annotate(config)
    code = TOO_MANY_FAILED if report.failed_too_many else DONE
    return Result(values=asdict(report), text=describe(report), exit_code=code)


def describe_estimate(plan: Estimate) -> str:
    """Write what there is to do for people.

    Args:
        plan: Counts and a time.

    Returns:
        A line, one of what an update would find, and one for each image of the sample that cannot
        be read.
    """
    skipped = tell_count(plan.skipped, "other object is", "other objects are")
    lines = [
        f"{'' if plan.is_begun else 'a new run of '}{tell_count(plan.images, 'image')}, "
        f"{tell_count(plan.size_bytes, 'byte')}, {tell_count(plan.slices, 'slice')}"
        f"{f' ({skipped} left out)' if plan.skipped else ''}; {_describe_left(plan)}",
        *([] if plan.changes is None else _describe_found(plan, plan.changes)),
        *(f"among the first images cannot be read: {wrong}" for wrong in plan.unreadable),
    ]
    return "\n".join(lines)


def _describe_found(plan: Estimate, changes: Changes) -> list[str]:
    """What an update or a retry would find, as far as it is known."""
    lines = [_describe_changes(changes)]
    if plan.slices_unfinished:
        slices = tell_count(plan.slices_unfinished, "slice")
        lines.append(f"not known is which images of {slices} that are not done yet will fail")
    return lines


def _describe_left(plan: Estimate) -> str:
    """How much of it there is to read, and for how long."""
    if plan.images_to_read == 0:
        slices = tell_count(plan.slices_to_write, "slice")
        dropped = f"; rows are to be dropped from {slices}" if plan.slices_to_write else ""
        return f"no image is to be read{dropped}"
    what = (
        ""
        if (plan.images_to_read, plan.bytes_to_read) == (plan.images, plan.size_bytes)
        else f"{tell_count(plan.images_to_read, 'image')}, "
        f"{tell_count(plan.bytes_to_read, 'byte')} to be read for "
        f"{tell_count(plan.slices_to_write, 'slice')}; "
    )
    if plan.seconds is None:
        return what + "how long it takes is not known, for no image of the sample could be read"
    return (
        f"{what}about {format_seconds(plan.seconds)} after start-up with "
        f"{tell_count(plan.workers, 'worker')} (measured on "
        f"{tell_count(plan.measured_images, 'image')})"
    )


def describe(report: AnnotateReport) -> str:
    """Write a report for people.

    Args:
        report: How the run stands.

    Returns:
        A few lines.
    """
    if report.images_read:
        read = (
            f"read {tell_count(report.images_read, 'image')} in {format_seconds(report.seconds)} "
            f"({report.images_per_second:.1f} images/s, start-up included)"
        )
    elif report.slices_done:
        read = "read no image: only rows of images that are gone were dropped"
    else:
        read = "read no image: every slice was committed before"
    reasons = ", ".join(f"{count:,} {reason}" for reason, count in report.errors.items())
    lines = [
        read,
        *([] if report.changes is None else [_describe_changes(report.changes)]),
        f"images  {report.images:>10,}  in {tell_count(report.slices, 'slice')}",
        f"failed  {report.failed:>10,}  {f'({reasons})' if reasons else ''}".rstrip(),
        *_describe_tables(report),
        f"tables in {report.output}",
    ]
    if report.failed_too_many:
        share = report.failed / report.images
        lines.append(
            f"{share:.2%} of the images failed, more than --max-failed-ratio allows (exit code 3); "
            "all rows are there, the failed ones with their reasons in images.error_type"
        )
    return "\n".join(lines)


def _describe_changes(changes: Changes) -> str:
    """What was found when the images were looked at again."""
    return (
        f"update  {changes.added:,} new, {changes.changed:,} changed, {changes.vanished:,} gone, "
        f"{changes.retried:,} failed and tried again as they were"
    )


def _describe_tables(report: AnnotateReport) -> list[str]:
    """Rows of the tables that were asked for beside `images`."""
    counts = {
        "detect": f"boxes   {report.boxes:>10,}",
        "localize": f"guesses {report.guesses:>10,}",
        "features": f"features{report.features:>10,}",
    }
    return [line for task, line in counts.items() if task in report.tasks]


main = make_main(AnnotateConfig, run, name="annotate", description=__doc__)


if __name__ == "__main__":
    sys.exit(main())
