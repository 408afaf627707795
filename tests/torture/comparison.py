"""Which rows does a run miss, and which does it hold twice, against one that nobody disturbed?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

import pyarrow as pa

from pipelines import storage
from pipelines.tables import BOXES, FEATURES, GUESSES, IMAGES
from tests.builders import read_rows

TABLES = (IMAGES, BOXES, GUESSES, FEATURES)


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """Two runs, row by row."""

    rows: int = 0
    """Rows of the run that nobody disturbed."""
    lost: int = 0
    """Of these, rows that the other one does not hold bit for bit."""
    doubled: int = 0
    """Rows that the other one holds beyond them."""

    def __add__(self, other: Comparison) -> Comparison:
        return Comparison(
            rows=self.rows + other.rows,
            lost=self.lost + other.lost,
            doubled=self.doubled + other.doubled,
        )


def compare_runs(
    output: str, undisturbed: str, *, but: AbstractSet[str] = frozenset()
) -> Comparison:
    """Compare all tables of two runs but for some images, in whatever order their rows stand."""
    found, wanted = (_list_tables(root) for root in (output, undisturbed))
    assert found == wanted, f"{output}: has {sorted(found)}, expected {sorted(wanted)}"
    return sum((_compare(output, undisturbed, table, but) for table in wanted), Comparison())


def _list_tables(root: str) -> set[str]:
    return {name for name in TABLES if storage.list_names(storage.join_uri(root, name))}


def _compare(output: str, undisturbed: str, table: str, but: AbstractSet[str]) -> Comparison:
    found, wanted = (_leave_out(read_rows(root, table), but) for root in (output, undisturbed))
    if found.equals(wanted):
        return Comparison(rows=len(wanted))
    rows, expected = Counter(_encode_rows(found)), Counter(_encode_rows(wanted))
    return Comparison(
        rows=len(wanted),
        lost=(expected - rows).total(),
        # A row that differs is lost; what stands in its place is no second one.
        doubled=max(0, len(found) - len(wanted)),
    )


def _leave_out(table: pa.Table, images: AbstractSet[str]) -> pa.Table:
    is_in = [image not in images for image in table["image"].to_pylist()]
    return table.filter(pa.array(is_in, pa.bool_())) if images else table


def _encode_rows(table: pa.Table) -> Iterable[str]:
    # Python writes a float so that it reads back bit for bit.
    return (repr(row) for row in table.to_pylist())
