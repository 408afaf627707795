"""When do two runs agree? Rows made in other batches differ in their last bits (invariant 3)."""

from __future__ import annotations

import numpy as np

from overfeat.boxes import intersection_over_union
from tests.builders import read_rows

CORNERS = ["x_min", "y_min", "x_max", "y_max"]
_EXACT = ["image", "status", "error_type", "size", "width", "height", "n_boxes", "labels"]


def is_same_box(found, golden):
    """The same label, IoU 0.99, score within 1e-3."""
    corners = [np.array([row[name] for name in CORNERS], np.float32) for row in (found, golden)]
    return (
        found["label"] == golden["label"]
        and intersection_over_union(*corners) >= 0.99
        and abs(found["score"] - golden["score"]) <= 1e-3
        and abs(found["evidence"] - golden["evidence"]) <= 1e-2 * golden["evidence"]
    )


def assert_rows_agree(output, expected, *, tables=("boxes", "guesses", "features")):
    """A run in several generations has the rows of one that was started afresh.

    Stricter than the contract: boxes and guesses are paired by their ranks, all of them.
    """
    found, wanted = (_sort_rows(root, "images", "image") for root in (output, expected))
    assert [_only(row, _EXACT) for row in found] == [_only(row, _EXACT) for row in wanted]
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_allclose(one["scores"], other["scores"], rtol=0, atol=1e-3)
    for table in tables:
        keys = {"boxes": ["image", "box"], "guesses": ["image", "rank"]}
        _assert_table_agrees(
            *(
                _sort_rows(root, table, *keys.get(table, ["image", "scale", "row", "col"]))
                for root in (output, expected)
            )
        )


def _assert_table_agrees(found, wanted):
    assert len(found) == len(wanted) > 0
    for one, other in zip(found, wanted, strict=True):
        assert one["image"] == other["image"]
        if "vector" in one:
            np.testing.assert_allclose(one["vector"], other["vector"], rtol=1e-3, atol=1e-3)
        else:
            row = {"evidence": 1.0}  # guesses have none
            assert is_same_box(row | one, row | other), (one, other)


def _sort_rows(output, table, *keys):
    rows = read_rows(output, table).to_pylist()
    return sorted(rows, key=lambda row: tuple(row[key] for key in keys))


def _only(row, names):
    return {name: row[name] for name in names}
