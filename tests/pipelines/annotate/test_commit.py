"""Can a process that was paused, or taken for dead, bring back rows that are older than others?"""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest

from pipelines import receipts, storage
from pipelines.annotate.attempts import MOST_STARTS, Start, note_start
from pipelines.annotate.kept import RowsChangedError
from pipelines.annotate.stages import detect_slice, write_slice
from pipelines.errors import ImageError, ImageReason, PipelineError
from pipelines.lease import Lease, LeaseLostError
from pipelines.manifest import generation_folder, open_manifest
from pipelines.receipts import find_committed
from pipelines.storage import OvertakenError
from pipelines.tables import read_notes, slice_name
from tests.builders import (
    annotate_without_ray,
    assert_same_rows,
    do_slice,
    encode_picture,
    finish_without_ray,
    list_all,
    look_again,
    make_config,
    make_picture,
    open_model,
    read_numbered,
    start_run,
    write_pictures,
)
from tests.pipelines.drivers import SILENT, put_holder

pytestmark = pytest.mark.usefixtures("fake_model")


@pytest.fixture(params=["local", pytest.param("moto", marks=pytest.mark.s3)])
def strict_root(request, tmp_path):
    """Stores that decide at the put, or right before it, what it may replace."""
    if request.param == "local":
        return str(tmp_path)
    return f"s3://{request.getfixturevalue('moto_bucket')}/run"


def start(root, checkpoint, count=3):
    write_pictures(storage.join_uri(root, "in"), count)
    return make_config(root, checkpoint)


def change(root, number):
    uri = storage.join_uri(root, "in", f"photo-{number:03d}.jpg")
    storage.write_bytes(uri, encode_picture(make_picture(100 + number)))


def uri_of(config, table, number=0):
    return storage.join_uri(config.output, table, slice_name(number))


def contents(config):
    return {name: storage.read_bytes(uri_of(config, name)) for name in ("boxes", "images")}


def detect(config, stages):
    return detect_slice(read_numbered(0, stages), open_model(config), stages)


def pause_before_put(patch, which, meanwhile):
    """Let a worker sleep between its look at the lease and its put; what happens meanwhile does."""
    puts, write_bytes = iter(range(100)), storage.write_bytes

    def sleep_then_write(uri, data, **options):
        if next(puts) == which:
            patch.setattr(storage, "write_bytes", write_bytes)
            meanwhile()
        write_bytes(uri, data, **options)

    patch.setattr(storage, "write_bytes", sleep_then_write)


@pytest.mark.parametrize("which", [0, 1])
def test_a_worker_that_slept_through_a_run_and_an_update_changes_nothing(
    strict_root, checkpoint, monkeypatch, which
):
    config = start(strict_root, checkpoint)
    stages = start_run(config, config.output)
    old = detect(config, stages)

    def run_and_update():
        do_slice(config, stages)
        change(strict_root, 1)
        look_again(config, config.output)
        finish_without_ray(config, stages)
        after.update(contents(config))

    after = {}
    with monkeypatch.context() as patch:
        pause_before_put(patch, which, run_and_update)
        write_slice(old, stages)
    assert contents(config) == after


def test_a_worker_that_slept_until_another_driver_came_puts_nothing(
    strict_root, checkpoint, monkeypatch
):
    config = start(strict_root, checkpoint)
    with Lease(start_run(config, config.output).output, times=SILENT) as lease:
        stages = replace(start_run(config, config.output), lease=lease.id)
        old = detect(config, stages)

        def relieve():
            put_holder(config.output)
            storage.write_bytes(uri_of(config, "boxes"), b"of the other driver")

        with monkeypatch.context() as patch:
            pause_before_put(patch, 0, relieve)
            with pytest.raises(LeaseLostError):
                write_slice(old, stages)
    assert storage.read_bytes(uri_of(config, "boxes")) == b"of the other driver"


def test_two_attempts_at_a_slice_that_meet_leave_one_whole(strict_root, checkpoint, monkeypatch):
    """Ray starts a task anew whose worker it has lost sight of; both differ in what failed."""
    config = start(strict_root, checkpoint)
    stages = start_run(config, config.output)
    old = detect(config, stages)
    change(strict_root, 1)
    new = detect(config, stages)
    with monkeypatch.context() as patch:
        pause_before_put(patch, 1, lambda: write_slice(new, stages))
        write_slice(old, stages)
    # Whichever it is, the receipt names the tables that stand there.
    receipt = receipts.read_receipt(config.output, 0)
    assert receipts.list_foreign(config.output, 0, receipt) == []


class Killed(BaseException):
    """The process ended here."""


def meet_before_the_receipt(config, stages, monkeypatch):
    """One attempt sleeps before its receipt; another, that could read, is killed before its own."""
    new = detect(config, stages)
    lost = ImageError(ImageReason.UNAVAILABLE, "the store did not answer")
    with monkeypatch.context() as patch:
        patch.setattr(storage, "read_objects", lambda objects, **_: [lost] * len(objects))
        old = detect(config, stages)
    write_bytes = storage.write_bytes

    def die_at_the_receipt(uri, data, **options):
        if "/images/" in uri:
            raise Killed
        write_bytes(uri, data, **options)

    def start_and_die():
        with monkeypatch.context() as patch:
            patch.setattr(storage, "write_bytes", die_at_the_receipt)
            with pytest.raises(Killed):
                write_slice(new, stages)

    with monkeypatch.context() as patch:
        pause_before_put(patch, 1, start_and_die)
        write_slice(old, stages)


def test_a_late_receipt_beside_tables_of_another_attempt_commits_no_slice(
    strict_root, checkpoint, monkeypatch
):
    config = start(strict_root, checkpoint)
    stages = start_run(config, config.output)
    meet_before_the_receipt(config, stages, monkeypatch)
    assert read_notes(uri_of(config, "images"))["generation"] == "0"
    assert find_committed(open_manifest(config.output)) == set()
    (summary,) = finish_without_ray(config, stages)
    assert summary["images_read"] == 3
    assert find_committed(open_manifest(config.output)) == {0}
    fresh = storage.join_uri(strict_root, "fresh")
    annotate_without_ray(config, fresh)
    assert_same_rows(config.output, fresh)


def test_attempts_that_come_to_the_same_rows_are_no_contest(tmp_path, checkpoint, monkeypatch):
    """As after nearly every kill: no command has to look at such a slice."""
    config = start(str(tmp_path), checkpoint)
    stages = start_run(config, config.output)
    table = detect(config, stages)
    with monkeypatch.context() as patch:
        pause_before_put(patch, 1, lambda: write_slice(table, stages))
        write_slice(table, stages)
    assert open_manifest(config.output).contested == frozenset()


def test_an_object_that_changes_before_each_put_ends_the_commit_with_advice(
    tmp_path, checkpoint, monkeypatch
):
    config = start(str(tmp_path), checkpoint)
    stages = start_run(config, config.output)
    table = detect(config, stages)
    write_bytes, puts = storage.write_bytes, itertools.count()

    def come_in_between(uri, data, **options):
        if "/boxes/" in uri:
            write_bytes(uri, b"of another process %d" % next(puts))
        write_bytes(uri, data, **options)

    monkeypatch.setattr(storage, "write_bytes", come_in_between)
    with pytest.raises(OvertakenError, match="slice 0: another process put its objects 3 times"):
        write_slice(table, stages)
    assert next(puts) == 3


def test_a_slice_that_another_listing_of_the_generation_committed_is_done_again(
    tmp_path, checkpoint
):
    """A store that takes everything: a late complete.json has replaced the one of that driver."""
    root = str(tmp_path)
    config = start(root, checkpoint)
    stages = annotate_without_ray(config, config.output)
    for number in (1, 2):
        change(root, number)
        look_again(config, config.output)
        if number == 1:
            finish_without_ray(config, stages)
            folder = generation_folder(config.output, 1)
            storage.delete([storage.join_uri(folder, "complete.json")])
    assert find_committed(open_manifest(config.output)) == set()
    assert finish_without_ray(config, stages)[0]["images_read"] == 3
    fresh = storage.join_uri(root, "fresh")
    annotate_without_ray(config, fresh)
    assert_same_rows(config.output, fresh)


def test_a_committed_slice_is_left_as_it_is(tmp_path, checkpoint):
    config = start(str(tmp_path), checkpoint)
    stages = annotate_without_ray(config, config.output)
    before, first = contents(config), do_slice(config, stages).to_pylist()[0]["counts"]
    change(str(tmp_path), 1)
    assert do_slice(config, stages).to_pylist()[0]["counts"] == first
    assert contents(config) == before


@pytest.mark.parametrize("table", ["boxes", "images"])
def test_rows_that_came_late_are_found_out_by_the_next_command(
    store_root, checkpoint, table, tmp_path
):
    """A store that takes everything: an object of the first generation is put over an update."""
    config = start(store_root, checkpoint)
    stages = annotate_without_ray(config, config.output)
    old = contents(config)
    change(store_root, 1)
    look_again(config, config.output)
    finish_without_ray(config, stages)
    storage.write_bytes(uri_of(config, table), old[table])
    assert find_committed(open_manifest(config.output)) == set()
    finish_without_ray(config, stages)
    assert find_committed(open_manifest(config.output)) == {0}
    fresh = storage.join_uri(store_root, "fresh")
    annotate_without_ray(config, fresh)
    assert_same_rows(config.output, fresh)


@pytest.mark.parametrize("late", [("boxes",), ("boxes", "images")])
@pytest.mark.parametrize("age", [0, 1])
def test_rows_that_came_late_are_not_kept_by_an_update(tmp_path, checkpoint, caplog, age, late):
    """They stand there when the next generation is written, in the place of newer ones.

    Those of an update kept rows of the receipt before it; with their own receipt they are whole.
    """
    root = str(tmp_path)
    config = start(root, checkpoint)
    stages = annotate_without_ray(config, config.output)
    old = [contents(config)]
    for seed in (101, 201):
        storage.write_bytes(f"{config.images}/photo-001.jpg", encode_picture(make_picture(seed)))
        look_again(config, config.output)
        finish_without_ray(config, stages)
        old.append(contents(config))
    change(root, 2)
    look_again(config, config.output)
    for table in late:
        storage.write_bytes(uri_of(config, table), old[age][table])
    (summary,) = finish_without_ray(config, stages)
    assert summary["images_read"] == 3
    assert "all 3 images are done again" in caplog.text
    fresh = str(tmp_path / "fresh")
    annotate_without_ray(config, fresh)
    assert_same_rows(config.output, fresh)


def begin_second_update(root, config, stages):
    """Change an image twice: the first update is done, the second only planned."""
    for number in (1, 2):
        change(root, number)
        look_again(config, config.output)
        if number == 1:
            finish_without_ray(config, stages)


def test_rows_that_come_while_a_slice_is_done_are_not_kept(tmp_path, checkpoint):
    root = str(tmp_path)
    config = start(root, checkpoint)
    stages = annotate_without_ray(config, config.output)
    old = contents(config)
    begin_second_update(root, config, stages)
    table = detect(config, stages)
    storage.write_bytes(uri_of(config, "boxes"), old["boxes"])
    with pytest.raises(RowsChangedError, match="something else was put there since the slice"):
        write_slice(table, stages)
    assert find_committed(open_manifest(config.output)) == set()
    assert finish_without_ray(config, stages)[0]["images_read"] == 3


def test_a_receipt_that_comes_while_a_slice_is_done_is_not_kept(tmp_path, checkpoint):
    """Without another table nothing but its own name tells that it is another one."""
    root = str(tmp_path)
    config = replace(start(root, checkpoint), tasks=("classify",))
    stages = annotate_without_ray(config, config.output)
    old = storage.read_bytes(uri_of(config, "images"))
    begin_second_update(root, config, stages)
    table = detect(config, stages)
    storage.write_bytes(uri_of(config, "images"), old)
    with pytest.raises(RowsChangedError, match="something else was put there since the slice"):
        write_slice(table, stages)
    assert finish_without_ray(config, stages)[0]["images_read"] == 3


def test_the_number_of_attempts_is_not_noted_for_a_driver_that_was_relieved(tmp_path):
    put_holder(str(tmp_path))
    before = list_all(str(tmp_path))
    with pytest.raises(LeaseLostError):
        note_start(str(tmp_path), 0, 0, Start(attempt=2, here=2, most=2), "another")
    assert list_all(str(tmp_path)) == before
    with pytest.raises(PipelineError, match="took its worker down"):
        note_start(str(tmp_path), 0, 0, Start(attempt=2, here=MOST_STARTS + 1, most=2), "f00d")
