"""Does an update do what is new and changed, a retry what failed, and neither anything else?"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines import storage
from pipelines.annotate.run import annotate
from pipelines.comparison import Changes
from pipelines.errors import InputError
from tests.builders import (
    annotate_without_ray,
    encode_picture,
    finish_without_ray,
    list_all,
    look_again,
    make_config,
    make_picture,
    read_rows,
    write_pictures,
)
from tests.pipelines.annotate.file_reads import FileReads
from tests.pipelines.annotate.killed import torture_update

pytestmark = pytest.mark.usefixtures("plain_engine", "fake_model")


def start_with_pictures(tmp_path, checkpoint, count=6):
    write_pictures(str(tmp_path / "in"), count)
    return make_config(str(tmp_path), checkpoint, slice_size=2)


def test_an_update_of_an_unfinished_run_finishes_it_first(tmp_path, checkpoint):
    config = start_with_pictures(tmp_path, checkpoint)
    stages = annotate_without_ray(config, config.output, slices=[1])
    write_pictures(config.images, 1, start=20)
    Path(config.images, "photo-003.jpg").write_bytes(encode_picture(make_picture(99)))
    with FileReads(config.images) as reads:
        report = annotate(replace(config, update=True))
        assert reads.names() == {f"photo-{n:03d}.jpg" for n in (0, 1, 3, 4, 5, 20)}
    assert report.changes == Changes(added=1, changed=1)
    assert (report.generation, report.images, report.images_read) == (1, 7, 6)
    assert (report.slices, report.slices_done) == (4, 4)
    plain = str(tmp_path / "plain")
    annotate_without_ray(config, plain)
    for table in ("images", "boxes"):
        found, expected = (read_rows(root, table) for root in (config.output, plain))
        assert found.equals(expected)
    assert stages.fingerprint == report.fingerprint


@pytest.mark.parametrize("flag", ["update", "retry_failed"])
def test_a_link_that_leads_somewhere_by_now_is_a_change(tmp_path, checkpoint, flag):
    config = start_with_pictures(tmp_path, checkpoint, 2)
    Path(config.images, "link.jpg").symlink_to(tmp_path / "later.jpg")
    assert annotate(config).errors == {"not_found": 1}
    (tmp_path / "later.jpg").write_bytes(encode_picture(make_picture(7)))
    report = annotate(replace(config, **{flag: True}))
    assert (report.changes, report.images_read, report.errors) == (Changes(changed=1), 1, {})


def test_an_update_that_finds_nothing_writes_no_generation(tmp_path, checkpoint):
    config = start_with_pictures(tmp_path, checkpoint)
    annotate(config)
    before = [name for name in list_all(config.output) if not name.startswith("runs/")]
    with FileReads(config.images) as reads:
        report = annotate(replace(config, update=True, retry_failed=True))
        assert reads.names() == set()
    assert (report.changes, report.generation) == (Changes(), 0)
    assert [name for name in list_all(config.output) if not name.startswith("runs/")] == before


def test_updates_over_a_list_whose_versions_are_old_come_to_an_end(tmp_path, checkpoint):
    config = start_with_pictures(tmp_path, checkpoint)
    infos = list(storage.iter_objects(config.images))
    columns = {name: [getattr(info, name) for info in infos] for name in ("uri", "size", "etag")}
    columns["etag"][1] = "of a version before"
    listed = str(tmp_path / "list.parquet")
    pq.write_table(pa.table({"image": columns.pop("uri")} | columns), listed)
    config = replace(config, images=listed)
    assert annotate(config).errors == {"changed": 1}
    first = annotate(replace(config, update=True))
    assert (first.changes, first.failed) == (Changes(changed=1), 0)
    for _ in range(2):
        report = annotate(replace(config, update=True))
        assert (report.changes, report.failed, report.images_read) == (Changes(), 0, 0)


def test_an_update_that_finds_another_drivers_listing_in_its_place_looks_again(
    tmp_path, checkpoint, monkeypatch
):
    """It would call images done that the other driver had not listed yet."""
    config = start_with_pictures(tmp_path, checkpoint)
    annotate(config)
    write_pictures(config.images, 2, start=20)
    create, late = storage.create_bytes, Path(config.images, "photo-021.jpg")

    def come_second(uri, data, **options):
        if "generation-000001" in uri:
            monkeypatch.setattr(storage, "create_bytes", create)
            late.rename(tmp_path / "aside")
            look_again(config, config.output)
            (tmp_path / "aside").rename(late)
        return create(uri, data, **options)

    monkeypatch.setattr(storage, "create_bytes", come_second)
    report = annotate(replace(config, update=True))
    assert (report.changes, report.generation) == (Changes(added=1), 2)
    assert (report.images, report.images_read) == (8, 2)


def test_a_plain_command_after_an_update_looks_for_no_changes(tmp_path, checkpoint):
    config = start_with_pictures(tmp_path, checkpoint)
    annotate_without_ray(config, config.output)
    write_pictures(config.images, 1, start=20)
    report = annotate(config)
    assert (report.changes, report.images, report.images_read) == (None, 6, 0)


def test_a_retry_alone_reads_the_failed_images_alone(tmp_path, checkpoint):
    config = start_with_pictures(tmp_path, checkpoint)
    mended, damaged = (Path(config.images, f"photo-{n:03d}.jpg") for n in (1, 2))
    data = mended.read_bytes()
    for path in (mended, damaged):
        path.write_bytes(b"no image")
    assert annotate(config).failed == 2
    mended.write_bytes(data)
    write_pictures(config.images, 1, start=20)
    with FileReads(config.images) as reads:
        report = annotate(replace(config, retry_failed=True))
        assert reads.names() == {mended.name, damaged.name}
    assert report.changes == Changes(changed=1, retried=1)
    assert (report.images, report.failed, report.images_read) == (6, 1, 2)


def test_an_update_that_lists_nothing_is_refused_and_keeps_the_rows(tmp_path, checkpoint):
    """More likely a disk that is not mounted than a bucket whose images are all gone."""
    config = start_with_pictures(tmp_path, checkpoint)
    annotate(config)
    before = list_all(config.output)
    for path in Path(config.images).iterdir():
        path.unlink()
    with pytest.raises(InputError, match="no image there"):
        annotate(replace(config, update=True))
    assert list_all(config.output) == before
    assert annotate(config).images == 6


def test_after_two_updates_the_tables_are_those_of_the_bucket(tmp_path, checkpoint):
    config = start_with_pictures(tmp_path, checkpoint)
    stages = annotate_without_ray(config, config.output)
    for seed in (30, 31):
        Path(config.images, "photo-001.jpg").write_bytes(encode_picture(make_picture(seed)))
        write_pictures(config.images, 1, start=seed)
        look_again(config, config.output)
        finish_without_ray(config, stages)
    report = annotate(replace(config, update=True))
    assert (report.generation, report.images_read, report.images) == (2, 0, 8)
    plain = str(tmp_path / "plain")
    annotate_without_ray(config, plain)
    for table in ("images", "boxes"):
        found, expected = (read_rows(root, table) for root in (config.output, plain))
        if table == "images":
            found, expected = (rows.drop_columns("slice") for rows in (found, expected))
        assert found.equals(expected)


def test_an_update_killed_at_two_moments_is_finished_by_the_same_command(tmp_path, checkpoint):
    """`torture_update` with more kills and other seeds is its like."""
    (tmp_path / "in").mkdir()
    for number in range(12):
        data = encode_picture(make_picture(number, height=8, width=8))
        (tmp_path / "in" / f"{number:06d}.jpg").write_bytes(data)
    config = make_config(str(tmp_path), checkpoint, slice_size=2)
    annotate(config)
    assert torture_update(config, kills=2, seed=1) == 2
