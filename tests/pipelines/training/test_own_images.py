"""Does a folder of images train a classifier by one command?"""

from __future__ import annotations

import json
import re

import numpy as np
import pytest

from overfeat.checkpoint import read_config
from pipelines.errors import InputError
from pipelines.training import run as run_module
from pipelines.training.own_images import pack_images
from pipelines.training.worker import train_worker
from tests.builders import encode_picture, run_command, write_scenes
from tests.pipelines.shards.pictures import write
from tests.pipelines.training.tiny_training import make_train_config


def write_images(root, count, *, start=0):
    """Red and green pictures, in a folder each."""
    for number in range(start, start + count):
        for channel, name in enumerate(("red", "green")):
            pixels = np.random.default_rng(number).integers(0, 60, (60, 80, 3)).astype(np.uint8)
            pixels[..., channel] += 180
            write(root / name / f"{number}.jpg", encode_picture(pixels))
    return root


def make_config(images, output, **changes):
    return make_train_config(None, output, images=str(images), task="classify", **changes)


@pytest.fixture
def without_ray(monkeypatch):
    """Train in this process; returns how often."""
    runs = []

    def run_here(job, tell):
        runs.append(job)
        run_module._create(job)
        train_worker(job, tell)

    monkeypatch.setattr(run_module, "_run", run_here)
    return runs


def test_one_command_trains_on_a_folder_and_a_second_one_finds_it_done(tmp_path, without_ray):
    images = write_images(tmp_path / "in", 8)
    command = (
        "train", "--images", images, "--output", tmp_path / "out", "--epochs", "1",
        "--held-out-share", "0.3", "--batch-size", "8", "--decoders", "0", "--json",
    )  # fmt: skip
    first, second = (run_command(*command) for _ in range(2))
    assert (first.code, second.code, len(without_ray)) == (0, 0, 1)
    report = json.loads(first.out)
    assert (report["epochs"], report["is_new"]) == (1, True)
    assert 0 <= report["measured"]["top1_error"] <= 1
    assert report["best"]["metric"] == "top1_error"
    again = json.loads(second.out)
    assert (again["steps"], again["is_new"], again["loss"]) == (report["steps"], False, None)
    assert "this training has ended before; nothing is done" in second.err
    assert read_config(tmp_path / "out").classes == ("green", "red")
    assert not (tmp_path / "out" / "lease.json").exists()

    other = run_command(*command, "--learning-rate", "0.5")
    assert other.code == 2
    told = other.err.splitlines()[-1].split("configuration: ")[1]
    assert re.match(r"learning_rate \(there: [0-9.]+, here: 0.5\); use the same", told)
    (tmp_path / "out" / "config.json").unlink()
    assert run_command(*command).code == 0
    assert len(without_ray) == 2


def test_without_room_to_hold_out_nothing_is_measured(tmp_path, caplog):
    images = write_images(tmp_path / "in", 2)
    config = make_config(images, tmp_path / "out", held_out_share=0.0)
    packed = pack_images(config, config.output)
    assert (packed.shards, packed.images) == (str(tmp_path / "out" / "shards"), None)
    assert packed.held_out.validation is None
    assert "none are held out" in caplog.text
    assert pack_images(config, config.output) == packed


def test_folders_named_train_and_validation_are_what_they_say(tmp_path):
    write_images(tmp_path / "in" / "train", 3)
    write_images(tmp_path / "in" / "validation", 2, start=10)
    config = make_config(tmp_path / "in", tmp_path / "out")
    job = run_module.plan_job(pack_images(config, config.output), config.output)
    assert (job.shards.samples, job.held_out.samples) == (6, 4)
    assert job.config.held_out.validation_split == "validation"


def refuse(images, tmp_path, **changes):
    """What is said to a folder of images, of which nothing is packed then."""
    config = make_config(images, tmp_path / "out", **changes)
    with pytest.raises(InputError) as error:
        pack_images(config, config.output)
    assert not (tmp_path / "out").exists()
    return str(error.value)


def test_one_class_alone_is_refused_before_anything_is_packed(tmp_path):
    images = write_images(tmp_path / "in", 3)
    (images / "red").rename(tmp_path / "red")
    said = refuse(images, tmp_path)
    assert said.startswith(f"--images {images}: received one class (green), expected at least two")
    assert "--task detect" in said


def test_shards_of_one_class_are_refused_before_ray_starts(tmp_path, without_ray):
    shards = write_scenes(tmp_path / "scenes", 4, classes=("red",))
    ended = run_command(
        "train", "--shards", shards, "--output", tmp_path / "out", "--task", "classify"
    )
    assert ended.code == 2
    assert ended.refusal().startswith(f"--shards {shards}: received one class (red), expected")
    assert without_ray == []
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("task", ["detect", "joint"])
def test_one_class_is_enough_beside_a_background(tmp_path, task):
    shards = write_scenes(tmp_path / "scenes", 4, classes=("red",))
    config = make_train_config(shards, tmp_path / "out", task=task)
    assert run_module.plan_job(config, config.output).background == 1


def test_a_flat_folder_of_images_is_told_what_a_folder_of_a_class_is(tmp_path):
    for number in range(3):
        write(tmp_path / "in" / f"{number}.jpg", encode_picture(np.zeros((60, 80, 3), np.uint8)))
    assert refuse(tmp_path / "in", tmp_path) == (
        f"--images {tmp_path}/in: received 3 images and no folder of a class, expected "
        f"{tmp_path}/in/CLASS/image.jpg; put the images of each class into a folder of its own, "
        "which has the name of the class"
    )


def test_an_empty_folder_of_images_is_called_by_its_flag(tmp_path):
    (tmp_path / "in").mkdir()
    assert refuse(tmp_path / "in", tmp_path).startswith(f"--images {tmp_path}/in: nothing there")
    (tmp_path / "in" / "notes.txt").write_text("no image")
    assert "received no image and no folder of a class" in refuse(tmp_path / "in", tmp_path)


def test_images_that_are_all_held_out_are_refused_as_such(tmp_path):
    images = write_images(tmp_path / "in", 1)
    said = refuse(images, tmp_path, held_out_share=1 - 1e-9)
    assert said.startswith(f"--images {images}: all of them are held out")


def test_images_that_were_left_out_are_told_at_once_and_at_the_end(tmp_path, without_ray):
    images = write_images(tmp_path / "in", 4)
    damaged = images / "red" / "0.jpg"
    damaged.write_bytes(damaged.read_bytes()[:-300])
    command = (
        "train", "--images", images, "--output", tmp_path / "out", "--epochs", "1",
        "--held-out-share", "0", "--batch-size", "8", "--decoders", "0",
    )  # fmt: skip
    table = tmp_path / "out" / "shards" / "rejects.parquet"
    told = f"1 image was left out (1 truncated): {table} names it"
    first, again = run_command(*command), run_command(*command, "--json")
    assert first.out.splitlines()[-1] == told
    assert f"WARNING --images {images}: {told}" in first.err
    assert json.loads(again.out)["left_out"] == {"reasons": {"truncated": 1}, "table": str(table)}
    assert table.exists()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"images": None}, "expected one of them"),
        ({"shards": "there"}, "expected one of them"),
        ({"task": "joint"}, "needs boxes"),
        ({"held_out_share": 1.0}, "below 1"),
    ],
)
def test_what_does_not_fit_a_folder_of_images_is_refused(tmp_path, changes, words):
    said = {"shards": None, "images": "in", "task": "classify"} | changes
    with pytest.raises(InputError, match=words):
        make_train_config(said.pop("shards"), tmp_path, **said)
