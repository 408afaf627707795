"""Is every setting that can change a row in the fingerprint, and no other?"""

from __future__ import annotations

from dataclasses import fields, replace

import pytest

from overfeat.features import FeatureConfig
from overfeat.localization import LocalizeConfig
from overfeat.merge import MERGES, NonMaxSuppression
from overfeat.predict_config import PredictConfig
from overfeat.scales import Canvas
from pipelines.annotate import settings as settings_module
from pipelines.annotate.config import AnnotateConfig
from pipelines.annotate.resolve import resolve_model
from pipelines.annotate.settings import row_settings
from pipelines.fingerprint import compute_fingerprint
from pipelines.images import IMAGE_SUFFIXES, ImageLimits
from pipelines.weights import fetch_model
from tests.builders import make_checkpoint

CHANGES_ROWS = {
    "images": "/elsewhere",
    "weights": ("OTHER",),
    "tasks": ("detect",),
    "views": "ten-view",
    "scales": ("245x281",),
    "stride": "coarse",
    "flips": True,
    "score_threshold": 0.7,
    "max_boxes": 7,
    "merge": "nms",
    "merged_classes": "any",
    "feature_layer": "fc7",
    "feature_pool": "max",
    "slice_size": 5,
    "slice_bytes": 12345,
    "dtype": "bfloat16",
    "threads": 2,
    "limit": 3,
    "suffixes": (".jpg",),
    "max_pixels": 1000,
    "max_bytes": 1000,
    "max_frames": 7,
    "image_timeout": 7.0,
}
"""Settings that can change a row or the manifest, each with another value than the default."""

CANNOT_CHANGE_A_ROW = {
    "output": "/elsewhere",
    "workers": 2,
    "cpus_per_read": 0.25,
    "dry_run": True,
    "update": True,
    "retry_failed": True,
    "max_failed_ratio": 0.5,
    "wait_for_resources": 1.0,
    "address": "auto",
}
"""Settings that say where and how fast, or only how the command ends."""

OF_THE_CORE = {
    PredictConfig: {
        "views": "centre-crop",
        "scales": (Canvas(245, 281),),
        "stride": "coarse",
        "flips": True,
        "score_threshold": 0.7,
        "max_boxes": 7,
        "merge": NonMaxSuppression(),
        "merged_classes": "any",
        "localize": LocalizeConfig(guesses=2),
        "features": FeatureConfig(pool="max"),
        "top_classes": 2,
        "batch_pixels": 1000,
    },
    LocalizeConfig: {"guesses": 2, "classes_per_scale": 2, "merge": NonMaxSuppression()},
    FeatureConfig: {"layer": "fc7", "pool": "max"},
}
"""Settings that the core knows, flags or not, each with another value than the default."""

ALL_TASKS = ("classify", "localize", "detect", "features")


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoints")
    one, two = (make_checkpoint(folder / str(seed), seed=seed) for seed in (1, 2))
    names = {"demo": one, "OTHER": two}
    several = [("demo",), ("OTHER",), ("demo", "OTHER"), ("OTHER", "demo")]
    return {names_of: fetch_model([names[name] for name in names_of]) for names_of in several}


def settings_of(models, *, device="cpu", **changes):
    values = {"images": "/in", "output": "/out", "tasks": ALL_TASKS} | changes
    config = AnnotateConfig(**values)
    dtype = "float32" if config.dtype == "auto" else config.dtype
    model = resolve_model(config, models[config.weights])
    return row_settings(config, model, device=device, dtype=dtype)


def fingerprint_of(models, **changes):
    return compute_fingerprint(settings_of(models, **changes))


def test_every_setting_is_known_to_change_rows_or_not_to():
    names = {field.name for field in fields(AnnotateConfig)}
    assert not CHANGES_ROWS.keys() & CANNOT_CHANGE_A_ROW.keys()
    assert CHANGES_ROWS.keys() | CANNOT_CHANGE_A_ROW.keys() == names, (
        "say of the new setting whether it can change a row; if it can, row_settings needs it"
    )


@pytest.mark.parametrize("name", CHANGES_ROWS)
def test_what_can_change_a_row_is_in_the_fingerprint(models, name):
    assert getattr(AnnotateConfig(images="/in", output="/out"), name) != CHANGES_ROWS[name]
    assert fingerprint_of(models, **{name: CHANGES_ROWS[name]}) != fingerprint_of(models)


@pytest.mark.parametrize("name", CANNOT_CHANGE_A_ROW)
def test_what_cannot_change_a_row_is_not_in_the_fingerprint(models, name):
    assert fingerprint_of(models, **{name: CANNOT_CHANGE_A_ROW[name]}) == fingerprint_of(models)


@pytest.mark.parametrize("kind", OF_THE_CORE)
def test_every_setting_of_the_core_is_listed_above(kind):
    assert OF_THE_CORE[kind].keys() == {field.name for field in fields(kind)}


@pytest.mark.parametrize(
    ("kind", "name"), [(kind, name) for kind in OF_THE_CORE for name in OF_THE_CORE[kind]]
)
def test_a_setting_of_the_core_is_in_the_fingerprint_with_a_flag_or_without(
    models, monkeypatch, kind, name
):
    before = fingerprint_of(models)
    predict = AnnotateConfig(images="/in", output="/out").predict_config()
    changed = {name: OF_THE_CORE[kind][name]}
    if kind is LocalizeConfig:
        changed = {"localize": replace(predict.localize, **changed)}
    if kind is FeatureConfig:
        changed = {"features": replace(predict.features, **changed)}
    monkeypatch.setattr(AnnotateConfig, "predict_config", lambda _: replace(predict, **changed))
    assert fingerprint_of(models) != before


@pytest.mark.parametrize("place", [(), ("localize",)])
@pytest.mark.parametrize("name", MERGES)
def test_method_and_every_setting_of_a_merge_are_in_the_fingerprint(
    models, monkeypatch, place, name
):
    merge = MERGES[name]()
    predict = PredictConfig(merge=merge, localize=LocalizeConfig(merge=merge))
    monkeypatch.setattr(AnnotateConfig, "predict_config", lambda _: predict)
    settings = settings_of(models)
    for key in (*place, "merge"):
        settings = settings[key]
    assert settings["method"] == name
    assert settings.keys() == {"method", *(field.name for field in fields(merge))}


def test_the_limits_of_the_decoder_are_in_the_fingerprint(models):
    settings = settings_of(models)
    assert {field.name for field in fields(ImageLimits)} <= settings.keys()
    assert "shrink" in settings


def test_the_members_of_a_committee_and_their_order_are_in_the_fingerprint(models):
    several = [names for names in models if len(names)]
    prints = {fingerprint_of(models, weights=names, tasks=("detect",)) for names in several}
    assert len(prints) == len(several) == 4


def test_the_ladder_of_every_member_is_in_the_fingerprint(models):
    settings = settings_of(models, weights=("demo", "OTHER"), tasks=("detect",))
    assert settings["scales"] == [["245x245"], ["245x245"]]


def test_the_default_and_its_spelled_out_value_are_one_configuration(models):
    explicit = fingerprint_of(
        models,
        dtype="float32",
        scales=("245x245",),
        tasks=("detect", "features", "classify", "localize", "detect"),
        feature_layer="fc8",
        suffixes=tuple(suffix.upper() for suffix in reversed(IMAGE_SUFFIXES)),
    )
    assert explicit == fingerprint_of(models)


def test_the_name_and_the_number_of_a_layer_are_one_configuration(models):
    prints = {fingerprint_of(models, feature_layer=layer) for layer in ("22", "fc8", None)}
    assert len(prints) == 1


def test_a_path_and_its_other_spellings_are_one_input(models, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    spellings = ["photos", "./photos/", f"file://{tmp_path}/photos", str(tmp_path / "photos")]
    assert len({fingerprint_of(models, images=text) for text in spellings}) == 1


def test_the_kind_of_device_is_in_the_fingerprint(models):
    assert fingerprint_of(models, device="cpu") != fingerprint_of(models, device="cuda")


def test_the_version_of_the_results_is_in_the_fingerprint(models, monkeypatch):
    before = fingerprint_of(models)
    version = settings_module.RESULTS_VERSION + 1
    monkeypatch.setattr(settings_module, "RESULTS_VERSION", version)
    assert fingerprint_of(models) != before
