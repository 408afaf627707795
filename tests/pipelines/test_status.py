"""Does `status` tell how far a run is, from its manifest and receipts alone?"""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from dataclasses import asdict, replace

import pytest

from jobs.status import describe
from pipelines import manifest, storage
from pipelines.errors import InputError
from pipelines.receipts import RowCounts
from pipelines.status import StatusConfig, read_status
from pipelines.storage import ObjectInfo
from pipelines.tables import IMAGES_SCHEMA, Provenance, encode_table, slice_name
from tests.builders import list_all, put_receipt
from tests.pipelines.manifest.written import write_first, write_later


def start_run(root, *, slices, images=4):
    write_first(root, list_slices(range(slices), images))


def list_slices(numbers, images=4):
    return [[ObjectInfo(uri=f"{n}-{m}") for m in range(images)] for n in numbers]


def update_slices(root, generation, numbers, **counts):
    """Write the generation of an update, whose summary counts the whole run."""
    slices = zip(numbers, list_slices(numbers), strict=True)
    summary = write_later(root, generation, slices, **counts)
    folder = manifest.generation_folder(root, generation)
    whole = asdict(replace(summary, images=4 * summary.slices))
    storage.write_bytes(storage.join_uri(folder, manifest.COMPLETE), json.dumps(whole).encode())


def put_updated_receipt(root, number, generation, counts):
    provenance = Provenance(fingerprint="f", generation=generation)
    table = IMAGES_SCHEMA.empty_table()
    data = encode_table(table, IMAGES_SCHEMA, provenance, counts=counts.encode())
    storage.write_bytes(storage.join_uri(root, "images", slice_name(number)), data)


def put_aged_receipt(root, number, *, seconds_ago, **counts):
    put_receipt(root, number, RowCounts(**counts))
    age_receipt(root, number, seconds_ago)


def age_receipt(root, number, seconds_ago):
    written = time.time() - seconds_ago
    os.utime(storage.join_uri(root, "images", slice_name(number)), (written, written))


def status_of(root):
    return read_status(StatusConfig(output=root))


def test_a_run_in_the_middle_is_counted(store_root):
    start_run(store_root, slices=5)
    put_receipt(store_root, 1, RowCounts(images=4, boxes=7, errors=Counter(corrupt=1)))
    put_receipt(store_root, 4, RowCounts(images=4, boxes=1, errors=Counter(corrupt=1, changed=1)))
    status = status_of(store_root)
    assert (status.slices, status.slices_done) == (5, 2)
    assert (status.images, status.images_done) == (20, 8)
    assert (status.boxes, status.failed) == (8, 3)
    assert list(status.errors.items()) == [("corrupt", 2), ("changed", 1)]


def test_before_the_first_receipt_nothing_is_known_of_the_rate(store_root):
    start_run(store_root, slices=5)
    status = status_of(store_root)
    assert (status.slices_done, status.images_done, status.failed) == (0, 0, 0)
    assert status.images_per_second is None
    assert status.seconds_left is None


def test_one_receipt_gives_no_rate(tmp_path):
    start_run(str(tmp_path), slices=5)
    put_aged_receipt(str(tmp_path), 0, seconds_ago=60, images=4)
    assert status_of(str(tmp_path)).images_per_second is None


def test_the_rate_is_that_of_the_recent_receipts(tmp_path):
    start_run(str(tmp_path), slices=10)
    for number, seconds_ago in enumerate((9000, 8000, 100, 50, 0)):
        put_aged_receipt(str(tmp_path), number, seconds_ago=seconds_ago, images=4)
    status = status_of(str(tmp_path))
    # Two slices of four images in the hundred seconds since the first recent receipt.
    assert status.images_per_second == pytest.approx(8 / 100, rel=0.02)
    assert status.seconds_left == pytest.approx(20 / 0.08, rel=0.02)


def test_the_last_slice_tells_since_when_nothing_was_committed(tmp_path):
    start_run(str(tmp_path), slices=5)
    assert status_of(str(tmp_path)).seconds_since_last is None
    for number, seconds_ago in enumerate((50, 3600)):
        put_aged_receipt(str(tmp_path), number, seconds_ago=seconds_ago, images=4)
    assert status_of(str(tmp_path)).seconds_since_last == pytest.approx(50, abs=5)


def test_a_clock_of_the_store_that_is_ahead_gives_no_time_to_come(tmp_path):
    start_run(str(tmp_path), slices=5)
    put_aged_receipt(str(tmp_path), 0, seconds_ago=-60, images=4)
    assert status_of(str(tmp_path)).seconds_since_last == 0


def test_a_status_is_written_for_people(tmp_path):
    start_run(str(tmp_path), slices=5)
    assert "last    -\n" in describe(status_of(str(tmp_path)))
    put_aged_receipt(str(tmp_path), 0, seconds_ago=3600, images=4)
    assert "last    a slice 1:00:00 ago\n" in describe(status_of(str(tmp_path)))


def test_a_run_that_stands_still_has_no_rate(tmp_path):
    start_run(str(tmp_path), slices=10)
    for number in range(3):
        put_aged_receipt(str(tmp_path), number, seconds_ago=3600 - number, images=4)
    status = status_of(str(tmp_path))
    assert status.images_per_second is None
    assert status.seconds_left is None


def test_a_finished_run_has_no_time_left(tmp_path):
    start_run(str(tmp_path), slices=2)
    for number in range(2):
        put_aged_receipt(str(tmp_path), number, seconds_ago=86_400, images=4)
    status = status_of(str(tmp_path))
    assert (status.slices_done, status.images_done) == (2, 8)
    assert status.seconds_left == 0


def test_where_no_run_is_nothing_is_made_up(store_root):
    with pytest.raises(InputError, match="no run there"):
        status_of(storage.join_uri(store_root, "absent"))


def test_an_update_has_the_slices_that_it_touches_still_to_do(store_root):
    start_run(store_root, slices=4)
    for number in range(4):
        put_receipt(store_root, number, RowCounts(images=4, boxes=2))
    update_slices(store_root, 1, [1, 2, 4])
    put_updated_receipt(store_root, 2, 1, RowCounts(images=4, boxes=9, errors=Counter(changed=1)))
    status = status_of(store_root)
    assert (status.slices, status.slices_done) == (5, 3)
    assert (status.images, status.images_done) == (20, 12)
    # What the touched slices had before is no more to be counted.
    assert (status.boxes, status.errors) == (2 + 2 + 9, {"changed": 1})


def test_a_finished_update_is_finished(tmp_path):
    start_run(str(tmp_path), slices=2)
    for number in range(2):
        put_aged_receipt(str(tmp_path), number, seconds_ago=86_400, images=4)
    update_slices(str(tmp_path), 1, [1, 2])
    for number in (1, 2):
        put_updated_receipt(str(tmp_path), number, 1, RowCounts(images=4))
    status = status_of(str(tmp_path))
    assert (status.slices_done, status.images_done, status.seconds_left) == (3, 12, 0)


def test_an_update_that_is_still_being_planned_is_not_seen(tmp_path):
    start_run(str(tmp_path), slices=2)
    for number in range(2):
        put_receipt(str(tmp_path), number, RowCounts(images=4))
    update_slices(str(tmp_path), 1, [0, 2])
    storage.delete([str(tmp_path / "manifest" / "generation-000001" / "complete.json")])
    status = status_of(str(tmp_path))
    assert (status.slices, status.slices_done, status.seconds_left) == (2, 2, 0)


def test_the_rate_of_an_update_is_that_of_its_own_receipts(tmp_path):
    """Receipts of before stand there too, some of them recent."""
    start_run(str(tmp_path), slices=10)
    for number in range(10):
        put_aged_receipt(str(tmp_path), number, seconds_ago=9_000, images=4)
    put_aged_receipt(str(tmp_path), 9, seconds_ago=500, images=4)
    update_slices(str(tmp_path), 1, range(4, 10), slices_of_run=10)
    for number, seconds_ago in ((4, 100), (5, 50), (6, 0)):
        put_updated_receipt(str(tmp_path), number, 1, RowCounts(images=4))
        age_receipt(str(tmp_path), number, seconds_ago)
    status = status_of(str(tmp_path))
    assert status.images_per_second == pytest.approx(8 / 100, rel=0.02)
    assert status.seconds_left == pytest.approx(12 / 0.08, rel=0.02)


def test_looking_writes_nothing(store_root):
    start_run(store_root, slices=2)
    put_receipt(store_root, 0, RowCounts(images=4))
    before = list_all(store_root)
    status_of(store_root)
    assert list_all(store_root) == before
