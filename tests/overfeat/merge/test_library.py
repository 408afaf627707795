"""NMS, soft-NMS and weighted box fusion against the library ensemble-boxes, as recorded."""

from __future__ import annotations

import json

import numpy as np
import pytest

from overfeat.merge import MERGES, merge_boxes
from tests.overfeat.merge.record_library import ANSWERS

RECORD = json.loads(ANSWERS.read_text("utf-8"))
SIDE = RECORD["source"]["side"]


def find_answers(method):
    """Scene, configuration and answer; the record leaves out what a method does not use."""
    found = []
    for scene in RECORD["scenes"]:
        for answer in scene["answers"]:
            settings = dict(answer["config"])
            if settings.pop("method") == method:
                name = " ".join(map(str, [scene["name"], *settings.values()]))
                found.append(pytest.param(scene, MERGES[method](**settings), answer, id=name))
    return found


def merge_scene(scene, config):
    """Our merged boxes, most evidence first, as the library sorts them."""
    boxes = np.array(scene["boxes"], dtype=np.float32)
    merged = merge_boxes(boxes, np.array(scene["probabilities"], dtype=np.float32), config)
    return merged, np.argsort(-merged.evidence, kind="stable")


def test_the_record_is_of_the_version_that_the_docstrings_name():
    assert RECORD["source"]["library"] == "ensemble-boxes 1.0.9"


@pytest.mark.parametrize(("scene", "config", "answer"), find_answers("nms"))
def test_the_library_keeps_the_same_boxes(scene, config, answer):
    merged, _ = merge_scene(scene, config)
    order = np.argsort(-merged.score)
    assert merged.score[order].tolist() == answer["scores"]
    assert merged.boxes_xyxy[order].tolist() == (np.array(answer["boxes"]) * SIDE).tolist()


@pytest.mark.parametrize(("scene", "config", "answer"), find_answers("soft-nms"))
def test_the_library_decays_to_the_same_scores(scene, config, answer):
    merged, order = merge_scene(scene, config)
    assert np.allclose(merged.evidence[order], answer["scores"], rtol=1e-6, atol=0)
    assert merged.boxes_xyxy[order].tolist() == (np.array(answer["boxes"]) * SIDE).tolist()


@pytest.mark.parametrize(("scene", "config", "answer"), find_answers("wbf"))
def test_the_library_fuses_to_the_same_boxes(scene, config, answer):
    """It averages in float32: its corners are good to a thousandth of a pixel here."""
    merged, order = merge_scene(scene, config)
    assert np.allclose(merged.evidence[order], answer["scores"], rtol=1e-6, atol=0)
    assert merged.score[order].tolist() == answer["best"]
    fused = np.array(answer["boxes"]) * SIDE
    assert np.allclose(merged.boxes_xyxy[order], fused, rtol=0, atol=1e-3)
