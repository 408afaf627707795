"""Does a run on Ray give the rows of the plain stages, once each, and go on where it stood?"""

from __future__ import annotations

import json
import logging
import os
import shutil
import threading
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import overfeat
from overfeat import FeatureConfig, PredictConfig
from pipelines import manifest, storage
from pipelines.annotate.run import annotate
from pipelines.errors import StorageError
from pipelines.images import ImageLimits, decode_image
from pipelines.receipts import list_receipts
from pipelines.tables import slice_name
from tests.builders import (
    CLASSES,
    annotate_flags,
    annotate_without_ray,
    assert_same_rows,
    list_all,
    make_checkpoint,
    make_config,
    read_rows,
    run_command,
    write_pictures,
)
from tests.pipelines.annotate.processes import find_detect_actors, kill_all

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster")]


def commit_run(root, *checkpoints, **changes):
    """A run of two images whose slice was committed before: no detect actor has to start."""
    write_pictures(storage.join_uri(root, "in"), 2)
    config = make_config(root, *checkpoints, **changes)
    stages = annotate_without_ray(config, config.output)
    assert annotate(config).images_read == 0
    return config, stages


def test_a_run_gives_the_rows_of_the_plain_stages_and_the_next_one_reads_no_image(
    store_root, checkpoint
):
    folder = storage.join_uri(store_root, "in")
    uris = write_pictures(folder, 39)
    storage.write_bytes(storage.join_uri(folder, "bad.jpg"), b"no image")
    storage.write_bytes(storage.join_uri(folder, "notes.txt"), b"skipped")
    config = make_config(store_root, checkpoint)
    plain = storage.join_uri(store_root, "plain")
    annotate_without_ray(config, plain)

    ended = run_command(*annotate_flags(config), "--json")
    report = json.loads(ended.out)
    # One image in forty is more than the allowed hundredth.
    assert ended.code == 3
    assert (report["images"], report["images_read"], report["slices_done"]) == (40, 40, 10)
    assert (report["failed"], report["errors"]) == (1, {"not_an_image": 1})
    assert report["boxes"] == read_rows(plain, "boxes").num_rows > 40
    assert_same_rows(config.output, plain)
    assert manifest.read_summary(config.output).skipped == 1

    before = list_all(config.output)
    storage.delete(uris)  # what is not there cannot be read again
    ended = run_command(*annotate_flags(config), "--max-failed-ratio", "0.05")
    assert ended.code == 0
    assert "read no image" in ended.out
    assert_same_rows(config.output, plain)
    (new,) = set(list_all(config.output)) - set(before)
    assert new.startswith("runs/")


def test_the_tables_of_all_tasks_are_what_the_model_says_in_python(tmp_path, checkpoint):
    uris = write_pictures(str(tmp_path / "in"), 3)
    tasks = ("classify", "localize", "detect", "features")
    config = make_config(str(tmp_path), checkpoint, slice_size=1, tasks=tasks)
    ended = run_command(*annotate_flags(config), "--feature-layer", "fc7", "--json")
    report = json.loads(ended.out)
    images, guesses, boxes, features = (
        pd.read_parquet(f"{config.output}/{table}")
        for table in ("images", "guesses", "boxes", "features")
    )
    assert (report["images"], report["guesses"], report["boxes"], report["features"]) == (
        3, len(guesses), len(boxes), len(features),
    )  # fmt: skip
    torch.set_num_threads(config.threads)
    model = overfeat.load(checkpoint, device="cpu")
    predict = PredictConfig(
        score_threshold=config.score_threshold, features=FeatureConfig(layer="fc7")
    )
    for uri in uris:
        image = decode_image(Path(uri).read_bytes(), ImageLimits())
        rows = {
            table: frame[frame.image == uri].reset_index()
            for table, frame in (("guesses", guesses), ("boxes", boxes), ("features", features))
        }
        for table, found in (
            ("guesses", model.localize(image, predict)),
            ("boxes", model.detect(image, predict)),
        ):
            assert len(found) > 1
            assert rows[table].label.tolist() == list(found.labels)
            assert np.array_equal(rows[table].score, found.scores)
            corners = rows[table][["x_min", "y_min", "x_max", "y_max"]]
            assert np.array_equal(corners, found.boxes_xyxy)
        best = model.classify(image, predict)
        assert np.array_equal(images.set_index("image").scores[uri], best.scores)
        (seen,) = model.predict([model.prepare(image, predict)], predict, ("features",))
        assert np.array_equal(np.stack(rows["features"].vector), seen.features.vectors)


def test_a_run_goes_on_where_it_stood(tmp_path, checkpoint):
    write_pictures(str(tmp_path / "in"), 10)
    config = make_config(str(tmp_path), checkpoint, slice_size=2)
    plain = str(tmp_path / "plain")
    annotate_without_ray(config, plain)
    annotate_without_ray(config, config.output, slices=[0, 3])
    # A slice whose boxes are there without a receipt was not committed.
    boxes = slice_name(4)
    shutil.copy(Path(plain, "boxes", slice_name(0)), Path(config.output, "boxes", boxes))
    for number in (0, 3):
        place = manifest.open_manifest(config.output).place_of(number)
        for entry in manifest.read_slice(config.output, place):
            Path(entry.info.uri).unlink()
    report = annotate(config)
    assert (report.images, report.images_read, report.slices_done) == (10, 6, 3)
    assert report.failed == 0
    assert report.boxes == read_rows(plain, "boxes").num_rows
    assert_same_rows(config.output, plain)


def test_a_killed_detect_actor_costs_no_row(tmp_path, checkpoint):
    write_pictures(str(tmp_path / "in"), 20)
    config = make_config(str(tmp_path), checkpoint, slice_size=2, scales=("317x389",))
    plain = str(tmp_path / "plain")
    annotate_without_ray(config, plain)
    at_kill = {}

    def kill_detect_actors():
        deadline = time.monotonic() + 60
        while not list_receipts(config.output) and time.monotonic() < deadline:
            time.sleep(0.01)
        actors = find_detect_actors(os.getpid())
        at_kill.update(actors=len(actors), committed=len(list_receipts(config.output)))
        kill_all(actors)

    killer = threading.Thread(target=kill_detect_actors)
    killer.start()
    report = annotate(config)
    killer.join()
    assert at_kill["actors"] >= 1
    assert 1 <= at_kill["committed"] < 10
    assert (report.images, report.slices_done) == (20, 10)
    assert_same_rows(config.output, plain)


def test_another_configuration_is_refused_naming_what_differs(tmp_path, checkpoint):
    config, _ = commit_run(str(tmp_path), checkpoint)
    before = list_all(config.output)
    ended = run_command(*annotate_flags(config), "--flips", "--max-boxes", 7)
    assert ended.code == 2
    sentence = ended.refusal()
    assert config.output in sentence
    assert "flips (there: false, here: true)" in sentence
    assert "max_boxes (there: 100, here: 7)" in sentence
    assert "score_threshold" not in sentence
    assert list_all(config.output) == before


def test_rows_that_lost_their_run_json_are_taken_up_with_their_own_settings_alone(
    tmp_path, checkpoint
):
    config, _ = commit_run(str(tmp_path), checkpoint)
    path = Path(config.output, "run.json")
    path.unlink()
    ended = run_command(*annotate_flags(config), "--max-boxes", 7)
    assert ended.code == 2
    assert "its run.json is gone, and" in ended.refusal()
    assert not path.exists()
    ended = run_command(*annotate_flags(config))
    assert ended.code == 0
    assert "its run.json is gone" in ended.err
    assert path.exists()


def test_run_json_tells_configuration_model_and_versions(tmp_path, checkpoint):
    config, stages = commit_run(str(tmp_path), checkpoint)
    run = json.loads(Path(config.output, "run.json").read_text())
    assert run["fingerprint"] == stages.fingerprint
    assert run["settings"]["score_threshold"] == config.score_threshold
    assert run["configuration"]["workers"] == 1
    assert tuple(run["model"]["classes"]) == CLASSES
    assert (run["model"]["weights"], run["model"]["architectures"]) == ([checkpoint], ["tiny"])
    assert len(run["model"]["digest"]) == 64
    assert {"python", "torch", "ray", "pyarrow"} <= run["versions"].keys()


def test_run_json_tells_every_member_of_a_committee(tmp_path, checkpoint):
    weights = [checkpoint, make_checkpoint(tmp_path / "other", seed=2)]
    config, stages = commit_run(str(tmp_path), *weights)
    run = json.loads(Path(config.output, "run.json").read_text())
    assert run["fingerprint"] == stages.fingerprint
    assert run["model"]["weights"] == weights
    assert run["model"]["architectures"] == ["tiny", "tiny"]
    assert run["model"]["digest"] == run["settings"]["weights_digest"]


def test_every_invocation_leaves_its_report(tmp_path, checkpoint):
    config, _ = commit_run(str(tmp_path), checkpoint)
    annotate(config)
    reports = [json.loads(path.read_text()) for path in Path(config.output, "runs").iterdir()]
    assert [(report["images"], report["images_read"]) for report in reports] == [(2, 0)] * 2
    assert all(report["seconds"] > 0 for report in reports)


@pytest.mark.s3
def test_no_credentials_are_written(s3_bucket, checkpoint):
    config, _ = commit_run(f"s3://{s3_bucket}", checkpoint)
    secrets = [os.environ["AWS_SECRET_ACCESS_KEY"], os.environ["AWS_ACCESS_KEY_ID"]]
    for info in storage.iter_objects(config.output):
        text = storage.read_bytes(info.uri)
        assert not [secret for secret in secrets if secret.encode() in text]


def test_other_library_versions_warn_and_do_not_refuse(tmp_path, checkpoint, caplog):
    config, _ = commit_run(str(tmp_path), checkpoint)
    path = Path(config.output, "run.json")
    run = json.loads(path.read_text())
    run["versions"]["torch"] = "1.0.0"
    path.write_text(json.dumps(run))
    with caplog.at_level(logging.WARNING):
        annotate(config)
    assert "torch was 1.0.0 when the run started" in caplog.text


def test_a_manifest_without_its_last_file_is_written_anew(tmp_path, checkpoint):
    config, _ = commit_run(str(tmp_path), checkpoint, limit=2)
    write_pictures(str(tmp_path / "in"), 2, start=2)
    complete = Path(manifest.generation_folder(config.output, 0), manifest.COMPLETE)
    complete.unlink()
    # Nothing is done before it stands.
    for table in ("boxes", "images"):
        shutil.rmtree(Path(config.output, table))
    Path(complete.parent, "part-00000-0123456789abcdef.parquet").write_bytes(b"half a part")
    assert annotate(config).images == 2
    assert complete.exists()
    (place,) = manifest.open_manifest(config.output).places
    assert len(manifest.read_slice(config.output, place)) == 2


def test_a_store_that_fails_in_a_worker_is_one_sentence(tmp_path, checkpoint):
    write_pictures(str(tmp_path / "in"), 4)
    config = make_config(str(tmp_path), checkpoint)
    Path(config.output).mkdir()
    Path(config.output, "boxes").write_text("a file where the folder should be")
    with pytest.raises(StorageError) as error:
        annotate(config)
    assert type(error.value) is StorageError
    assert "boxes/slice-000000.parquet" in str(error.value)
    assert "\n" not in str(error.value)
    assert list_receipts(config.output) == set()
