"""Does what a user says reach the model and the decoder, and is every wrong setting refused?"""

from __future__ import annotations

import dataclasses

import pytest

from overfeat.features import FeatureConfig
from overfeat.merge import BoxFusion, GreedyMerge, NonMaxSuppression, SoftSuppression
from overfeat.predict_config import PredictConfig
from overfeat.scales import Canvas
from pipelines.errors import InputError
from tests.builders import make_config


def test_the_settings_reach_the_model_and_the_decoder():
    config = make_config(
        "/r", "w", stride="coarse", flips=True, score_threshold=0.7, max_boxes=9,
        scales=("245x281",), max_pixels=11, max_bytes=12, max_frames=13, merge="nms",
        merged_classes="any", tasks=("detect", "features"), feature_layer="conv5",
        feature_pool="max",
    )  # fmt: skip
    predict = config.predict_config()
    assert predict.scales == (Canvas(245, 281),)
    assert (predict.stride, predict.flips) == ("coarse", True)
    assert (predict.score_threshold, predict.max_boxes) == (0.7, 9)
    assert (predict.merge, predict.merged_classes) == (NonMaxSuppression(), "any")
    assert predict.features == FeatureConfig(layer="conv5", pool="max")
    assert make_config("/r", "w", views="ten-view").predict_config().views == "ten-view"
    limits = config.image_limits()
    assert dataclasses.astuple(limits) == (11, 12, 13)


def test_the_defaults_of_the_command_are_those_of_the_model():
    config = make_config("/r", "w", score_threshold=PredictConfig().score_threshold)
    assert config.predict_config() == PredictConfig()


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("greedy", GreedyMerge),
        ("nms", NonMaxSuppression),
        ("soft-nms", SoftSuppression),
        ("wbf", BoxFusion),
    ],
)
def test_a_merge_is_chosen_by_its_name_with_its_own_defaults(name, kind):
    assert make_config("/r", "w", merge=name).predict_config().merge == kind()


def test_a_number_names_a_layer_as_the_2014_program_does():
    config = make_config("/r", "w", tasks=("features",), feature_layer="19")
    assert config.predict_config().features.layer == 19


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
        ("image_timeout", 0.0, "--image-timeout: received 0.0"),
        ("max_boxes", 0, "max_boxes: received 0"),
        ("score_threshold", 2.0, "score threshold: received 2.0"),
        ("score_threshold", 0.0, "score threshold: received 0.0"),
        ("score_threshold", float("nan"), "score threshold: received nan"),
        ("max_failed_ratio", 1.5, "--max-failed-ratio: received 1.5"),
        ("max_failed_ratio", float("nan"), "--max-failed-ratio: received nan"),
        ("cpus_per_read", 0.0, "--cpus-per-read"),
        ("cpus_per_read", float("nan"), "--cpus-per-read"),
        ("wait_for_resources", float("inf"), "--wait-for-resources"),
        ("weights", (), "--weights: received none"),
        ("tasks", (), "--tasks: received none"),
        ("suffixes", (), "--suffixes: received none"),
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


def refusal(*weights, **changes):
    with pytest.raises(InputError) as error:
        make_config("/r", *weights, **changes)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_features_of_a_committee_are_refused():
    sentence = refusal("a", "b", tasks=("classify", "features"))
    assert "--tasks features: received 2 checkpoints" in sentence
    make_config("/r", "a", "b", tasks=("classify", "localize", "detect"))


def test_scales_of_views_without_a_ladder_are_refused():
    assert "no ladder" in refusal("w", views="ten-view", scales=("245x245",))


@pytest.mark.parametrize(
    ("tasks", "name", "value", "words"),
    [
        (("detect",), "feature_layer", "fc7", "--feature-layer: received 'fc7' without the task f"),
        (("detect",), "feature_pool", "max", "--feature-pool: received 'max' without the task fe"),
        (("features",), "merge", "nms", "--merge: received 'nms' without the task detect"),
        (("classify",), "merged_classes", "any", "--merged-classes: received 'any' without the t"),
    ],
)
def test_what_says_nothing_without_a_task_is_refused_without_it(tasks, name, value, words):
    assert words in refusal("w", tasks=tasks, **{name: value})
