"""Small models, images and settings that several tests of the core build."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import settings

from overfeat import Canvas, MergeConfig, PredictConfig
from overfeat.architectures import TINY, narrow
from overfeat.checkpoint import CheckpointConfig
from overfeat.network import OverFeat, WindowValues, initialize
from overfeat.predictor import Predictor

FEW = settings(max_examples=30, deadline=None, derandomize=True)
MANY = settings(max_examples=100, deadline=None, derandomize=True)


def make_network(architecture, *, outputs=5, regressor="none", seed=1):
    """Random weights that keep activations of order one; biases too, so that no layer is linear."""
    network = OverFeat(architecture, outputs=outputs, regressor=regressor)
    initialize(network, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if name.endswith("bias"):
                parameter.normal_(0.0, 0.1, generator=generator)
    return network.eval()


def make_canvases(height, width, *, batch=1, seed=2, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, 3, height, width, generator=generator, dtype=dtype)


def make_image(height, width, *, seed=3):
    """Noise on a coarse pattern: both survive resizing differently, as in a photograph."""
    random = np.random.default_rng(seed)
    blocks = random.integers(0, 200, (-(-height // 16), -(-width // 16), 3))
    pattern = np.kron(blocks, np.ones((16, 16, 1), dtype=int))[:height, :width]
    return (pattern + random.integers(0, 56, pattern.shape)).astype(np.uint8)


def make_config(*, classes=("ant", "bee", "cat"), **fields):
    return CheckpointConfig(architecture="tiny", classes=classes, **fields)


def make_predictor(*, dtype="float32", seed=1, **fields):
    """The geometry of `tiny` with an eighth of its channels and random weights."""
    config = make_config(**fields)
    network = make_network(
        narrow(TINY, divisor=8), outputs=config.outputs, regressor=config.regressor, seed=seed
    )
    return Predictor(config, network, device="cpu", dtype=dtype)


# Two scales, so that shrinking and rendering differ; low threshold, so that every image has boxes.
LOOK = PredictConfig(scales=(Canvas(245, 245), Canvas(281, 317)), score_threshold=0.3)
ALL_WINDOWS = PredictConfig(
    scales=(Canvas(245, 281),),
    score_threshold=1e-9,
    max_boxes=10_000,
    merge=MergeConfig(threshold=-1.0),
)
COLUMNS = ("label_ids", "scores", "evidence", "boxes_xyxy", "n_windows")


class ScriptedNetwork(OverFeat):
    """A network of the geometry of `tiny` that says what it was told to, whatever it sees."""

    def __init__(self, logits, edges=None, *, regressor="none"):
        super().__init__(narrow(TINY, divisor=64), outputs=1, regressor=regressor)
        self.values = WindowValues(logits, edges)

    def forward(self, canvases, stride="fine"):
        return self.values


def describe(error):
    """The message of a refusal, which is one sentence: one line, with an end and no traceback."""
    message = str(error.value)
    assert "\n" not in message
    assert "Traceback" not in message
    return message


def make_constant(probabilities, *, regressor="none", edges=None, **fields):
    """A model of which every window says the same."""
    config = make_config(regressor=regressor, **fields)
    network = make_network(narrow(TINY, divisor=8), outputs=config.outputs, regressor=regressor)
    with torch.no_grad():
        network.classifier["fc9"].weight.zero_()
        network.classifier["fc9"].bias.copy_(torch.tensor(probabilities).log())
        if edges is not None:
            network.regressor["edges"].weight.zero_()
            network.regressor["edges"].bias.copy_(torch.tensor(edges))
    return Predictor(config, network, device="cpu")


def assert_equal_detections(first, second):
    assert first.labels == second.labels
    assert first.truncated_boxes == second.truncated_boxes
    for column in COLUMNS:
        assert np.array_equal(getattr(first, column), getattr(second, column)), column


def assert_close_detections(first, second, *, pixels=0.05):
    """The same boxes up to rounding; near-ties may swap ranks, so pairs are looked for."""
    assert len(first) == len(second) > 0
    free = set(range(len(second)))
    for rank in range(len(first)):
        distance = {
            other: np.abs(first.boxes_xyxy[rank] - second.boxes_xyxy[other]).max()
            for other in free
            if first.label_ids[rank] == second.label_ids[other]
        }
        other = min(distance, key=distance.get)
        assert distance[other] <= pixels
        assert abs(first.scores[rank] - second.scores[other]) <= 1e-4
        assert abs(first.evidence[rank] - second.evidence[other]) <= 1e-3
        assert first.n_windows[rank] == second.n_windows[other]
        free.remove(other)
