"""Does a dry run say what there is to do, without writing anything?"""

from __future__ import annotations

import pytest

from pipelines import storage
from pipelines.annotate.dry_run import estimate
from pipelines.errors import InputError
from tests.builders import list_all, make_config, write_pictures


def test_nothing_to_do_is_refused_before_ray_starts(tmp_path, checkpoint):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "notes.txt").write_text("no image")
    with pytest.raises(InputError, match="no image there"):
        estimate(make_config(str(tmp_path), checkpoint))


def test_a_scale_without_room_for_a_window_is_refused_before_ray_starts(tmp_path, checkpoint):
    write_pictures(str(tmp_path / "in"), 1)
    with pytest.raises(InputError, match="at least 221x221"):
        estimate(make_config(str(tmp_path), checkpoint, scales=("100x100",)))


def test_too_many_features_are_refused_before_ray_starts(tmp_path, checkpoint):
    write_pictures(str(tmp_path / "in"), 1)
    dense = {"tasks": ("features",), "feature_pool": "none", "feature_layer": "0"}
    with pytest.raises(InputError, match="lower --slice-size to"):
        estimate(make_config(str(tmp_path), checkpoint, **dense, slice_size=100_000))


@pytest.mark.ray
def test_a_dry_run_counts_measures_and_writes_nothing(store_root, checkpoint, ray_cluster):
    folder = storage.join_uri(store_root, "in")
    uris = write_pictures(folder, 9)
    storage.write_bytes(storage.join_uri(folder, "a-bad.jpg"), b"no image")
    storage.write_bytes(storage.join_uri(folder, "notes.txt"), b"skipped")
    before = list_all(store_root)
    plan = estimate(make_config(store_root, checkpoint))
    assert (plan.images, plan.slices, plan.skipped, plan.workers) == (10, 3, 1, 1)
    listed = sum(info.size for info in storage.iter_objects(folder) if info.uri in uris)
    assert plan.size_bytes == listed + len(b"no image")
    assert (plan.images_to_read, plan.bytes_to_read) == (plan.images, plan.size_bytes)
    # The rate is measured on the first eight images, of which one cannot be read.
    assert plan.measured_images == 7
    (wrong,) = plan.unreadable
    assert wrong.startswith(f"{folder}/a-bad.jpg: not_an_image: ")
    assert 0 < plan.seconds < 600
    assert list_all(store_root) == before


@pytest.mark.ray
def test_without_a_readable_image_no_time_is_guessed(tmp_path, checkpoint, ray_cluster):
    for number in range(3):
        storage.write_bytes(str(tmp_path / "in" / f"{number}.jpg"), b"no image")
    plan = estimate(make_config(str(tmp_path), checkpoint, limit=2))
    assert (plan.images, plan.measured_images, plan.seconds) == (2, 0, None)
    assert len(plan.unreadable) == 2
