"""Does `status` tell how far a run is, from its manifest and receipts alone?"""

from __future__ import annotations

import os
import time
from collections import Counter

import pytest

from pipelines import manifest, storage
from pipelines.errors import InputError
from pipelines.receipts import RowCounts
from pipelines.status import StatusConfig, read_status
from pipelines.storage import ObjectInfo
from pipelines.tables import slice_name
from tests.builders import list_all, put_receipt


def start_run(root, *, slices, images=4):
    infos = [[ObjectInfo(uri=f"{n}-{m}") for m in range(images)] for n in range(slices)]
    manifest.write_manifest(root, infos, count_skipped=lambda: 0)


def put_aged_receipt(root, number, *, seconds_ago, **counts):
    put_receipt(root, number, RowCounts(**counts))
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


def test_looking_writes_nothing(store_root):
    start_run(store_root, slices=2)
    put_receipt(store_root, 0, RowCounts(images=4))
    before = list_all(store_root)
    status_of(store_root)
    assert list_all(store_root) == before
