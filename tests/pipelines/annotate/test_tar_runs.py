"""Does a run over tars hold what one over the same files in a folder does, killed or updated?"""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from pipelines import manifest, storage
from pipelines.annotate.planning import peek_images
from pipelines.annotate.run import annotate
from pipelines.comparison import Changes
from pipelines.errors import InputError
from pipelines.report.write import ReportConfig, write_report
from pipelines.status import StatusConfig, read_status
from tests.builders import (
    annotate_without_ray,
    assert_same_rows,
    encode_picture,
    finish_without_ray,
    list_all,
    look_again,
    make_config,
    make_picture,
    read_rows,
    write_pictures,
)
from tests.faults.fixtures import start_proxy
from tests.faults.plan import Operation
from tests.pipelines.annotate.killed import count_moments, run_killed
from tests.pipelines.annotate.recorded_reads import RecordedReads
from tests.pipelines.tar_files import draw, make_tar, put_tar, write_shard

__all__ = ["start_proxy"]

pytestmark = pytest.mark.usefixtures("plain_engine", "fake_model")


def put_shards(root, *numbers, per_shard=4):
    """Pictures in tars IN/t-0.tar and so on."""
    for shard, start in enumerate(range(0, len(numbers), per_shard)):
        some = numbers[start : start + per_shard]
        put_tar(storage.join_uri(root, "in", f"t-{shard}.tar"), draw(*some))


def make_tar_config(root, checkpoint, **changes):
    images = storage.join_uri(root, "in", "*.tar")
    return make_config(root, checkpoint, **{"images": images, "slice_size": 3} | changes)


def rename(table, names):
    """Rows as if the images were called otherwise, in the order of their names."""
    images = [names(image) for image in table["image"].to_pylist()]
    named = table.set_column(0, "image", pa.array(images)).drop_columns("fingerprint")
    return named.sort_by("image")


def test_rows_of_a_tar_are_those_of_its_files_but_for_name_and_version(store_root, checkpoint):
    folder, tars = (storage.join_uri(store_root, name) for name in ("folder", "tars"))
    files = [*draw(*range(9)), ("bad.jpg", b"no image"), ("empty.jpg", b"")]
    for name, data in files:
        storage.write_bytes(storage.join_uri(folder, "in", name), data)
    put_tar(storage.join_uri(tars, "in", "t.tar"), sorted(files))
    plain = make_config(folder, checkpoint, slice_size=3, tasks=("classify", "detect", "localize"))
    packed = replace(plain, images=f"{tars}/in/t.tar", output=f"{tars}/out")
    report = annotate(packed)
    annotate(plain)
    assert (report.images, report.failed) == (11, 2)

    def name(image):
        return image.replace("#", "/").rpartition("/")[2]

    for table in ("boxes", "guesses"):
        found, expected = (read_rows(at.output, table) for at in (packed, plain))
        found = found.set_column(0, "image", pa.array(map(name, found["image"].to_pylist())))
        expected = expected.set_column(
            0, "image", pa.array(map(name, expected["image"].to_pylist()))
        )
        assert found.equals(expected), table
    found, expected = (rename(read_rows(at.output, "images"), name) for at in (packed, plain))
    of_place = ["etag", "error"]
    assert found.drop_columns(of_place).equals(expected.drop_columns(of_place))
    tar = storage.find_object(packed.images)
    assert set(read_rows(packed.output, "images")["etag"].to_pylist()) == {tar.etag}


def test_a_shard_of_webdataset_is_annotated(tmp_path, checkpoint):
    samples = [
        {"__key__": f"n/{n}", "jpg": encode_picture(make_picture(n)), "json": {"label": n}}
        for n in range(5)
    ]
    uri = write_shard(tmp_path / "train-000000.tar", samples)
    report = annotate(make_config(str(tmp_path), checkpoint, images=uri))
    assert (report.images, report.failed) == (5, 0)
    images = read_rows(str(tmp_path / "out"), "images")["image"].to_pylist()
    assert images == [f"{uri}#n/{n}.jpg" for n in range(5)]
    (entry, *_) = manifest.read_slice(
        str(tmp_path / "out"), manifest.open_manifest(str(tmp_path / "out")).place_of(0)
    )
    data, (offset, size) = Path(uri).read_bytes(), (entry.info.offset, entry.info.size)
    assert data[offset : offset + size] == samples[0]["jpg"]


def test_slices_are_cut_by_the_sizes_of_members(tmp_path, checkpoint):
    sizes = (400, 700, 300, 300, 900)
    put_tar(str(tmp_path / "in" / "t.tar"), [(f"{n}.jpg", b"x" * n) for n in sorted(set(sizes))])
    config = make_tar_config(str(tmp_path), checkpoint, slice_size=100, slice_bytes=1000)
    annotate_without_ray(config, config.output)
    images = read_rows(config.output, "images")
    assert images["slice"].to_pylist() == [0, 0, 1, 2]
    assert images["size"].to_pylist() == [300, 400, 700, 900]


def test_a_run_over_tars_of_which_some_are_damaged_says_which_and_writes_nothing(
    store_root, checkpoint
):
    put_shards(store_root, *range(8))
    for name, data in (("t-2", b"no tar"), ("t-3", make_tar(draw(1, 2, 3))[:-4000])):
        storage.write_bytes(storage.join_uri(store_root, "in", f"{name}.tar"), data)
    config = make_tar_config(store_root, checkpoint)
    with pytest.raises(InputError, match=r"2 in all: \S*t-2.tar, \S*t-3.tar"):
        annotate(config)
    assert not [name for name in list_all(config.output) if "run" in name or "complete" in name]
    for name in ("t-2", "t-3"):
        put_tar(storage.join_uri(store_root, "in", f"{name}.tar"), draw(9))
    assert annotate(config).images == 10


@pytest.mark.s3
def test_a_resumed_run_reads_ranges_of_what_is_left_and_no_index(
    s3_bucket, checkpoint, start_proxy, monkeypatch
):
    root = f"s3://{s3_bucket}"
    put_shards(root, *range(11))
    config = make_tar_config(root, checkpoint)
    annotate_without_ray(config, config.output, slices=[1, 2])
    committed = set(read_rows(config.output, "images")["image"].to_pylist())
    reads, proxy = RecordedReads(monkeypatch), start_proxy()
    report = annotate(config)
    assert (report.images, report.images_read) == (11, 5)
    assert reads.opened == []
    assert len(reads.images) == len(set(reads.images)) == 5
    assert not committed & set(reads.images)
    asked = [request for request in proxy.requests if request.key.endswith(".tar")]
    assert {request.operation for request in asked} == {Operation.GET}
    assert len({(request.key, request.byte_range) for request in asked}) == len(asked) == 5
    plain = storage.join_uri(root, "plain")
    annotate_without_ray(config, plain)
    assert_same_rows(config.output, plain)


def test_a_killed_run_is_finished_without_reading_a_committed_member(
    tmp_path, checkpoint, monkeypatch
):
    put_shards(str(tmp_path), *range(12))
    config = make_tar_config(str(tmp_path), checkpoint, slice_size=2)
    undisturbed = replace(config, output=str(tmp_path / "undisturbed"))
    moments, source, struck = count_moments(undisturbed), random.Random(5), 0
    reads = RecordedReads(monkeypatch)
    for _ in range(2):
        struck += run_killed(config, source.randint(moments // 4, moments // 2))
    committed = set(read_rows(config.output, "images")["image"].to_pylist())
    reads.images.clear()
    annotate(config)
    assert struck
    assert committed
    assert not committed & set(reads.images)
    assert reads.opened == []
    assert_same_rows(config.output, undisturbed.output)


def test_an_update_does_the_tar_that_changed_and_opens_no_other(
    store_root, checkpoint, monkeypatch
):
    put_shards(store_root, *range(12))
    config = make_tar_config(store_root, checkpoint, slice_size=2)
    annotate(config)
    before = read_rows(config.output, "images")
    folder = storage.join_uri(store_root, "in")
    # One member has gone, one is new, all have another etag and most another place.
    put_tar(storage.join_uri(folder, "t-1.tar"), draw(4, 20, 7, 6, size=(56, 40)))
    put_tar(storage.join_uri(folder, "t-9.tar"), draw(30))
    reads = RecordedReads(monkeypatch)
    report = annotate(replace(config, update=True))
    assert report.changes == Changes(added=2, changed=3, vanished=1)
    names = {uri.rpartition("/")[2] for uri in reads.images}
    assert names == {"t-1.tar#004.jpg", "t-1.tar#006.jpg", "t-1.tar#007.jpg", "t-1.tar#020.jpg",
                     "t-9.tar#030.jpg"}  # fmt: skip
    assert {uri.rpartition("/")[2] for uri in reads.opened} == {"t-1.tar", "t-9.tar"}
    after = read_rows(config.output, "images")
    fresh = storage.join_uri(store_root, "fresh")
    annotate_without_ray(config, fresh)
    expected = read_rows(fresh, "images")
    no_slice = [after, expected]
    found, expected = (table.drop_columns("slice").sort_by("image") for table in no_slice)
    assert found.equals(expected)
    kept = pc.match_substring(before["image"], "t-0.tar#")
    assert after.filter(pc.match_substring(after["image"], "t-0.tar#")).equals(before.filter(kept))


def test_an_update_that_finds_nothing_opens_no_tar(tmp_path, checkpoint, monkeypatch):
    put_shards(str(tmp_path), *range(6))
    config = make_tar_config(str(tmp_path), checkpoint)
    annotate(config)
    before = [name for name in list_all(config.output) if not name.startswith("runs/")]
    reads = RecordedReads(monkeypatch)
    report = annotate(replace(config, update=True, retry_failed=True))
    assert (report.changes, reads.images, reads.opened) == (Changes(), [], [])
    assert [name for name in list_all(config.output) if not name.startswith("runs/")] == before


def test_failed_members_of_an_unchanged_tar_are_done_again_by_an_update(
    tmp_path, checkpoint, monkeypatch
):
    put_tar(str(tmp_path / "in" / "t.tar"), [*draw(1, 2), ("bad.jpg", b"bad")])
    config = make_tar_config(str(tmp_path), checkpoint)
    annotate(config)
    reads = RecordedReads(monkeypatch)
    report = annotate(replace(config, update=True, retry_failed=True))
    assert (report.changes, report.images, report.failed) == (Changes(retried=1), 3, 1)
    assert [uri.rpartition("#")[2] for uri in reads.images] == ["bad.jpg"]
    assert reads.opened == []


def test_members_of_a_tar_that_has_gone_leave_the_tables(tmp_path, checkpoint):
    put_shards(str(tmp_path), *range(8))
    config = make_tar_config(str(tmp_path), checkpoint)
    annotate(config)
    (tmp_path / "in" / "t-0.tar").unlink()
    assert annotate(replace(config, update=True)).changes == Changes(vanished=4)
    images = read_rows(config.output, "images")["image"].to_pylist()
    assert images == [f"{tmp_path}/in/t-1.tar#{n:03d}.jpg" for n in range(4, 8)]


def test_an_update_of_a_list_and_one_with_a_limit_find_what_has_changed(tmp_path, checkpoint):
    put_shards(str(tmp_path), *range(8))
    tars = [f"{tmp_path}/in/t-{n}.tar" for n in range(2)]
    listed = str(tmp_path / "list.txt")
    storage.write_bytes(listed, "\n".join(tars).encode())
    for output, changes in (("list", {"images": listed}), ("limited", {"limit": 6})):
        config = make_tar_config(
            str(tmp_path), checkpoint, **{"output": str(tmp_path / output)} | changes
        )
        assert annotate(config).images == changes.get("limit", 8)
        assert annotate(replace(config, update=True)).changes == Changes()
    put_tar(tars[0], draw(0, 1))
    config = replace(config, update=True)
    # The limit lets two more images of the second tar in.
    assert annotate(config).changes == Changes(added=2, changed=2, vanished=2)
    assert annotate(
        replace(config, output=str(tmp_path / "list"), images=listed, limit=None)
    ).changes == (Changes(changed=2, vanished=2))


def test_a_retry_reads_failed_members_of_a_changed_tar_and_leaves_the_others(
    store_root, checkpoint
):
    tar = storage.join_uri(store_root, "in", "t.tar")
    put_tar(tar, [*draw(1), ("bad.jpg", b"bad")])
    config = make_tar_config(store_root, checkpoint)
    stages = annotate_without_ray(config, config.output)
    assert look_again(config, config.output, update=False, retry_failed=True) == Changes(retried=1)
    finish_without_ray(config, stages)
    put_tar(tar, [*draw(1), ("bad.jpg", draw(2)[0][1]), *draw(3)])
    assert look_again(config, config.output, update=False, retry_failed=True) == Changes(changed=1)
    finish_without_ray(config, stages)
    errors = read_rows(config.output, "images")["error_type"].to_pylist()
    assert errors == [None, None]
    # The update does not think that the retry had taken all of the new version.
    assert look_again(config, config.output) == Changes(added=1, changed=1)
    finish_without_ray(config, stages)
    assert read_rows(config.output, "images")["error_type"].null_count == 3


def test_a_limit_takes_the_first_members(tmp_path, checkpoint):
    put_shards(str(tmp_path), *range(8))
    config = make_tar_config(str(tmp_path), checkpoint, limit=5)
    assert annotate(config).images == 5
    images = read_rows(config.output, "images")["image"].to_pylist()
    names = [image.rpartition("/")[2] for image in images]
    assert names == [f"t-0.tar#{n:03d}.jpg" for n in range(4)] + ["t-1.tar#004.jpg"]


def test_a_prefix_with_nothing_but_tars_says_how_to_name_them(store_root, checkpoint):
    put_shards(store_root, 1)
    config = make_config(store_root, checkpoint)
    with pytest.raises(InputError, match=r"no image there .* name these: .*/in/\*\.tar"):
        peek_images(config, config.output)
    write_pictures(config.images, 1)
    assert next(peek_images(config, config.output).images).uri.endswith(".jpg")


def test_status_and_report_know_members(store_root, checkpoint):
    put_shards(store_root, *range(5))
    config = make_tar_config(store_root, checkpoint)
    annotate(config)
    assert read_status(StatusConfig(output=config.output)).images == 5
    summary = write_report(ReportConfig(output=config.output))
    assert (summary.n_shown, summary.n_unreadable, summary.is_finished) == (5, 0, True)
    page = storage.read_bytes(summary.page).decode()
    assert page.count("data:image/jpeg;base64,") == 5
    assert "t-1.tar#004.jpg" in page
    put_tar(storage.join_uri(store_root, "in", "t-1.tar"), draw(9))
    summary = write_report(ReportConfig(output=config.output))
    assert (summary.n_shown, summary.n_unreadable) == (5, 1)
    assert "changed" in storage.read_bytes(summary.page).decode()
