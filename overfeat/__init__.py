"""The OverFeat models: RGB arrays in; classes, boxes and features out.

import overfeat
model = overfeat.load("demo")
print(model.detect(image))  # image: uint8 (height, width, 3)
"""

from overfeat.checkpoint import CheckpointError
from overfeat.feature_extractor import FeatureExtractor
from overfeat.features import FeatureConfig
from overfeat.loading import load
from overfeat.localization import LocalizeConfig
from overfeat.merge import BoxFusion, GreedyMerge, NonMaxSuppression, SoftSuppression
from overfeat.predict_config import PredictConfig
from overfeat.predictions import Classification, ClassMap, Detections, Features, Guesses
from overfeat.predictor import Predictor
from overfeat.scales import Canvas

__all__ = [
    "BoxFusion",
    "Canvas",
    "CheckpointError",
    "ClassMap",
    "Classification",
    "Detections",
    "FeatureConfig",
    "FeatureExtractor",
    "Features",
    "GreedyMerge",
    "Guesses",
    "LocalizeConfig",
    "NonMaxSuppression",
    "PredictConfig",
    "Predictor",
    "SoftSuppression",
    "load",
]
