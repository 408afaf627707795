"""Does a write that fails ever leave half a slice, or a receipt without its boxes?"""

from __future__ import annotations

import errno
import os

import pytest

from pipelines import storage
from pipelines.annotate.stages import detect_slice, write_slice
from pipelines.errors import StorageError
from pipelines.receipts import list_receipts
from pipelines.tables import slice_name
from tests.builders import (
    list_all,
    make_config,
    open_model,
    read_file,
    read_numbered,
    read_rows,
    start_run,
    write_pictures,
)
from tests.pipelines.annotate.failing_writes import FailingWrites


def write_all(detected, stages):
    for table in detected:
        write_slice(table, stages)


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("failing", [0, 1, 2, 3])
def test_a_write_that_fails_leaves_whole_objects_and_receipts_with_their_boxes(
    store_root, checkpoint, monkeypatch, failing, after
):
    write_pictures(storage.join_uri(store_root, "in"), 4)
    config = make_config(store_root, checkpoint, slice_size=2)
    stages = start_run(config, config.output)
    detected = [detect_slice(read_numbered(n, stages), open_model(config), stages) for n in (0, 1)]
    with monkeypatch.context() as patch:
        FailingWrites(patch, failing=failing, after=after)
        with pytest.raises(StorageError):
            write_all(detected, stages)
    committed = list_receipts(config.output)
    assert len(committed) == (failing + after) // 2
    for number in committed:
        for table in ("images", "boxes"):
            read_file(storage.join_uri(config.output, table, slice_name(number)))
    write_all(detected, stages)
    assert read_rows(config.output, "images").num_rows == 4
    assert list_receipts(config.output) == {0, 1}
    assert not [name for name in list_all(config.output) if name.endswith(".tmp")]


@pytest.mark.parametrize("failing", ["fsync", "link"])
def test_a_full_disk_leaves_no_partial_object(tmp_path, checkpoint, monkeypatch, failing):
    write_pictures(str(tmp_path / "in"), 2)
    config = make_config(str(tmp_path), checkpoint)
    stages = start_run(config, config.output)
    detected = detect_slice(read_numbered(0, stages), open_model(config), stages)

    def fail(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, failing, fail)
        with pytest.raises(StorageError, match="full"):
            write_slice(detected, stages)
    assert [name for name in list_all(config.output) if "manifest" not in name] == []
