"""Is every setting that can change a row in the fingerprint, and every wrong one refused?"""

from __future__ import annotations

import dataclasses
from dataclasses import fields

import pytest

from overfeat.merge import MergeConfig
from overfeat.predictor import PredictConfig
from overfeat.scales import Canvas
from pipelines.annotate import config as config_module
from pipelines.annotate.config import AnnotateConfig, ResolvedModel, resolve_scales, row_settings
from pipelines.errors import InputError
from pipelines.fingerprint import compute_fingerprint
from pipelines.images import IMAGE_SUFFIXES, ImageLimits
from pipelines.weights import fetch_checkpoint
from tests.builders import make_checkpoint, make_config, resolve_model

CHANGES_ROWS = {
    "images": "/elsewhere",
    "weights": "OTHER",
    "tasks": ("detect",),
    "scales": ("245x281",),
    "stride": "coarse",
    "flips": True,
    "score_threshold": 0.7,
    "max_boxes": 7,
    "slice_size": 5,
    "slice_bytes": 12345,
    "dtype": "bfloat16",
    "threads": 2,
    "limit": 3,
    "suffixes": (".jpg",),
    "max_pixels": 1000,
    "max_bytes": 1000,
    "max_frames": 7,
}
"""Settings that can change a row or the manifest, each with another value than the default."""

CANNOT_CHANGE_A_ROW = {
    "output": "/elsewhere",
    "workers": 2,
    "cpus_per_read": 0.25,
    "dry_run": True,
    "max_failed_ratio": 0.5,
    "wait_for_resources": 1.0,
    "address": "auto",
}
"""Settings that say where and how fast, or only how the command ends."""


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoints")
    return {
        "demo": fetch_checkpoint(make_checkpoint(folder / "one", seed=1)),
        "OTHER": fetch_checkpoint(make_checkpoint(folder / "two", seed=2)),
    }


def fingerprint_of(checkpoints, **changes):
    config = AnnotateConfig(**{"images": "/in", "output": "/out"} | changes)
    dtype = "float32" if config.dtype == "auto" else config.dtype
    model = resolve_model(config, checkpoints[config.weights], dtype=dtype)
    return compute_fingerprint(row_settings(config, model))


def test_every_setting_is_known_to_change_rows_or_not_to():
    names = {field.name for field in fields(AnnotateConfig)}
    assert not CHANGES_ROWS.keys() & CANNOT_CHANGE_A_ROW.keys()
    assert CHANGES_ROWS.keys() | CANNOT_CHANGE_A_ROW.keys() == names, (
        "say of the new setting whether it can change a row; if it can, row_settings needs it"
    )


@pytest.mark.parametrize("name", CHANGES_ROWS)
def test_what_can_change_a_row_is_in_the_fingerprint(checkpoints, name):
    assert getattr(AnnotateConfig(images="/in", output="/out"), name) != CHANGES_ROWS[name]
    changed = fingerprint_of(checkpoints, **{name: CHANGES_ROWS[name]})
    assert changed != fingerprint_of(checkpoints)


@pytest.mark.parametrize("name", CANNOT_CHANGE_A_ROW)
def test_what_cannot_change_a_row_is_not_in_the_fingerprint(checkpoints, name):
    changed = fingerprint_of(checkpoints, **{name: CANNOT_CHANGE_A_ROW[name]})
    assert changed == fingerprint_of(checkpoints)


def test_the_default_and_its_spelled_out_value_are_one_configuration(checkpoints):
    suffixes = tuple(suffix.upper() for suffix in reversed(IMAGE_SUFFIXES))
    explicit = fingerprint_of(
        checkpoints,
        dtype="float32",
        scales=("245x245",),
        tasks=("detect", "classify", "detect"),
        suffixes=suffixes,
    )
    assert explicit == fingerprint_of(checkpoints)


def test_a_path_and_its_other_spellings_are_one_input(checkpoints, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    spellings = ["photos", "./photos/", f"file://{tmp_path}/photos", str(tmp_path / "photos")]
    assert len({fingerprint_of(checkpoints, images=text) for text in spellings}) == 1


def test_the_kind_of_device_is_in_the_fingerprint(checkpoints):
    config = AnnotateConfig(images="/in", output="/out")
    settings = [
        row_settings(config, resolve_model(config, checkpoints["demo"], device=device))
        for device in ("cpu", "cuda")
    ]
    assert len(set(map(compute_fingerprint, settings))) == 2


def test_the_version_of_the_results_is_in_the_fingerprint(checkpoints, monkeypatch):
    before = fingerprint_of(checkpoints)
    monkeypatch.setattr(config_module, "RESULTS_VERSION", config_module.RESULTS_VERSION + 1)
    assert fingerprint_of(checkpoints) != before


def test_every_setting_of_the_model_and_the_decoder_is_in_the_fingerprint(checkpoints):
    config = AnnotateConfig(images="/in", output="/out")
    settings = row_settings(config, resolve_model(config, checkpoints["demo"]))
    for kind in (PredictConfig, ImageLimits):
        assert {field.name for field in fields(kind)} <= settings.keys()
    assert {field.name for field in fields(MergeConfig)} == settings["merge"].keys()
    assert "shrink" in settings
    kept = {"digest": "weights_digest"}
    assert {kept.get(field.name, field.name) for field in fields(ResolvedModel)} <= settings.keys()


def test_the_settings_reach_the_model_and_the_decoder():
    config = make_config(
        "/r", "w", stride="coarse", flips=True, score_threshold=0.7, max_boxes=9,
        scales=("245x281",), max_pixels=11, max_bytes=12, max_frames=13,
    )  # fmt: skip
    predict = config.predict_config()
    assert predict.scales == (Canvas(245, 281),)
    assert (predict.stride, predict.flips) == ("coarse", True)
    assert (predict.score_threshold, predict.max_boxes) == (0.7, 9)
    limits = config.image_limits()
    assert dataclasses.astuple(limits) == (11, 12, 13)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("slice_size", 0, "--slice-size: received 0"),
        ("slice_bytes", -5, "--slice-bytes: received -5"),
        ("workers", 0, "--workers: received 0"),
        ("threads", 0, "--threads: received 0"),
        ("limit", 0, "--limit: received 0"),
        ("max_pixels", 0, "--max-pixels: received 0"),
        ("max_bytes", 0, "--max-bytes: received 0"),
        ("max_frames", 0, "--max-frames: received 0"),
        ("max_boxes", 0, "max_boxes: received 0"),
        ("score_threshold", 2.0, "score threshold: received 2.0"),
        ("score_threshold", 0.0, "score threshold: received 0.0"),
        ("score_threshold", float("nan"), "score threshold: received nan"),
        ("max_failed_ratio", 1.5, "--max-failed-ratio: received 1.5"),
        ("max_failed_ratio", float("nan"), "--max-failed-ratio: received nan"),
        ("cpus_per_read", 0.0, "--cpus-per-read"),
        ("cpus_per_read", float("nan"), "--cpus-per-read"),
        ("wait_for_resources", float("inf"), "--wait-for-resources"),
        ("tasks", (), "--tasks"),
        ("suffixes", (), "--suffixes"),
        ("scales", ("245",), "'245'"),
        ("scales", ("0x245",), "0x245"),
    ],
)
def test_a_setting_out_of_range_is_refused_with_its_value(name, value, words):
    with pytest.raises(InputError) as error:
        make_config("/r", "w", **{name: value})
    assert words in str(error.value)
    assert "expected" in str(error.value)
    assert "\n" not in str(error.value)


def test_the_ladder_is_the_commands_or_else_the_checkpoints(checkpoints):
    checkpoint = checkpoints["demo"].config
    assert resolve_scales(make_config("/r", "w"), checkpoint) == (Canvas(245, 245),)
    asked = make_config("/r", "w", scales=("281x317", "245x245"))
    assert resolve_scales(asked, checkpoint) == (Canvas(281, 317), Canvas(245, 245))


def test_a_scale_without_room_for_a_window_is_refused(checkpoints):
    config = make_config("/r", "w", scales=("245x245", "100x300"))
    with pytest.raises(InputError, match="--scales: received 100x300, expected at least 221x221"):
        resolve_scales(config, checkpoints["demo"].config)
