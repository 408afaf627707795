from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.errors import StorageError
from pipelines.shards.config import ShardsConfig
from pipelines.shards.places import records_name
from pipelines.shards.plan import cut, make_plan, open_plan, read_records, shuffle
from pipelines.shards.records import Listing, Record
from pipelines.storage import ObjectInfo

SETTINGS = settings(max_examples=50, deadline=None, derandomize=True)


def make_records(sizes):
    return [
        Record(
            key=f"k{at}",
            name=f"k{at}.jpg",
            image=ObjectInfo(uri=f"/in/k{at}.jpg", size=size, etag=f"e{at}"),
            label=at if at % 2 else None,
            beside=("/in/a.xml",) if at % 3 else (),
            note="{}" if at % 2 else None,
        )
        for at, size in enumerate(sizes)
    ]


def make_small_plan(folder, records, *, split="val", **changes):
    config = ShardsConfig(
        source="voc", input="in", output=folder, split=split, samples_per_shard=2, **changes
    )
    listing = Listing(classes=("a",), class_ids=("b",), keypoints=("c",), records=records)
    return make_plan(folder, config, config.describe_recipe(), listing)


@SETTINGS
@given(st.lists(st.integers(0, 100), max_size=30), st.integers(1, 5), st.integers(1, 250))
def test_shards_hold_all_records_in_order_within_both_limits(sizes, samples, size_bytes):
    records = make_records(sizes)

    groups = list(cut(records, samples=samples, size_bytes=size_bytes))

    assert [record for group in groups for record in group] == records
    assert all(1 <= len(group) <= samples for group in groups)
    for group in groups:
        assert len(group) == 1 or sum(one.image.size for one in group) <= size_bytes


@SETTINGS
@given(st.lists(st.integers(0, 9), max_size=30), st.integers(0, 99))
def test_a_shuffled_order_is_the_same_whatever_order_was_listed(sizes, seed):
    records = make_records(sizes)

    assert shuffle(records, seed) == shuffle(records[::-1], seed)
    assert sorted(shuffle(records, seed), key=records.index) == records


def test_seeds_give_different_orders():
    records = make_records([1] * 20)

    assert shuffle(records, 1) != shuffle(records, 2)
    assert shuffle(records, 1) != records


def test_a_plan_comes_back_as_it_was_made(tmp_path):
    records = make_records([5, 6, 7])
    plan = make_small_plan(str(tmp_path), records)

    assert open_plan(str(tmp_path), "val") == plan
    assert (plan.shards, plan.records) == (2, 3)
    assert read_records(str(tmp_path), "val", plan.digest, 0) == records[:2]
    assert read_records(str(tmp_path), "val", plan.digest, 1) == records[2:]


def test_a_plan_made_beside_another_one_leaves_the_records_of_that_one(tmp_path):
    """Two commands that start at the same moment, while the input changes."""
    first = make_small_plan(str(tmp_path), make_records([5, 6, 7]))
    second = make_small_plan(str(tmp_path), make_records([5, 6, 8]))

    assert first.digest != second.digest
    for plan, size in ((first, 7), (second, 8)):
        (record,) = read_records(str(tmp_path), "val", plan.digest, 1)
        assert record.image.size == size


def test_training_splits_alone_are_shuffled(tmp_path):
    records = make_records([1] * 12)
    orders = {}
    for split in ("train", "val"):
        digest = make_small_plan(str(tmp_path), records, split=split).digest
        shards = [read_records(str(tmp_path), split, digest, shard) for shard in range(6)]
        orders[split] = [one for shard in shards for one in shard]
    assert orders["val"] == records
    assert orders["train"] == shuffle(records, 2013) != records


def test_a_plan_that_was_not_finished_is_none(tmp_path):
    make_small_plan(str(tmp_path), make_records([1]))
    (tmp_path / "packing/val/plan.json").unlink()

    assert open_plan(str(tmp_path), "val") is None


@pytest.mark.parametrize("text", ["{", "[]", "{}"])
def test_a_damaged_plan_is_named(text, tmp_path):
    make_small_plan(str(tmp_path), make_records([1]))
    (tmp_path / "packing/val/plan.json").write_text(text)

    with pytest.raises(StorageError, match=r"plan\.json: not a plan of this program"):
        open_plan(str(tmp_path), "val")


def test_damaged_or_missing_records_are_named(tmp_path):
    digest = make_small_plan(str(tmp_path), make_records([1])).digest
    records = tmp_path / "packing" / "val" / records_name(digest)

    records.write_bytes(b"no")
    with pytest.raises(StorageError, match=r"records-[0-9a-f]{16}\.parquet: not a plan"):
        read_records(str(tmp_path), "val", digest, 0)
    records.unlink()
    with pytest.raises(StorageError, match=r"records-[0-9a-f]{16}\.parquet: missing"):
        read_records(str(tmp_path), "val", digest, 0)
