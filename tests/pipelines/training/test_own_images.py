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
from tests.builders import encode_picture, run_command
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
