"""Small models, images and settings that several tests of the core build."""

from __future__ import annotations

import copy
from functools import cache

import numpy as np
import torch
from hypothesis import settings

from overfeat import Canvas, GreedyMerge, PredictConfig
from overfeat.architectures import narrow
from overfeat.checkpoint import CheckpointConfig
from overfeat.member import Member
from overfeat.network import OverFeat, WindowValues, initialize
from overfeat.predictor import Predictor
from overfeat.zoo import TINY

FEW = settings(max_examples=30, deadline=None, derandomize=True)
MANY = settings(max_examples=100, deadline=None, derandomize=True)


def make_network(
    architecture, *, outputs=5, regressor="none", box_coding="edges", context=False, seed=1
):
    """Random weights that keep activations of order one; biases too, so that no layer is linear."""
    network = OverFeat(
        architecture, outputs=outputs, regressor=regressor, box_coding=box_coding, context=context
    )
    initialize(network, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if name.endswith("bias"):
                parameter.normal_(0.0, 0.1, generator=generator)
    return network.eval()


def run_trunk(network, canvases):
    """Everything before the last pooling."""
    names = network.architecture.module_names()
    last = names[names.index(network.architecture.offset_pool.name) - 1]
    return network.activations(canvases, layer=last)


def make_canvases(height, width, *, batch=1, seed=2, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, 3, height, width, generator=generator, dtype=dtype)


def make_image(height, width, *, seed=3):
    """Noise on a coarse pattern: both survive resizing differently, as in a photograph."""
    random = np.random.default_rng(seed)
    blocks = random.integers(0, 200, (-(-height // 16), -(-width // 16), 3))
    pattern = np.kron(blocks, np.ones((16, 16, 1), dtype=int))[:height, :width]
    return (pattern + random.integers(0, 56, pattern.shape)).astype(np.uint8)


def make_config(*, architecture="tiny", classes=("ant", "bee", "cat"), **fields):
    return CheckpointConfig(architecture=architecture, classes=classes, **fields)


def make_member(architecture=TINY, *, device="cpu", dtype="float32", seed=1, **fields):
    """The geometry of an architecture with an eighth of its channels and random weights."""
    config = make_config(architecture=architecture.name, **fields)
    network = _make_level_network(
        architecture, config.outputs, config.regressor, config.box_coding, config.context, seed
    )
    return Member(config, copy.deepcopy(network), device=device, dtype=dtype)


@cache
def _make_level_network(architecture, outputs, regressor, box_coding, context, seed):
    network = make_network(
        narrow(architecture, divisor=8),
        outputs=outputs,
        regressor=regressor,
        box_coding=box_coding,
        context=context,
        seed=seed,
    )
    level_outputs(network)
    return network


def level_outputs(network):
    """Let the windows of a random network differ, with no class that always wins.

    Over windows, logits have mean 0 and deviation 1.5; boxes vary around a rectangle in the middle.
    """
    images = np.stack([make_image(281, 317, seed=seed) for seed in range(4)])
    canvases = torch.tensor(images).permute(0, 3, 1, 2).float().sub(118).div(62)
    with torch.no_grad():
        values = network(canvases)
        level(network.classifier[network.architecture.output], values.logits, [0.0], 1.5)
        if values.codes is not None:
            level(network.regressor["edges"], values.codes, [0.2, 0.3, 0.7, 0.8], 0.1)


def level(layer, outputs, means, deviation):
    """Give the outputs of a layer other means, over and over, and another deviation."""
    axes = (0, 2, 3)
    scale = deviation / outputs.std(dim=axes)
    layer.weight.mul_(scale[:, None, None, None])
    wanted = torch.tensor(means).repeat(len(scale) // len(means))
    layer.bias.sub_(outputs.mean(dim=axes)).mul_(scale).add_(wanted)


def make_predictor(architecture=TINY, **fields):
    """A model of one such network."""
    return Predictor([make_member(architecture, **fields)])


NEVER = GreedyMerge(threshold=-1.0)
"""No box is merged: every window is a box of its own."""
ALWAYS = GreedyMerge(threshold=1e6)
"""All boxes of a class become one."""
# Two scales, so that shrinking and rendering differ; low threshold, so that every image has boxes.
LOOK = PredictConfig(scales=(Canvas(245, 245), Canvas(281, 317)), score_threshold=0.3)
ALL_WINDOWS = PredictConfig(
    scales=(Canvas(245, 281),), score_threshold=1e-9, max_boxes=10_000, merge=NEVER
)
COLUMNS = ("label_ids", "scores", "evidence", "boxes_xyxy", "n_windows")


class ScriptedNetwork(OverFeat):
    """A network of the geometry of `tiny` that says what it was told to, whatever it sees."""

    def __init__(self, logits, codes=None, *, regressor="none"):
        super().__init__(narrow(TINY, divisor=64), outputs=1, regressor=regressor)
        self.values = WindowValues(logits, codes)

    def forward(self, canvases, stride="fine", *, context=None, tap=None, tell=True):
        return self.values


def make_scripted_member(logits, codes=None, *, regressor="none"):
    """One of a model that always says the same, of three classes."""
    network = ScriptedNetwork(logits, codes, regressor=regressor)
    return Member(make_config(), network, device="cpu", dtype="float32")


def describe(error):
    """The message of a refusal, which is one sentence: one line, with an end and no traceback."""
    message = str(error.value)
    assert "\n" not in message
    assert "Traceback" not in message
    return message


def make_constant(probabilities, *, regressor="none", edges=None, **fields):
    """A model of which every window says the same."""
    member = make_member(regressor=regressor, **fields)
    with torch.no_grad():
        member.network.classifier["fc9"].weight.zero_()
        member.network.classifier["fc9"].bias.copy_(torch.tensor(probabilities).log())
        if edges is not None:
            member.network.regressor["edges"].weight.zero_()
            member.network.regressor["edges"].bias.copy_(torch.tensor(edges))
    return Predictor([member])


def assert_equal_detections(first, second):
    assert first.labels == second.labels
    assert first.truncated_boxes == second.truncated_boxes
    for column in COLUMNS:
        assert np.array_equal(getattr(first, column), getattr(second, column)), column


def assert_close_detections(first, second, *, pixels=0.05):
    """The same boxes up to rounding; near-ties may swap ranks, so pairs are looked for."""
    assert len(first) == len(second) > 0
    distances = np.abs(first.boxes_xyxy[:, None] - second.boxes_xyxy[None]).max(axis=2)
    distances[first.label_ids[:, None] != second.label_ids[None]] = np.inf
    for rank in range(len(first)):
        other = int(distances[rank].argmin())
        assert distances[rank, other] <= pixels
        assert abs(first.scores[rank] - second.scores[other]) <= 1e-4
        assert abs(first.evidence[rank] - second.evidence[other]) <= 1e-3
        assert first.n_windows[rank] == second.n_windows[other]
        distances[:, other] = np.inf
