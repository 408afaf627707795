"""A model whose answers follow from an image's pixels alone, in no time: for tests of the rest."""

from __future__ import annotations

import zlib

import numpy as np

from overfeat.predictions import Classification, Detections, Features, Guesses, Prediction
from tests.builders import CLASSES

CHANNELS = 128
"""Of the default layer of `tiny`."""
_MOST = 3
"""Boxes of an image: 0 to 3."""


class FakeModel:
    """Takes the place of a predictor in the stages."""

    def predict(self, images, config, tasks):
        """Answer for each image, whatever stands beside it."""
        del config
        return [predict_one(image.pixels, tasks) for image in images]


def predict_one(pixels, tasks=("classify", "detect")):
    """Draw the answers with a seed made of the pixels."""
    height, width = pixels.shape[:2]
    random = np.random.default_rng(zlib.crc32(pixels.tobytes()))
    objects = _draw_objects(random, int(random.integers(_MOST + 1)), height, width)
    best = _draw_objects(random, len(CLASSES), height, width)
    vectors = random.random((1, CHANNELS), dtype=np.float32)
    cell = np.zeros(1, np.int32)
    return Prediction(
        classification=Classification(
            **{name: best[name] for name in ("label_ids", "labels", "scores")}
        )
        if "classify" in tasks
        else None,
        guesses=Guesses(**best) if "localize" in tasks else None,
        detections=Detections(
            **objects,
            evidence=objects["scores"] * 2,
            n_windows=np.ones(len(objects["labels"]), np.int32),
            truncated_boxes=False,
        )
        if "detect" in tasks
        else None,
        features=Features(layer="fc8", scale=cell, row=cell, col=cell, vectors=vectors)
        if "features" in tasks
        else None,
    )


def _draw_objects(random, count, height, width):
    label_ids = random.permutation(len(CLASSES))[:count].astype(np.int32)
    corners = random.random((count, 2, 2), dtype=np.float32) * [width, height]
    return {
        "label_ids": label_ids,
        "labels": tuple(CLASSES[label] for label in label_ids),
        "scores": -np.sort(-random.random(count, dtype=np.float32)),
        "boxes_xyxy": np.sort(corners, axis=1).reshape(count, 4).astype(np.float32),
    }
