"""Do updates hold what they promise on a real cluster, killed and paused drivers included?"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.builders import (
    annotate_flags,
    annotate_without_ray,
    encode_picture,
    make_config,
    make_picture,
    read_rows,
    run_command,
    write_pictures,
)
from tests.pipelines.annotate.agreement import assert_rows_agree
from tests.pipelines.annotate.drivers import torture_drivers
from tests.pipelines.annotate.file_reads import FileReads

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster")]

ALL_TASKS = ("classify", "localize", "detect", "features")


def name_of(number):
    return f"photo-{number:03d}.jpg"


def change_pictures(folder):
    """Ten are new, one is another one, one is gone."""
    write_pictures(str(folder), 10, start=50)
    Path(folder, name_of(1)).write_bytes(encode_picture(make_picture(101)))
    Path(folder, name_of(2)).unlink()


def test_an_update_reads_what_is_new_changed_or_mended_and_nothing_else(tmp_path, checkpoint):
    folder = tmp_path / "in"
    write_pictures(str(folder), 20)
    good = Path(folder, name_of(9)).read_bytes()
    Path(folder, name_of(9)).write_bytes(good[:100])
    config = make_config(str(tmp_path), checkpoint, tasks=ALL_TASKS)
    annotate_without_ray(config, config.output)
    before = read_rows(config.output, "images").to_pylist()

    change_pictures(folder)
    Path(folder, name_of(9)).write_bytes(good)
    with FileReads(folder) as reads:
        ended = run_command(*annotate_flags(config), "--update", "--retry-failed", "--json")
        assert reads.names() == {name_of(number) for number in (1, 9, *range(50, 60))}
    report = json.loads(ended.out)
    assert ended.code == 0
    assert report["images_read"] == 12
    assert report["changes"] == {"added": 10, "changed": 2, "vanished": 1, "retried": 0}
    assert (report["images"], report["failed"], report["generation"]) == (29, 0, 1)
    untouched = [row for row in before if row["slice"] not in {0, 2}]
    rows = read_rows(config.output, "images").to_pylist()
    assert [row for row in rows if row in untouched] == untouched
    fresh = str(tmp_path / "fresh")
    annotate_without_ray(config, fresh)
    assert_rows_agree(config.output, fresh)


def test_drivers_that_are_killed_leave_the_rows_of_an_undisturbed_update(tmp_path, checkpoint):
    """`torture_drivers` with more kills, other seeds and a paused driver is its like."""
    folder = tmp_path / "in"
    write_pictures(str(folder), 12)
    config = make_config(str(tmp_path), checkpoint, slice_size=2)
    stages = annotate_without_ray(config, config.output)
    change_pictures(folder)
    torture_drivers(config, stages, tmp_path / "drivers.log", kills=1, seed=1, pause=False)
