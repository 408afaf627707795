"""Does a slice that an update or a retry touches keep its other rows, and get the new ones?"""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from pipelines import storage
from pipelines.comparison import Changes
from pipelines.errors import ImageError, ImageReason, StorageError
from pipelines.manifest import open_manifest
from pipelines.receipts import RowCounts, find_committed
from pipelines.tables import IMAGES_SCHEMA, KEYS, Provenance, encode_table, read_notes, slice_name
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
    read_file,
    read_numbered,
    read_rows,
    write_pictures,
)
from tests.pipelines.annotate.failing_writes import FailingWrites

pytestmark = pytest.mark.usefixtures("fake_model")

ALL_TASKS = ("classify", "localize", "detect", "features")
TABLES = ("boxes", "guesses", "features", "images")


def photo(root, number):
    return storage.join_uri(root, "in", f"photo-{number:03d}.jpg")


def put_picture(uri, seed):
    storage.write_bytes(uri, encode_picture(make_picture(seed)))


def start_finished_run(root, checkpoint, *, count=8):
    """Slices of four pictures, all committed."""
    write_pictures(storage.join_uri(root, "in"), count)
    config = make_config(root, checkpoint, tasks=ALL_TASKS)
    return config, annotate_without_ray(config, config.output)


def change_some(root):
    """One picture of the first slice is another one now, one is gone, two are new."""
    put_picture(photo(root, 1), 101)
    storage.delete([photo(root, 2)])
    put_picture(photo(root, 20), 120)
    put_picture(photo(root, 21), 121)


def slice_files(output, number):
    return [storage.join_uri(output, table, slice_name(number)) for table in TABLES]


def read_bytes_of(uris):
    return {uri: storage.read_bytes(uri) for uri in uris}


def rows_of(output, table, images):
    rows = read_rows(output, table)
    return rows.filter(pc.is_in(rows["image"], value_set=pa.array(images)))


def test_rows_that_are_kept_stay_bit_for_bit_and_new_ones_are_those_of_a_fresh_run(
    store_root, checkpoint
):
    config, stages = start_finished_run(store_root, checkpoint)
    kept = [photo(store_root, number) for number in (0, 3, 4, 5, 6, 7)]
    before = {table: rows_of(config.output, table, kept) for table in TABLES}
    untouched = read_bytes_of(slice_files(config.output, 1))

    change_some(store_root)
    changes = look_again(config, config.output)
    assert changes == Changes(added=2, changed=1, vanished=1)
    summaries = finish_without_ray(config, stages)
    assert [(row["slice"], row["images_read"]) for row in summaries] == [(0, 1), (2, 2)]

    fresh = storage.join_uri(store_root, "fresh")
    annotate_without_ray(config, fresh)
    for table in TABLES:
        assert before[table].num_rows >= 6
        assert rows_of(config.output, table, kept).equals(before[table]), table
        found, expected = (read_rows(output, table) for output in (config.output, fresh))
        if table == "images":
            # An image stays in the slice that it was first put in.
            assert found["slice"].to_pylist() == [0, 0, 0, 1, 1, 1, 1, 2, 2]
            found, expected = (rows.drop_columns("slice") for rows in (found, expected))
        assert found.equals(expected), table
    assert read_bytes_of(untouched) == untouched


def test_every_file_of_a_touched_slice_tells_its_generation_and_is_sorted(tmp_path, checkpoint):
    config, stages = start_finished_run(str(tmp_path), checkpoint)
    schemas = [read_file(uri).schema for uri in slice_files(config.output, 0)]
    change_some(str(tmp_path))
    look_again(config, config.output)
    finish_without_ray(config, stages)
    for number, generation in ((0, "1"), (1, "0"), (2, "1")):
        for uri, schema in zip(slice_files(config.output, number), schemas, strict=True):
            assert read_notes(uri)["generation"] == generation
            assert read_notes(uri)["fingerprint"] == stages.fingerprint
            assert read_file(uri).schema.equals(schema)
    for table, uri in zip(TABLES, slice_files(config.output, 0), strict=True):
        found = [tuple(row[key] for key in KEYS[table]) for row in read_file(uri).to_pylist()]
        assert found == sorted(set(found))
        assert len(found) > 1


def test_the_counts_of_a_touched_slice_are_those_of_all_its_rows(tmp_path, checkpoint):
    config, stages = start_finished_run(str(tmp_path), checkpoint)
    change_some(str(tmp_path))
    look_again(config, config.output)
    first, _ = finish_without_ray(config, stages)
    counts = RowCounts.decode(first["counts"])
    files = dict(zip(TABLES, slice_files(config.output, 0), strict=True))
    for table in TABLES:
        assert getattr(counts, table) == read_file(files[table]).num_rows > 0
    assert RowCounts.decode(read_notes(files["images"])["counts"]) == counts
    assert first["images_read"] == 1, "the changed picture alone"


def test_a_slice_that_has_lost_all_its_images_is_committed_without_rows(store_root, checkpoint):
    config, stages = start_finished_run(store_root, checkpoint, count=5)
    storage.delete([photo(store_root, 4)])
    assert look_again(config, config.output) == Changes(vanished=1)
    (summary,) = finish_without_ray(config, stages)
    assert (summary["slice"], summary["images_read"]) == (1, 0)
    assert RowCounts.decode(summary["counts"]) == RowCounts()
    full, empty = (slice_files(config.output, number) for number in (0, 1))
    for uri, other in zip(empty, full, strict=True):
        assert read_file(uri).num_rows == 0
        assert read_file(uri).schema.equals(read_file(other).schema)
    assert find_committed(open_manifest(config.output)) == {0, 1}

    # An image of the same name that comes back is a new one; its old slice stays empty.
    put_picture(photo(store_root, 4), 104)
    assert look_again(config, config.output) == Changes(added=1)
    (summary,) = finish_without_ray(config, stages)
    assert (summary["slice"], summary["images_read"]) == (2, 1)
    assert read_rows(config.output, "images")["slice"].to_pylist() == [0, 0, 0, 0, 2]


def test_images_that_are_kept_are_not_read(tmp_path, checkpoint, monkeypatch):
    config, stages = start_finished_run(str(tmp_path), checkpoint, count=4)
    put_picture(photo(str(tmp_path), 1), 101)
    look_again(config, config.output)
    read_objects, asked = storage.read_objects, []

    def record(objects, **options):
        asked.extend(info.uri for info in objects)
        return read_objects(objects, **options)

    monkeypatch.setattr(storage, "read_objects", record)
    table = read_numbered(0, stages)
    assert asked == [photo(str(tmp_path), 1)]
    assert table["todo"].to_pylist() == [False, True, False, False]
    assert table["pixels"].is_valid().to_pylist() == [False, True, False, False]
    assert table["generation"].to_pylist() == [1] * 4


def test_a_picture_that_broke_loses_its_rows_and_gets_them_back_when_it_is_mended(
    tmp_path, checkpoint
):
    config, stages = start_finished_run(str(tmp_path), checkpoint, count=4)
    good = {table: read_rows(config.output, table) for table in TABLES}
    uri = photo(str(tmp_path), 1)
    data = Path(uri).read_bytes()
    storage.write_bytes(uri, b"no image")
    look_again(config, config.output)
    finish_without_ray(config, stages)
    rows = {row["image"]: row for row in read_rows(config.output, "images").to_pylist()}
    assert (rows[uri]["error_type"], rows[uri]["n_boxes"]) == ("not_an_image", 0)
    for table in ("boxes", "guesses", "features"):
        left = read_rows(config.output, table)
        assert left.equals(good[table].filter(pc.not_equal(good[table]["image"], uri)))
        assert 0 < left.num_rows < good[table].num_rows

    storage.write_bytes(uri, data)
    assert look_again(config, config.output, update=False, retry_failed=True).changed == 1
    finish_without_ray(config, stages)
    for table in ("boxes", "guesses", "features"):
        assert read_rows(config.output, table).equals(good[table])
    # The bytes are the old ones, the file is not.
    images = [read_rows(config.output, "images"), good["images"]]
    assert images[0]["etag"] != images[1]["etag"]
    assert images[0].drop_columns("etag").equals(images[1].drop_columns("etag"))


def test_a_retry_leaves_all_but_the_failed_images_alone(tmp_path, checkpoint, monkeypatch):
    root = str(tmp_path)
    read_objects, bad = storage.read_objects, photo(root, 5)

    def fail(objects, **options):
        answers = read_objects(objects, **options)
        lost = ImageError(ImageReason.UNAVAILABLE, "the store did not answer")
        return [
            lost if info.uri == bad else answer
            for info, answer in zip(objects, answers, strict=True)
        ]

    with monkeypatch.context() as patch:
        patch.setattr(storage, "read_objects", fail)
        config, stages = start_finished_run(root, checkpoint)
    assert read_rows(config.output, "images")["status"].to_pylist().count("error") == 1
    put_picture(photo(root, 30), 130)  # new, and not asked for
    put_picture(photo(root, 6), 106)  # changed, and not asked for
    changes = look_again(config, config.output, update=False, retry_failed=True)
    assert changes == Changes(retried=1)
    summaries = finish_without_ray(config, stages)
    assert [(row["slice"], row["images_read"]) for row in summaries] == [(1, 1)]
    assert read_rows(config.output, "images")["status"].to_pylist() == ["ok"] * 8
    assert bad in read_rows(config.output, "guesses")["image"].to_pylist()


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("failing", range(8))
def test_an_update_that_ended_between_any_two_objects_is_finished_by_the_next_run(
    tmp_path, checkpoint, monkeypatch, failing, after
):
    """Two slices of four objects; what stands before the receipt is ahead of it."""
    root = str(tmp_path)
    write_pictures(storage.join_uri(root, "in"), 4)
    config = make_config(root, checkpoint, slice_size=2, tasks=ALL_TASKS)
    stages = annotate_without_ray(config, config.output)
    put_picture(photo(root, 1), 101)
    storage.delete([photo(root, 2)])
    look_again(config, config.output)
    undisturbed = storage.join_uri(root, "undisturbed")
    shutil.copytree(config.output, undisturbed)
    finish_without_ray(config, replace(stages, output=undisturbed))

    with monkeypatch.context() as patch:
        FailingWrites(patch, failing=failing, after=after)
        with pytest.raises(StorageError):
            finish_without_ray(config, stages)
    for table in TABLES:
        found = [tuple(row[key] for key in KEYS[table]) for row in rows_as_dicts(config, table)]
        assert len(found) == len(set(found)), table
    assert not [name for name in list_all(config.output) if name.endswith(".tmp")]
    done = find_committed(open_manifest(config.output))
    assert len(done) == (failing + after) // 4

    summaries = finish_without_ray(config, stages)
    # What is kept is not read, though its tables may be ahead of their receipt.
    reads = {row["slice"]: row["images_read"] for row in summaries}
    assert reads == {number: reads for number, reads in {0: 1, 1: 0}.items() if number not in done}
    assert_same_rows(config.output, undisturbed)


def rows_as_dicts(config, table):
    return read_rows(config.output, table).to_pylist()


@pytest.mark.parametrize("damage", ["missing", "cut"])
@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("is_done", [False, True], ids=["before", "after"])
def test_a_touched_slice_whose_table_is_missing_or_damaged_is_done_again(
    tmp_path, checkpoint, caplog, table, damage, is_done
):
    config, stages = start_finished_run(str(tmp_path), checkpoint, count=4)
    put_picture(photo(str(tmp_path), 1), 101)
    look_again(config, config.output)
    if is_done:
        finish_without_ray(config, stages)
    path = Path(config.output, table, slice_name(0))
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:100])
    assert not find_committed(open_manifest(config.output))
    assert finish_without_ray(config, stages)[0]["images_read"] == 4
    assert find_committed(open_manifest(config.output)) == {0}
    assert "all 4 images are done again" in caplog.text
    fresh = str(tmp_path / "fresh")
    annotate_without_ray(config, fresh)
    assert_same_rows(config.output, fresh)


@pytest.mark.parametrize("table", TABLES)
def test_a_touched_slice_with_a_flipped_bit_behind_a_whole_footer_is_done_again(
    tmp_path, checkpoint, caplog, table
):
    config, stages = start_finished_run(str(tmp_path), checkpoint, count=4)
    put_picture(photo(str(tmp_path), 1), 101)
    look_again(config, config.output)
    path = Path(config.output, table, slice_name(0))
    data = bytearray(path.read_bytes())
    data[len(data) // 4] ^= 1
    path.write_bytes(data)
    assert read_notes(str(path))
    assert finish_without_ray(config, stages)[0]["images_read"] == 4
    assert "is not as it was written" in caplog.text
    fresh = str(tmp_path / "fresh")
    annotate_without_ray(config, fresh)
    assert_same_rows(config.output, fresh)


def test_an_image_that_is_kept_and_has_no_row_is_never_lost_in_silence(tmp_path, checkpoint):
    config, stages = start_finished_run(str(tmp_path), checkpoint, count=4)
    put_picture(photo(str(tmp_path), 1), 101)
    look_again(config, config.output)
    receipt = storage.join_uri(config.output, "images", slice_name(0))
    others = read_file(receipt).slice(1)
    provenance = Provenance(fingerprint=stages.fingerprint, generation=0)
    notes = {name: read_notes(receipt)[name] for name in ("counts", "tables")}
    storage.write_bytes(receipt, encode_table(others, IMAGES_SCHEMA, provenance, **notes))
    with pytest.raises(StorageError, match="rows of 2 of the 3 images"):
        finish_without_ray(config, stages)


def test_a_touched_slice_written_twice_has_the_same_bytes(tmp_path, checkpoint):
    """Ray does a task again whose answer got lost."""
    config, stages = start_finished_run(str(tmp_path), checkpoint)
    change_some(str(tmp_path))
    look_again(config, config.output)
    contents = []
    for _ in range(2):
        do_slice(config, stages, 0)
        contents.append(read_bytes_of(slice_files(config.output, 0)))
    assert contents[0] == contents[1]
