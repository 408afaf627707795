"""Does a slice that takes its workers down end, with the image that does it found?"""

from __future__ import annotations

import logging

import pytest

from pipelines import storage
from pipelines.annotate import graph
from pipelines.annotate.attempts import MOST_STARTS, Attempts, Start, note_start, read_attempts
from pipelines.annotate.run import annotate
from pipelines.annotate.stages import READ_SCHEMA, rehearse_slice
from pipelines.errors import ImageError, ImageReason, PipelineError
from tests.builders import (
    do_slice,
    encode_picture,
    list_all,
    make_config,
    make_picture,
    read_numbered,
    read_rows,
    start_run,
    write_pictures,
)
from tests.pipelines.annotate import deadly


def name_of(row):
    return row["image"].rpartition("/")[2]


def test_starts_of_a_stage_are_counted_from_one(tmp_path):
    attempts = Attempts(str(tmp_path))
    assert [attempts.start(3, "read") for _ in range(3)] == [Start(n, n) for n in (1, 2, 3)]
    assert attempts.start(3, "detect") == Start(attempt=1, here=1)
    assert attempts.start(4, "read") == Start(attempt=1, here=1)


def test_the_next_driver_goes_on_counting(store_root):
    for attempt in (1, 2, 3):
        note_start(store_root, 7, Start(attempt, attempt))
    note_start(store_root, 8, Start(1, 1))
    assert read_attempts(store_root) == {7: 3}
    assert list_all(store_root) == ["attempts/slice-000007.json"]
    attempts = Attempts(store_root)
    assert attempts.start(7, "read") == Start(attempt=4, here=1)
    assert attempts.start(8, "read") == Start(attempt=1, here=1)


@pytest.mark.parametrize("data", [b"", b"[1]", b'{"attempts": "many"}', b'{"tries": 2}'])
def test_a_note_that_cannot_be_read_counts_as_one_attempt(tmp_path, data, caplog):
    storage.write_bytes(str(tmp_path / "attempts" / "slice-000007.json"), data)
    with caplog.at_level(logging.WARNING):
        assert read_attempts(str(tmp_path)) == {7: 1}
    assert "slice-000007.json: not a number of attempts" in caplog.text


def test_a_slice_that_no_care_helps_ends_the_run(tmp_path):
    note_start(str(tmp_path), 7, Start(MOST_STARTS + 5, MOST_STARTS))
    with pytest.raises(PipelineError, match=f"slice 7: took its worker down {MOST_STARTS} times"):
        note_start(str(tmp_path), 7, Start(MOST_STARTS + 1, MOST_STARTS + 1))


def test_images_decoded_apart_are_the_same(tmp_path, checkpoint):
    write_pictures(str(tmp_path / "in"), 3)
    storage.write_bytes(str(tmp_path / "in" / "bad.jpg"), b"no image")
    config = make_config(str(tmp_path), checkpoint)
    stages = start_run(config, config.output)
    columns = [name for name in READ_SCHEMA.names if not name.endswith("_seconds")]
    plain, apart = (
        read_numbered(0, stages, apart=value).select(columns) for value in (False, True)
    )
    assert plain.equals(apart)


def test_what_does_not_survive_its_rehearsal_is_left_out(tmp_path, checkpoint):
    write_pictures(str(tmp_path / "in"), 4)
    config = make_config(str(tmp_path), checkpoint)
    stages = start_run(config, config.output)
    third = iter([False, False, True, False])

    def rehearse(_):
        if next(third):
            raise ImageError(ImageReason.CRASHED, "ended by SIGSEGV; twice")

    table = rehearse_slice(read_numbered(0, stages), rehearse)
    assert table["error_type"].to_pylist() == [None, None, "crashed", None]
    assert table["error"].to_pylist()[2] == "ended by SIGSEGV; twice"
    for column in ("pixels", "pixel_width", "width", "height"):
        assert table[column].is_null().to_pylist() == [False, False, True, False]
    assert table["size"].null_count == table["etag"].null_count == 0


@pytest.mark.ray
def test_images_that_kill_their_process_get_a_reason_and_their_slice_commits(
    tmp_path, checkpoint, ray_cluster, monkeypatch
):
    write_pictures(str(tmp_path / "in"), 6)
    config = make_config(str(tmp_path), checkpoint)
    plain = str(tmp_path / "plain")
    do_slice(config, start_run(config, plain))
    for name, size in {"photo-000-1": deadly.TO_DECODE, "photo-000-2": deadly.TO_DETECT}.items():
        picture = encode_picture(make_picture(9, **size))
        storage.write_bytes(str(tmp_path / "in" / f"{name}.jpg"), picture)

    monkeypatch.setattr(graph, "read_slice", deadly.read_slice)
    monkeypatch.setattr(graph, "DetectActor", deadly.VulnerableActor)
    report = annotate(config)
    assert (report.images, report.errors) == (8, {"crashed": 2})
    images = read_rows(config.output, "images").to_pylist()
    errors = {name_of(row): row["error"] for row in images if row["error"]}
    assert errors.keys() == {"photo-000-1.jpg", "photo-000-2.jpg"}
    assert "SIGSEGV" in errors["photo-000-1.jpg"]
    assert "SIGKILL" in errors["photo-000-2.jpg"]
    assert list_all(str(tmp_path / "out" / "attempts")) == ["slice-000000.json"]
    assert read_attempts(config.output) == {0: 3}
    beside = [row for row in images if row["slice"] == 0 and not row["error"]]
    alone = [row for row in read_rows(plain, "images").to_pylist() if row["slice"] == 0]
    assert [row | {"fingerprint": ""} for row in beside] == [
        row | {"fingerprint": ""} for row in alone[:2]
    ]
