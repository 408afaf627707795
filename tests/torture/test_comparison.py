"""Does the comparison see what is lost and what is doubled?"""

from __future__ import annotations

import shutil

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.pipelines.whole_run import write_whole_run
from tests.torture.comparison import Comparison, compare_runs


@pytest.fixture
def runs(tmp_path):
    """Two runs of nine images and 27 boxes that are alike."""
    one = write_whole_run(str(tmp_path / "one"), [4, 5])
    return shutil.copytree(one, str(tmp_path / "other")), one


def change(path, edit):
    table = pq.read_table(path)
    pq.write_table(edit(table), path)


def test_runs_that_are_alike_have_lost_and_doubled_nothing(runs):
    assert compare_runs(*runs) == Comparison(rows=9 + 27)


def test_a_missing_row_is_lost(runs):
    change(f"{runs[0]}/images/slice-000001.parquet", lambda table: table.slice(1))
    assert compare_runs(*runs) == Comparison(rows=36, lost=1)


def test_a_row_twice_is_doubled(runs):
    change(
        f"{runs[0]}/boxes/slice-000000.parquet",
        lambda table: pa.concat_tables([table, table.slice(2, 2)]),
    )
    assert compare_runs(*runs) == Comparison(rows=36, doubled=2)


def test_a_row_that_differs_in_one_bit_is_lost(runs):
    def nudge(table):
        scores = table["score"].to_numpy().copy()
        scores.view("u4")[3] ^= 1
        place = table.schema.get_field_index("score")
        return table.set_column(place, table.schema.field(place), pa.array(scores))

    change(f"{runs[0]}/boxes/slice-000001.parquet", nudge)
    assert compare_runs(*runs) == Comparison(rows=36, lost=1)


def test_rows_in_another_order_are_the_same_rows(runs):
    change(
        f"{runs[0]}/images/slice-000000.parquet",
        lambda table: pa.concat_tables([table.slice(2), table.slice(0, 2)]),
    )
    assert compare_runs(*runs) == Comparison(rows=36)


def test_rows_of_images_that_are_left_out_may_differ(runs):
    table = pq.read_table(f"{runs[0]}/images/slice-000001.parquet")
    first = table["image"][0].as_py()
    change(f"{runs[0]}/images/slice-000001.parquet", lambda table: table.slice(1))
    assert compare_runs(*runs, but={first}) == Comparison(rows=8 + 27 - 3)


def test_a_missing_table_is_an_error(runs):
    shutil.rmtree(f"{runs[0]}/boxes")
    with pytest.raises(AssertionError, match="boxes"):
        compare_runs(*runs)
