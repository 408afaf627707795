"""What a part of the torture did, and what came of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True, slots=True)
class Record:
    """One part that ended well: whatever was wrong has raised."""

    faults: Mapping[str, int] = field(default_factory=dict)
    """How many were injected, by kind; the work went on after every one."""
    rows: int = 0
    """Rows that were compared with those of a run that nobody disturbed."""
    lost: int = 0
    """Of these, rows that are missing or differ in any bit."""
    doubled: int = 0
    """Rows that stand there twice."""
    reread: int | None = None
    """Images that were read though their slice was committed; None if nobody looked."""
    notes: tuple[str, ...] = ()
    """What else was measured or done, a sentence each."""
    table: tuple[tuple[str, ...], ...] = ()
    """Measurements, the first row their names."""

    @property
    def is_well(self) -> bool:
        """Whether every row stands there once, and none was made twice."""
        return not (self.lost or self.doubled or self.reread)


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """How a part ended."""

    part: str
    """Its name."""
    seed: int
    """The one that shows it again."""
    seconds: float
    """Wall time."""
    record: Record | None
    """What it did; None if it failed."""
    failure: str = ""
    """What went wrong; "" if nothing did."""
