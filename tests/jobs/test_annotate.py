"""Does `annotate` tell every mistake before it starts, in one sentence with the right exit code?"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import ray

from jobs.annotate import describe, describe_estimate
from pipelines import storage
from pipelines.annotate.dry_run import Estimate
from pipelines.annotate.run import AnnotateReport
from pipelines.comparison import Changes
from tests.builders import (
    annotate_flags,
    annotate_without_ray,
    assert_same_rows,
    list_all,
    make_checkpoint,
    make_config,
    run_command,
    write_pictures,
)

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return make_checkpoint(tmp_path_factory.mktemp("checkpoint") / "weights")


@pytest.fixture
def bucket(store_root):
    """A root with two pictures under `in`."""
    write_pictures(storage.join_uri(store_root, "in"), 2)
    return store_root


def refuse(root, checkpoint, *more, code=2, **changes):
    """Run a command that must end with a sentence and leave nothing behind."""
    before = list_all(root)
    ended = run_command(*annotate_flags(make_config(root, checkpoint, **changes)), *more)
    assert ended.code == code, ended.err
    assert list_all(root) == before
    return ended.refusal()


def without_log(ended):
    """Take away the lines that a command logs before it fails."""
    lines = [line for line in ended.err.splitlines() if " INFO " not in line]
    return ended._replace(err="\n".join(lines))


def test_a_folder_without_images_is_refused(store_root, checkpoint):
    storage.write_bytes(storage.join_uri(store_root, "in", "notes.txt"), b"no image")
    sentence = refuse(store_root, checkpoint)
    assert "no image there (1 other object)" in sentence
    assert ".jpg" in sentence


@pytest.mark.s3
def test_an_empty_bucket_is_refused(s3_bucket, checkpoint):
    root = f"s3://{s3_bucket}"
    assert "no image there (0 other objects)" in refuse(root, checkpoint, images=root + "/")


def test_a_missing_folder_is_refused(tmp_path, checkpoint):
    assert f"{tmp_path}/in: does not exist" in refuse(str(tmp_path), checkpoint)


@pytest.mark.s3
def test_a_missing_bucket_is_refused(s3_bucket, checkpoint):
    images = "s3://no-such-bucket-here/photos"
    sentence = refuse(f"s3://{s3_bucket}", checkpoint, images=images)
    assert "the bucket does not exist" in sentence
    assert "no-such-bucket-here" in sentence


@pytest.mark.s3
@pytest.mark.ray
def test_a_missing_bucket_for_the_output_is_refused(s3_bucket, checkpoint, ray_cluster):
    root = f"s3://{s3_bucket}"
    write_pictures(storage.join_uri(root, "in"), 2)
    sentence = refuse(root, checkpoint, output="s3://no-such-bucket-here/out")
    assert "the bucket does not exist" in sentence


@pytest.mark.s3
@pytest.mark.parametrize("name", ["AWS_SECRET_ACCESS_KEY", "AWS_ACCESS_KEY_ID"])
def test_wrong_credentials_fail_without_being_repeated(s3_bucket, checkpoint, monkeypatch, name):
    root = f"s3://{s3_bucket}"
    write_pictures(storage.join_uri(root, "in"), 2)
    flags = annotate_flags(make_config(root, checkpoint))
    with monkeypatch.context() as patch:
        patch.setenv(name, "wrong-but-private")
        ended = run_command(*flags)
    assert ended.code == 1
    assert "credentials" in ended.refusal() or "access denied" in ended.refusal()
    assert "wrong-but-private" not in ended.err
    assert not [name for name in list_all(root) if name.startswith("out/")]


@pytest.mark.s3
def test_no_credentials_at_all_fail(s3_bucket, checkpoint, monkeypatch):
    flags = annotate_flags(make_config(f"s3://{s3_bucket}", checkpoint))
    for name in ("AWS_SECRET_ACCESS_KEY", "AWS_ACCESS_KEY_ID"):
        monkeypatch.delenv(name)
    ended = run_command(*flags)
    assert ended.code == 1
    assert "AWS_ACCESS_KEY_ID" in ended.refusal()


def test_a_missing_checkpoint_is_refused(bucket, checkpoint):
    sentence = refuse(bucket, storage.join_uri(bucket, "absent"))
    assert "--weights" in sentence
    assert "no checkpoint there" in sentence


def test_a_damaged_checkpoint_is_refused(bucket, tmp_path):
    damaged = make_checkpoint(tmp_path / "damaged")
    weights = Path(damaged, "model.safetensors")
    weights.write_bytes(weights.read_bytes()[:-1000])
    assert f"--weights {damaged}: " in refuse(bucket, damaged)


def test_a_committee_that_knows_other_classes_is_refused(bucket, checkpoint, tmp_path):
    other = make_checkpoint(tmp_path / "other", classes=("ant", "cat"))
    sentence = refuse(bucket, checkpoint, "--weights", checkpoint, other)
    assert f"--weights {other}: its classes, or their order, differ" in sentence


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--scales", "245"], "'245'"),
        (["--scales", "100x100"], "at least 221x221"),
        (["--score-threshold", "2"], "received 2.0"),
        (["--slice-size", "0"], "--slice-size: received 0"),
        (["--max-failed-ratio", "-1"], "--max-failed-ratio: received -1"),
        (["--weights", "a", "b", "--tasks", "features"], "a committee has no common layers"),
        (["--tasks", "features", "--feature-layer", "fc99"], "expected one of standardize, conv1"),
        (["--feature-layer", "fc7"], "add it to --tasks"),
        (["--views", "ten-view", "--scales", "245x245"], "no ladder"),
        (
            ["--tasks", "features", "--feature-pool", "none", "--slice-size", "999999"],
            "--slice-size to",
        ),
        (["--merge", "best"], "best"),
    ],
)
def test_a_setting_out_of_range_is_refused(bucket, checkpoint, flags, words):
    assert words in refuse(bucket, checkpoint, *flags)


def test_images_inside_the_output_are_refused(bucket, checkpoint):
    assert "choose another output" in refuse(bucket, checkpoint, output=bucket)


@pytest.mark.parametrize("place", ["flag", "environment"])
def test_a_cluster_that_does_not_answer_is_told(tmp_path, checkpoint, monkeypatch, place):
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    write_pictures(str(tmp_path / "in"), 2)
    flags = ["--address", "127.0.0.1:9"] if place == "flag" else []
    if not flags:
        monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:9")
    assert "127.0.0.1:9" in refuse(str(tmp_path), checkpoint, *flags, code=1)


@pytest.mark.ray
def test_a_cluster_that_is_too_small_is_told(tmp_path, checkpoint, ray_cluster):
    write_pictures(str(tmp_path / "in"), 2)
    before = list_all(str(tmp_path))
    flags = annotate_flags(make_config(str(tmp_path), checkpoint, workers=99))
    ended = run_command(*flags, "--wait-for-resources", "0.1")
    assert ended.code == 1
    assert "expected 99" in without_log(ended).refusal()
    assert "waiting for resources" in ended.err
    assert list_all(str(tmp_path)) == before


@pytest.mark.ray
def test_a_dry_run_is_json_too(tmp_path, checkpoint, ray_cluster):
    write_pictures(str(tmp_path / "in"), 2)
    before = list_all(str(tmp_path))
    config = make_config(str(tmp_path), checkpoint)
    ended = run_command(*annotate_flags(config), "--dry-run", "--json")
    assert ended.code == 0
    assert json.loads(ended.out)["images"] == 2
    assert list_all(str(tmp_path)) == before


@pytest.mark.ray
def test_the_command_starts_a_ray_of_its_own_and_ends_with_it(tmp_path, checkpoint):
    write_pictures(str(tmp_path / "in"), 5)
    config = make_config(str(tmp_path), checkpoint)
    annotate_without_ray(config, str(tmp_path / "plain"))
    # The console script, in a folder with a package of the user's own that is named like ours.
    stranger = tmp_path / "pipelines" / "__init__.py"
    stranger.parent.mkdir()
    stranger.write_text("raise ImportError('of a stranger')")
    command = [str(Path(sys.executable).parent / "overfeat"), *annotate_flags(config), "--json"]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert "Traceback" not in ended.stderr
    report = json.loads(ended.stdout)
    assert (report["images"], report["failed"], report["slices"]) == (5, 0, 2)
    assert_same_rows(config.output, str(tmp_path / "plain"))


def make_report(**changes):
    values = {
        "output": "s3://b/out", "fingerprint": "f", "generation": 0, "images": 1200, "failed": 3,
        "errors": {"corrupt": 2, "changed": 1}, "boxes": 3456, "guesses": 0, "features": 0,
        "tasks": ("classify", "detect"), "changes": None, "images_read": 1000,
        "slices": 10, "slices_done": 8, "seconds": 100.0,
        "images_per_second": 10.0, "stage_seconds": {}, "failed_too_many": False,
    }  # fmt: skip
    return AnnotateReport(**values | changes)


def test_a_report_is_written_for_people():
    text = describe(make_report())
    assert "read 1,000 images in 0:01:40 (10.0 images/s, start-up included)" in text
    assert "1,200  in 10 slices" in text
    assert "3  (2 corrupt, 1 changed)" in text
    assert "boxes        3,456\ntables in s3://b/out" in text


def test_one_slice_is_not_called_slices():
    text = describe(make_report(images_read=1, slices=1))
    assert "read 1 image in" in text
    assert text.splitlines()[1].endswith("in 1 slice")


def test_too_many_failed_images_are_told_with_their_part():
    text = describe(make_report(failed_too_many=True))
    assert text.splitlines()[-1].startswith("0.25% of the images failed, more than")
    assert "failed, more" not in describe(make_report())


def test_a_report_names_the_tables_that_were_asked_for():
    asked = ("localize", "features")
    text = describe(make_report(tasks=asked, boxes=0, guesses=6000, features=1_234_567))
    assert "guesses      6,000\nfeatures 1,234,567\ntables in" in text
    assert "boxes" not in text
    assert "boxes            0" in describe(make_report(boxes=0))


def test_a_run_that_was_done_says_that_nothing_was_read():
    assert "read no image: every slice" in describe(make_report(images_read=0, slices_done=0))


def make_estimate(**changes):
    values = {
        "images": 40, "size_bytes": 9000, "slices": 2, "skipped": 0, "is_begun": True,
        "changes": None, "slices_unfinished": 2, "images_to_read": 40, "bytes_to_read": 9000,
        "slices_to_write": 2, "workers": 2, "measured_images": 7, "unreadable": (), "seconds": 61.0,
    }  # fmt: skip
    return Estimate(**values | changes)


def test_a_dry_run_names_what_it_could_not_read():
    plan = make_estimate(unreadable=("s3://b/x.jpg: corrupt: bad marker",))
    assert describe_estimate(plan).splitlines() == [
        "40 images, 9,000 bytes, 2 slices; about 0:01:01 after start-up with 2 workers (measured "
        "on 7 images)",
        "among the first images cannot be read: s3://b/x.jpg: corrupt: bad marker",
    ]
    unknown = make_estimate(seconds=None)
    assert "2 slices; how long it takes is not known, for no" in describe_estimate(unknown)


def test_a_dry_run_says_that_the_run_would_be_new_and_what_it_leaves_out():
    text = describe_estimate(make_estimate(is_begun=False, skipped=1))
    assert text.startswith(
        "a new run of 40 images, 9,000 bytes, 2 slices (1 other object is left out); about 0:01:01"
    )


def test_a_dry_run_of_an_update_says_what_is_to_be_read():
    changes = Changes(added=1, changed=1)
    plan = make_estimate(
        changes=changes,
        images_to_read=2,
        bytes_to_read=700,
        slices_to_write=1,
        seconds=1.0,
        slices_unfinished=1,
    )
    assert describe_estimate(plan).splitlines() == [
        "40 images, 9,000 bytes, 2 slices; 2 images, 700 bytes to be read for 1 slice; about "
        "0:00:01 after start-up with 2 workers (measured on 7 images)",
        "update  1 new, 1 changed, 0 gone, 0 failed and tried again as they were",
        "not known is which images of 1 slice that are not done yet will fail",
    ]


def test_as_many_images_to_read_as_there_are_may_be_others():
    plan = make_estimate(bytes_to_read=9001, slices_to_write=3)
    assert "2 slices; 40 images, 9,001 bytes to be read for 3 slices; about" in describe_estimate(
        plan
    )


@pytest.mark.parametrize(
    ("slices", "words"),
    [(0, "no image is to be read"), (1, "to be read; rows are to be dropped from 1 slice")],
)
def test_a_dry_run_says_that_nothing_is_to_be_read(slices, words):
    plan = make_estimate(images_to_read=0, slices_to_write=slices, seconds=0.0)
    assert describe_estimate(plan).endswith(words)


def test_an_update_says_what_it_found():
    changes = Changes(added=1000, changed=2, vanished=1)
    text = describe(make_report(changes=changes))
    assert (
        "\nupdate  1,000 new, 2 changed, 1 gone, 0 failed and tried again as they were\nimages"
        in text
    )
    assert "update" not in describe(make_report(changes=None))


def test_an_update_that_only_dropped_rows_says_so():
    report = make_report(changes=Changes(vanished=1), images_read=0, slices_done=1)
    assert "read no image: only rows of images that are gone were dropped" in describe(report)
