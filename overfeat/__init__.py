"""The OverFeat models: RGB arrays in; classes, boxes and features out.

import overfeat
model = overfeat.load("demo")
print(model.detect(image))  # image: uint8 (height, width, 3)
"""

from overfeat.checkpoint import CheckpointError
from overfeat.merge import MergeConfig
from overfeat.predictions import Classification, Detections
from overfeat.predictor import PredictConfig, Predictor, load
from overfeat.scales import Canvas

__all__ = [
    "Canvas",
    "CheckpointError",
    "Classification",
    "Detections",
    "MergeConfig",
    "PredictConfig",
    "Predictor",
    "load",
]
