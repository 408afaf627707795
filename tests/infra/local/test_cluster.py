"""Does the main job run by `ray job submit`, and does its cluster leave nothing behind?"""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import zipfile
from contextlib import suppress
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import infra
from infra.local.cluster import LocalCluster

# isort: split
import psutil  # Ray brings it along, and must have been imported

pytestmark = [pytest.mark.ray, pytest.mark.s3]

REPOSITORY = Path(infra.__file__).parents[1]
RAY = str(Path(sys.executable).parent / "ray")
IMAGES = [f"s3://photos/{number:02d}.jpg" for number in range(12)]
# Enough to make the slices three and the work short.
FLAGS = ("--slice-size", "4", "--scales", "245x245", "--stride", "coarse", "--json")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """A cluster with two buckets: `photos` holds a dozen pictures, `annotations` nothing yet."""
    with LocalCluster(tmp_path_factory.mktemp("s3"), cpus=2) as cluster:
        for bucket in ("photos", "annotations"):
            cluster.s3.make_bucket(bucket)
        noise = np.random.default_rng(0)
        for uri in IMAGES:
            pixels = noise.integers(0, 256, (64, 96, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(cluster.s3.folder / uri.removeprefix("s3://"))
        yield cluster


@pytest.fixture(scope="module")
def first_run(cluster):
    """The main job, done once from the working directory."""
    flags = ("--images", "s3://photos/", "--output", "s3://annotations/run", *FLAGS)
    done = submit(cluster, "first", annotate(*flags), "--working-dir", str(REPOSITORY))
    assert done.returncode == 0, done.stdout
    return cluster.s3.folder / "annotations" / "run"


def annotate(*flags):
    return ["python", "-m", "jobs.annotate", *flags]


def submit(cluster, submission_id, entrypoint, *options):
    return ray(
        cluster, "job", "submit", "--submission-id", submission_id, *options, "--", *entrypoint
    )


def ray(cluster, *arguments):
    return subprocess.run(
        [RAY, *arguments],
        env={**os.environ, **cluster.environment(), "RAY_COLOR_MODE": "false"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=150,
        check=False,
    )


def read_logs(cluster, submission_id):
    return ray(cluster, "job", "logs", submission_id).stdout


def read_result(logs):
    return json.loads(next(line for line in logs.splitlines() if line.startswith("{")))


def test_a_submitted_job_writes_one_row_for_every_image(cluster, first_run):
    images = pd.read_parquet(first_run / "images")

    assert sorted(images["image"]) == IMAGES
    assert set(images["status"]) == {"ok"}


def test_progress_and_the_result_of_a_job_stand_in_its_logs(cluster, first_run):
    logs = read_logs(cluster, "first")

    assert "12/12 images" in logs
    assert read_result(logs)["images_read"] == 12


def test_the_same_job_submitted_again_reads_no_image(cluster, first_run):
    flags = ("--images", "s3://photos/", "--output", "s3://annotations/run", *FLAGS)
    done = submit(cluster, "again", annotate(*flags))

    assert done.returncode == 0, done.stdout
    result = read_result(done.stdout)
    assert (result["images"], result["images_read"]) == (12, 0)


def test_a_job_without_its_bucket_fails_with_code_2_and_one_sentence(cluster):
    flags = ("--images", "s3://nowhere/", "--output", "s3://annotations/nothing")
    done = submit(cluster, "nowhere", annotate(*flags))

    assert done.returncode == 1  # the code of `ray job submit` for every failure
    assert "failed with exit code 2" in done.stdout
    logs = read_logs(cluster, "nowhere")
    assert "Traceback" not in logs
    said = [line for line in logs.splitlines() if line.startswith("error: ")]
    assert len(said) == 1
    assert "s3://nowhere/" in said[0]
    assert not (cluster.s3.folder / "annotations" / "nothing").exists()


def test_without_the_token_nobody_submits(cluster):
    strangers = {**cluster.environment(), "RAY_AUTH_TOKEN": "a-guess-of-32-characters-or-more"}
    done = subprocess.run(
        [RAY, "job", "list"], env={**os.environ, **strangers}, capture_output=True, check=False
    )

    assert done.returncode != 0
    assert b"Invalid authentication token" in done.stderr


def test_a_working_directory_holds_the_packages_and_little_else(tmp_path):
    from ray._private.runtime_env.packaging import create_package

    package = tmp_path / "package.zip"
    create_package(
        str(REPOSITORY), package, include_gitignore=True, logger=logging.getLogger(__name__)
    )

    names = zipfile.ZipFile(package).namelist()
    assert {name.split("/")[0] for name in names} == {"jobs", "overfeat", "pipelines"}
    assert {"jobs/annotate.py", "overfeat/weights/demo/model.safetensors"} <= set(names)
    assert package.stat().st_size < 20e6


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGKILL])
def test_nothing_outlives_the_process_that_started_the_cluster(tmp_path, ending):
    starter = subprocess.Popen(
        [sys.executable, "-m", "infra.local.cluster", str(tmp_path)],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    exports = [starter.stdout.readline() for _ in range(11)]
    processes = psutil.Process(starter.pid).children(recursive=True)
    folders = {}
    for process in processes:
        # Some of them have ended, and nobody has asked for their end yet.
        with suppress(psutil.ZombieProcess, psutil.NoSuchProcess):
            folders[process.name()] = Path(process.cwd())
    starter.send_signal(ending)
    starter.communicate(timeout=60)
    # Who was asked to end waits for the others; who was killed cannot.
    _, left = psutil.wait_procs(processes, timeout=0 if ending == signal.SIGTERM else 30)

    assert all(line.startswith("export ") for line in exports)
    assert {"raylet", "gcs_server", "rclone"} <= folders.keys()
    assert left == []
    assert not folders["raylet"].exists()


def test_a_cluster_that_cannot_start_says_why(tmp_path):
    # The path of a Unix socket may have 107 characters.
    long = tmp_path / ("long" * 20)
    long.mkdir()
    with pytest.raises(RuntimeError, match="AF_UNIX"), LocalCluster(tmp_path, temp_root=long):
        pass
