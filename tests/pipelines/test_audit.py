"""Which receipts are not as the manifest lists their slices?"""

from __future__ import annotations

import re
from collections import Counter

import pytest

from pipelines import readers, storage
from pipelines.audit import Audit, audit_receipts
from pipelines.manifest import open_manifest
from pipelines.receipts import RowCounts, find_committed, find_standing
from pipelines.tables import slice_name
from tests.builders import put_receipt
from tests.pipelines.manifest.written import CountedReads, make_slices, write_first, write_later
from tests.pipelines.written_receipts import commit


@pytest.mark.parametrize("content", [b"", b"PAR1", b"PAR1" + bytes(100) + b"PAR1"])
def test_a_damaged_receipt_is_named_and_its_slice_is_due(tmp_path, caplog, content):
    root = str(tmp_path)
    write_first(root, make_slices("a"))
    write_later(root, 1, enumerate(make_slices("a")))
    storage.write_bytes(storage.join_uri(root, "images", slice_name(0)), content)
    assert find_committed(open_manifest(root)) == set(), "it is made anew"
    assert audit_receipts(open_manifest(root), [0]) == Audit(counts={}, due=frozenset({0}))
    assert re.search(r"images/slice-000000\.parquet: not a table.*counts as not done", caplog.text)


def test_receipts_of_another_listing_or_slice_or_gone_are_due(store_root):
    write_first(store_root, make_slices("a", "b", "c", "d"))
    manifest = open_manifest(store_root)
    (part,) = manifest.first_parts
    commit(store_root, 0, generation=0, images="a", listed=part, slice="0")
    commit(store_root, 1, generation=0, images="b", listed="part-00000-of-another-driver.parquet")
    commit(store_root, 2, generation=0, images="a", listed=part, slice="0")
    found = audit_receipts(manifest, range(4))
    assert found.counts.keys() == {0}
    assert found.due == {1, 2, 3}


def test_who_has_left_waits_for_no_receipt(tmp_path, monkeypatch):
    root = str(tmp_path)
    write_first(root, make_slices(*"abcdefgh"))
    for number in range(8):
        put_receipt(root, number, RowCounts())
    counted = CountedReads(monkeypatch)
    monkeypatch.setattr(readers, "_READERS", 1)
    audit_receipts(open_manifest(root), range(8), lambda: len(counted.opened) > 2)
    assert len(counted.opened) == 3


def test_rows_are_counted_slice_by_slice(store_root):
    counts = {
        0: RowCounts(images=4, boxes=9, errors=Counter(corrupt=1)),
        1: RowCounts(images=4, guesses=20, features=7),
        2: RowCounts(images=2, boxes=1, errors=Counter(corrupt=1, changed=1)),
    }
    for number, of_slice in counts.items():
        put_receipt(store_root, number, of_slice)
    write_first(store_root, make_slices("a", "b", "c"))
    manifest = open_manifest(store_root)
    assert audit_receipts(manifest, [0, 1, 2]) == Audit(counts=counts, due=frozenset())
    assert audit_receipts(manifest, {1}).counts == {1: counts[1]}
    assert audit_receipts(manifest, []) == Audit(counts={}, due=frozenset())


@pytest.mark.parametrize(
    ("receipt", "is_due"), [(0, True), (1, False), (2, True), (3, True), (4, False)]
)
def test_a_receipt_of_a_generation_that_lists_no_such_slice_is_due(store_root, receipt, is_due):
    """The listing that it is of was replaced by another driver's; a later one is to come."""
    write_first(store_root, make_slices("a", "b"))
    write_later(store_root, 1, enumerate(make_slices("a")), slices_of_run=2)
    for generation in (2, 3):
        write_later(store_root, generation, [(1, make_slices("b")[0])], slices_of_run=2)
    commit(store_root, 0, generation=receipt, images="a")
    manifest = open_manifest(store_root)
    place = manifest.place_of(0)
    assert (audit_receipts(manifest, [0]).due == {0}) is is_due
    standing = find_standing(store_root, 0, place.generation, place.part)
    assert (standing is None) is is_due
    assert (0 in find_committed(manifest)) is not is_due


def test_who_knows_an_older_manifest_leaves_later_receipts_alone(store_root):
    write_first(store_root, make_slices("a"))
    first = open_manifest(store_root).place_of(0)
    commit(store_root, 0, generation=1, images="b")
    assert find_standing(store_root, 0, 0, first.part) is not None, "a newer manifest is to come"
    write_later(store_root, 1, enumerate(make_slices("b")))
    assert find_standing(store_root, 0, 0, first.part) is not None
    write_later(store_root, 2, enumerate(make_slices("c")))
    assert find_standing(store_root, 0, 0, first.part) is not None, "to be done, but not by it"
