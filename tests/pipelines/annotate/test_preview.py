"""Is what a command would do foretold, without a write and without Ray?"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from pipelines.annotate.dry_run import estimate
from pipelines.annotate.engine import Engine
from pipelines.annotate.preview import preview
from pipelines.annotate.run import annotate
from pipelines.comparison import Changes
from pipelines.errors import InputError, PipelineError, ResourceError, RunMismatchError
from tests.builders import (
    annotate_without_ray,
    encode_picture,
    list_all,
    make_config,
    make_picture,
    write_pictures,
)

pytestmark = pytest.mark.usefixtures("plain_engine", "fake_model")


def start(tmp_path, checkpoint, count=6):
    write_pictures(str(tmp_path / "in"), count)
    return make_config(str(tmp_path), checkpoint, slice_size=2)


def refuse_to_join(_):
    raise ResourceError("no cluster")


def foretell(config):
    """What a command would do, and the first images that it would read; it writes nothing."""
    before = list_all(config.output)
    plan, first = preview(config, config.output)
    assert list_all(config.output) == before
    return plan, [Path(info.uri).name for info in first]


def change_bucket(config):
    """Two images are new, one has changed, one is gone."""
    write_pictures(config.images, 2, start=20)
    Path(config.images, "photo-003.jpg").write_bytes(encode_picture(make_picture(99)))
    Path(config.images, "photo-005.jpg").unlink()


def test_of_a_run_that_was_killed_what_is_left_is_foretold(tmp_path, checkpoint):
    config = start(tmp_path, checkpoint)
    annotate_without_ray(config, config.output, slices=[1])
    plan, names = foretell(config)
    assert (plan.images, plan.slices, plan.changes, plan.slices_unfinished) == (6, 3, None, 2)
    assert (plan.images_to_read, plan.slices_to_write) == (4, 2)
    left = ["photo-000.jpg", "photo-001.jpg", "photo-004.jpg", "photo-005.jpg"]
    assert names == left
    assert plan.bytes_to_read == sum(Path(config.images, name).stat().st_size for name in left)
    assert annotate(config).images_read == 4


def test_a_slice_whose_receipt_is_damaged_is_foretold(tmp_path, checkpoint):
    config = start(tmp_path, checkpoint)
    annotate(config)
    Path(config.output, "images", "slice-000001.parquet").write_bytes(b"PAR1")
    assert foretell(config)[1] == ["photo-002.jpg", "photo-003.jpg"]


def drop_one_image(config):
    """A first run, and an update after which slice 1 has one image."""
    annotate(config)
    Path(config.images, "photo-003.jpg").unlink()
    annotate(replace(config, update=True))


@pytest.mark.parametrize("table", ["images", "boxes"])
def test_rows_that_are_damaged_are_foretold_to_be_made_anew(tmp_path, checkpoint, table):
    config = start(tmp_path, checkpoint)
    drop_one_image(config)
    Path(config.output, table, "slice-000001.parquet").write_bytes(b"PAR1")
    plan, names = foretell(config)
    assert names == ["photo-002.jpg"]
    report = annotate(config)
    assert (report.images_read, report.slices_done) == (1, plan.slices_to_write) == (1, 1)


def test_rows_that_an_update_cannot_keep_are_foretold_to_be_made_anew(tmp_path, checkpoint):
    config = start(tmp_path, checkpoint)
    annotate(config)
    change_bucket(config)
    Path(config.output, "boxes", "slice-000001.parquet").write_bytes(b"PAR1")
    update = replace(config, update=True)
    plan, _ = foretell(update)
    assert (plan.images_to_read, plan.changes) == (4, Changes(added=2, changed=1, vanished=1))
    assert annotate(update).images_read == 4


def test_slices_that_are_finished_and_then_updated_are_written_twice(tmp_path, checkpoint):
    config = start(tmp_path, checkpoint)
    annotate_without_ray(config, config.output, slices=[1])
    change_bucket(config)
    update = replace(config, update=True)
    plan, _ = foretell(update)
    report = annotate(update)
    # Two that are left, the new one, one with a changed image, and one of the two once more.
    assert plan.slices_to_write == report.slices_done == 5
    assert plan.images_to_read == report.images_read


def test_a_run_with_other_numbers_than_its_manifest_is_refused_as_by_the_command(
    tmp_path, checkpoint
):
    config = start(tmp_path, checkpoint)
    annotate(config)
    path = Path(config.output, "manifest", "generation-000000", "complete.json")
    path.write_text(path.read_text().replace('"images": 6', '"images": 7'))
    with pytest.raises(PipelineError, match="receipts count 6 images, its manifest lists 7"):
        preview(config, config.output)


def test_an_update_finds_what_was_foretold(tmp_path, checkpoint):
    config = start(tmp_path, checkpoint)
    annotate(config)
    change_bucket(config)
    update = replace(config, update=True)
    plan, names = foretell(update)
    assert plan.changes == Changes(added=2, changed=1, vanished=1)
    assert (plan.images, plan.slices, plan.slices_unfinished) == (7, 4, 0)
    assert (plan.images_to_read, plan.slices_to_write) == (3, 3)
    assert names == ["photo-020.jpg", "photo-021.jpg", "photo-003.jpg"]
    assert plan.size_bytes == sum(path.stat().st_size for path in Path(config.images).iterdir())
    report = annotate(update)
    assert (report.changes, report.images_read, report.slices_done) == (plan.changes, 3, 3)
    again, _ = foretell(update)
    assert (again.changes, again.images_to_read, again.slices_to_write) == (Changes(), 0, 0)


def test_a_retry_alone_looks_for_nothing_new(tmp_path, checkpoint):
    config = start(tmp_path, checkpoint)
    Path(config.images, "photo-004.jpg").write_bytes(b"no image")
    annotate(config)
    change_bucket(config)
    plan, names = foretell(replace(config, retry_failed=True))
    assert plan.changes == Changes(retried=1)
    assert names == ["photo-004.jpg"]
    assert (plan.images, plan.skipped) == (6, 0)


def test_an_update_of_a_run_that_has_not_begun_is_the_run(tmp_path, checkpoint):
    config = start(tmp_path, checkpoint)
    config = replace(config, update=True, output=str(tmp_path / "empty"))
    (tmp_path / "empty").mkdir()
    plan, _ = foretell(config)
    assert (plan.changes, plan.images, plan.images_to_read, plan.slices_unfinished) == (
        None,
        6,
        6,
        3,
    )


def test_images_that_are_all_gone_are_refused_as_by_the_command(tmp_path, checkpoint):
    config = start(tmp_path, checkpoint)
    annotate(config)
    for path in Path(config.images).iterdir():
        path.unlink()
    with pytest.raises(InputError, match="no image there"):
        preview(replace(config, update=True), config.output)


def test_rows_without_a_manifest_are_refused_as_by_the_command(tmp_path, checkpoint):
    config = start(tmp_path, checkpoint)
    annotate(config)
    for path in Path(config.output, "manifest").rglob("*.json"):
        path.unlink()
    with pytest.raises(InputError, match="the manifest that tells"):
        preview(config, config.output)


def test_other_settings_are_refused_by_a_dry_run_too(tmp_path, checkpoint):
    config = start(tmp_path, checkpoint)
    annotate(config)
    with pytest.raises(RunMismatchError, match="score_threshold"):
        estimate(replace(config, score_threshold=0.9, dry_run=True))


def test_a_run_that_lost_its_settings_is_refused_by_a_dry_run_too(tmp_path, checkpoint):
    config = start(tmp_path, checkpoint)
    annotate(config)
    Path(config.output, "run.json").unlink()
    with pytest.raises(RunMismatchError, match="was made with other settings"):
        estimate(replace(config, score_threshold=0.9, dry_run=True))
    plan = estimate(replace(config, dry_run=True))
    assert (plan.images_to_read, plan.measured_images) == (0, 0)


def test_rows_to_be_dropped_need_a_cluster_as_the_command_does(tmp_path, checkpoint, monkeypatch):
    config = start(tmp_path, checkpoint)
    annotate(config)
    Path(config.images, "photo-003.jpg").unlink()
    update = replace(config, update=True, dry_run=True)
    plan = estimate(update)
    assert (plan.images_to_read, plan.slices_to_write, plan.workers) == (0, 1, 1)
    monkeypatch.setattr(Engine, "join", refuse_to_join)
    with pytest.raises(ResourceError):
        estimate(update)


def test_nothing_to_read_takes_no_time_and_no_cluster(tmp_path, checkpoint, monkeypatch):
    config = start(tmp_path, checkpoint)
    annotate(config)
    monkeypatch.setattr(Engine, "join", refuse_to_join)
    plan = estimate(replace(config, dry_run=True))
    assert (plan.images, plan.images_to_read, plan.slices_to_write) == (6, 0, 0)
    assert (plan.seconds, plan.workers, plan.measured_images) == (0.0, 0, 0)
