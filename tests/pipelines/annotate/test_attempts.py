"""Does a slice that takes its workers down end, with the image that does it found?"""

from __future__ import annotations

import logging
from dataclasses import replace

import numpy as np
import pytest

from overfeat.views import PreparedImage
from pipelines import storage
from pipelines.annotate import graph
from pipelines.annotate.attempts import MOST_STARTS, Attempts, note_start, read_attempts
from pipelines.annotate.rehearsal import Rehearsal
from pipelines.annotate.run import annotate
from pipelines.annotate.stages import READ_SCHEMA, detect_slice, rehearse_slice, write_slice
from pipelines.errors import ImageError, ImageReason, PipelineError
from pipelines.weights import fetch_model
from tests.builders import (
    do_slice,
    encode_picture,
    list_all,
    look_again,
    make_config,
    make_picture,
    open_model,
    read_numbered,
    read_rows,
    start_run,
    write_pictures,
)
from tests.pipelines.annotate import deadly
from tests.pipelines.annotate.file_reads import FileReads


def name_of(row):
    return row["image"].rpartition("/")[2]


def start(attempts, *stages, number=7, generation=0):
    """The attempts that these stages of a slice are, one after the other; all is noted."""
    found = []
    for stage in stages:
        begun = attempts.start(number, generation, stage)
        note_start(attempts.output, number, generation, begun)
        found.append(begun.attempt)
    return found


def open_attempts(output):
    attempts = Attempts(output)
    attempts.output = output
    return attempts


def test_starts_of_a_stage_are_counted_from_one(tmp_path):
    attempts = open_attempts(str(tmp_path))
    assert start(attempts, "read", "read", "read", "detect", "write") == [1, 2, 3, 1, 1]
    assert start(attempts, "read", number=8) == [1]
    assert start(attempts, "read", generation=1) == [1]


def test_the_next_driver_goes_on_with_the_last_attempt(store_root):
    start(open_attempts(store_root), "read", "read", "read", "detect", "detect")
    start(open_attempts(store_root), "read", number=8)
    assert read_attempts(store_root) == {(7, 0): 3}
    assert list_all(store_root) == ["attempts/slice-000007.json"]
    assert start(open_attempts(store_root), "read", "read", "detect") == [3, 4, 3]
    assert start(open_attempts(store_root), "read", number=8) == [1]


def test_drivers_under_whom_nothing_dies_count_no_attempt(tmp_path):
    start(open_attempts(str(tmp_path)), "read", "read")
    for _ in range(3):
        assert start(open_attempts(str(tmp_path)), "read", "detect", "write") == [2, 2, 2]
    assert read_attempts(str(tmp_path)) == {(7, 0): 2}


def test_another_generation_begins_anew(tmp_path):
    start(open_attempts(str(tmp_path)), "read", "read", "read")
    attempts = open_attempts(str(tmp_path))
    assert start(attempts, "read", "read", generation=1) == [1, 2]
    assert read_attempts(str(tmp_path)) == {(7, 1): 2}


@pytest.mark.parametrize("data", [b"", b"[1]", b'{"attempts": "many"}', b'{"attempts": 2}'])
def test_a_note_that_cannot_be_read_is_told_and_left_out(tmp_path, data, caplog):
    storage.write_bytes(str(tmp_path / "attempts" / "slice-000007.json"), data)
    with caplog.at_level(logging.WARNING):
        assert read_attempts(str(tmp_path)) == {}
    assert "slice-000007.json: not a number of attempts" in caplog.text


def test_a_note_that_is_deleted_while_the_notes_are_read_is_left_out(store_root, monkeypatch):
    start(open_attempts(store_root), "read", "read")
    list_names = storage.list_names

    def list_one_more(folder):
        return {*list_names(folder), "slice-000008.json"}

    monkeypatch.setattr(storage, "list_names", list_one_more)
    assert read_attempts(store_root) == {(7, 0): 2}


def test_a_slice_that_no_care_helps_ends_the_run(tmp_path):
    attempts = open_attempts(str(tmp_path))
    start(attempts, *["read"] * MOST_STARTS)
    with pytest.raises(PipelineError, match=f"slice 7: took its worker down {MOST_STARTS} times"):
        start(attempts, "read")


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


@pytest.mark.parametrize("generation", [0, 1])
def test_a_committed_slice_that_is_started_again_is_not_read_and_keeps_its_rows(
    tmp_path, checkpoint, generation
):
    """A node may be lost after the receipt stands and before anybody has heard of it."""
    folder = tmp_path / "in"
    write_pictures(str(folder), 3)
    config = make_config(str(tmp_path), checkpoint)
    stages = start_run(config, config.output)
    do_slice(config, stages)
    if generation:
        storage.write_bytes(str(folder / "photo-000.jpg"), encode_picture(make_picture(9)))
        look_again(config, config.output)
        do_slice(config, stages)
    before = [read_rows(config.output, table) for table in ("images", "boxes")]
    with FileReads(folder) as reads:
        table = read_numbered(0, stages, again=True)
        write_slice(detect_slice(table, open_model(config), stages), stages)
        assert reads.names() == set()
    assert [read_rows(config.output, table) for table in ("images", "boxes")] == before


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
    assert read_attempts(config.output) == {(0, 0): 3}
    beside = [row for row in images if row["slice"] == 0 and not row["error"]]
    alone = [row for row in read_rows(plain, "images").to_pylist() if row["slice"] == 0]
    assert [row | {"fingerprint": ""} for row in beside] == [
        row | {"fingerprint": ""} for row in alone[:2]
    ]


def test_a_child_that_cannot_start_blames_no_image(tmp_path, checkpoint, caplog):
    """Of a machine without room for a second model nobody knows which image is deadly."""
    config = make_config(str(tmp_path), checkpoint)
    files = replace(fetch_model([checkpoint]), members=())
    rehearsal = Rehearsal(
        files, config.predict_config(), config.tasks, device="cpu", dtype="float32", threads=1
    )
    image = PreparedImage(pixels=np.zeros((9, 9, 3), np.uint8), height=9, width=9)
    with rehearsal, caplog.at_level(logging.WARNING):
        rehearsal(image)
        rehearsal(image)
    assert caplog.text.count("images are not tried in a process of their own") == 1
