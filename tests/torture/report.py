"""What came of the torture, as a table for a terminal and as the page `docs/reliability.md`.

A part or a size that was not done this time keeps the line that it had on the page, and so do the
remarks at its end, which are written by hand.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

from pipelines.versions import describe_versions
from tests.torture.record import Outcome

HEAD = (
    *("part", "seed", "faults injected", "survived", "rows compared", "lost", "doubled"),
    *("read again", "seconds", "date", "commit"),
)
_INTRO = Path(__file__).with_name("reliability_intro.md")
_ROOT = Path(__file__).parents[2]
_NONE = "Not measured yet."
_UNKNOWN = "-"
_PARTS, _DETAILS, _SIZES = "## Results", "## What was injected and measured", "## Scale"
_REMARKS = "## Remarks"


def tabulate(outcomes: Sequence[Outcome]) -> list[tuple[str, ...]]:
    """Write a line a part.

    Args:
        outcomes: Of this time.

    Returns:
        Cells, the first line their names.
    """
    return [HEAD, *(_line(outcome) for outcome in outcomes)]


def _line(outcome: Outcome) -> tuple[str, ...]:
    record = outcome.record
    place = (outcome.part, str(outcome.seed))
    when = (f"{outcome.seconds:,.0f}", f"{datetime.now(UTC):%Y-%m-%d}", name_commit())
    if record is None:
        return (*place, "FAILED", "", "", "", "", "", *when)
    faults = sum(record.faults.values())
    survived = "FAILED" if outcome.failure else f"{faults:,}"
    counts = [f"{count:,}" for count in (record.rows, record.lost, record.doubled)]
    reread = _UNKNOWN if record.reread is None else f"{record.reread:,}"
    return (*place, f"{faults:,}", survived, *counts, reread, *when)


@cache
def name_commit() -> str:
    """Name the commit that is tortured, with a `+` if files differ from it; "-" without git."""
    command = ["git", "describe", "--always", "--exclude=*", "--dirty=+"]
    try:
        done = subprocess.run(command, cwd=_ROOT, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return _UNKNOWN
    return done.stdout.strip()


def align(lines: Sequence[Sequence[str]]) -> str:
    """Set a table for a terminal.

    Args:
        lines: Cells.

    Returns:
        Text with a line end at the end.
    """
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "".join(
        "  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)) + "\n"
        for line in lines
    )


def write_page(path: Path, outcomes: Sequence[Outcome], command: str) -> None:
    """Write the page, or bring it up to date.

    Args:
        path: Where it is.
        outcomes: Of this time.
        command: That gave them.
    """
    old = path.read_text("utf-8") if path.exists() else ""
    head, *lines = tabulate(outcomes)
    tables = [outcome.record.table for outcome in outcomes if outcome.record]
    sizes = [table for table in tables if table]
    sections = [
        _INTRO.read_text("utf-8").rstrip(),
        f"{_PARTS}\n\n" + _merge(old, _PARTS, [_row(head), _rule(head), *map(_row, lines)]),
        f"{_DETAILS}\n\n" + _merge(old, _DETAILS, [_describe(outcome) for outcome in outcomes]),
        f"{_SIZES}\n\n" + (_merge(old, _SIZES, _size_lines(sizes[0] if sizes else ())) or _NONE),
        f"## The machine\n\n{_describe_machine(command)}",
    ]
    _, heading, remarks = old.partition(f"{_REMARKS}\n")
    sections += [f"{heading}{remarks}".rstrip()] if heading else []
    path.write_text("\n\n".join(sections) + "\n", "utf-8")


def _merge(old: str, heading: str, lines: Sequence[str]) -> str:
    """Put new lines in the place of old ones that begin alike, and the others behind them."""
    section = old.partition(f"{heading}\n\n")[2].partition("\n\n#")[0]
    before = {_key(line): line for line in section.splitlines() if line != _NONE}
    now = {_key(line): line for line in lines}
    return "\n".join((before | now).values())


def _key(line: str) -> str:
    return line.split("|")[1] if line.startswith("|") else line.partition(":")[0]


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _rule(cells: Sequence[str]) -> str:
    return "|" + "---|" * len(cells)


def _describe(outcome: Outcome) -> str:
    record = outcome.record
    if record is None:
        reason = outcome.failure.strip().splitlines()[-1]
        return f"- `{outcome.part}`: FAILED ({reason})"
    faults = [f"{count:,} x {kind}" for kind, count in record.faults.items()]
    return f"- `{outcome.part}`: {'; '.join([*faults, *record.notes])}."


def _size_lines(table: Sequence[Sequence[str]]) -> list[str]:
    if not table:
        return []
    head, *sizes = table
    today = f"{datetime.now(UTC):%Y-%m-%d}"
    return [_row([*head, "date"]), _rule([*head, ""]), *(_row([*size, today]) for size in sizes)]


def _describe_machine(command: str) -> str:
    cores = os.cpu_count()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    versions = ", ".join(f"{name} {version}" for name, version in describe_versions().items())
    return (
        f"The last command was `{command}`, {datetime.now(UTC):%Y-%m-%d}, on a machine of {cores} "
        f"cores and {memory:.0f} GiB\nof memory, with {versions}.\nA line with another date is "
        "of an earlier one."
    )
