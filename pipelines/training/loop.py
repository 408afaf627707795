"""Training a detector in one process: classifier, background and box regressor together.

Spatial training as in section 5 of the paper: every window of a crop is an example, weights are
shared.
"""

from __future__ import annotations

import logging
import math
import platform
import time
from collections.abc import Callable
from dataclasses import MISSING, asdict, dataclass, field, fields, replace
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import torch
from torch import Tensor

from overfeat.checkpoint import CheckpointConfig, save_checkpoint
from overfeat.losses import (
    Loss,
    LossConfig,
    is_finite,
    measure_boxes,
    measure_classes,
    weigh_loss,
)
from overfeat.network import OverFeat, initialize
from overfeat.targets import TargetConfig
from overfeat.zoo import get_architecture
from pipelines.errors import InputError, PipelineError
from pipelines.training.batch_norm import attach_batch_norm, fold_batch_norm
from pipelines.training.crops import Crop, CropConfig, CropMaker, TrainingImage
from pipelines.training.loader import Batch, iter_batches, read_classes, read_samples

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainConfig:
    """A training of one detector from shards."""

    shards: str
    """Local folder with `SPLIT-000000.tar` and `index.json`, made by `overfeat shards`."""
    output: str
    """Local folder for the checkpoint."""
    split: str = "train"
    """Which shards."""
    architecture: Literal["tiny", "fast", "accurate"] = "tiny"
    """Which network."""
    steps: int = 9000
    """Batches to train on."""
    portrait_steps: int = 1000
    """The first of these batches, made of single objects that fill the window: without them the
    classes were not learnt in 700 steps of 32 augmented digit scenes (measured)."""
    portrait_fade_steps: int = 2500
    """Batches after these in which the part of portraits falls to `portrait_share`: ended at once,
    most of what they had taught was lost (measured)."""
    portrait_share: float = 0.2
    """Part of the crops that stay portraits, 0 to 1."""
    checkpoint_steps: int = 1000
    """Save the checkpoint after every so many batches, and at the end."""
    batch_size: int = 16
    """Crops in a batch."""
    learning_rate: float = 1e-3
    """Highest rate of AdamW; it rises over the first 3 % of the steps and falls as a cosine to
    0."""
    weight_decay: float = 1e-2
    """Decoupled weight decay."""
    averaging: float = 0.998
    """Decay of the running average of the weights, which is what is saved; 0 saves the last
    ones."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Number format of the activations; weights, loss and optimizer are float32."""
    threads: int = 2
    """CPU threads of the network; one more process makes the batches."""
    seed: int = 0
    """Of the first weights, the order of the samples and every crop."""
    crops: CropConfig = field(default_factory=CropConfig)
    """Which crops of an image training sees."""
    targets: TargetConfig = field(default_factory=TargetConfig)
    """Which windows are examples of what."""
    loss: LossConfig = field(
        default_factory=lambda: LossConfig(box_loss="l1", box_weight=4.0, negatives_per_object=2.0)
    )
    """Weights of the parts of the loss."""

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "learning_rate", "checkpoint_steps", "threads"):
            if not getattr(self, name) > 0:
                flag = name.replace("_", "-")
                raise InputError(f"--{flag}: received {getattr(self, name)}, expected above 0")
        if not 0 <= self.averaging < 1:
            raise InputError(f"--averaging: received {self.averaging}, expected from 0 to below 1")
        if not 0 <= self.portrait_share <= 1 or not self.weight_decay >= 0:
            raise InputError(
                f"--portrait-share and --weight-decay: received {self.portrait_share} and "
                f"{self.weight_decay}, expected from 0 to 1 and at least 0"
            )
        window = get_architecture(self.architecture).window
        if self.crops.side < window:
            raise InputError(
                f"--side: received {self.crops.side}, expected at least {window}, a window"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainReport:
    """How a training went."""

    output: str
    """Folder of the checkpoint."""
    steps: int
    """Batches trained on."""
    samples: int
    """Samples in the shards."""
    seconds: float
    """Wall time of the loop."""
    final_loss: float
    """Mean loss of the last 2 % of the steps."""


Progress = Callable[[int, int, Loss], None]
"""Called after each step: steps done, steps in all, the loss of the step."""


def train(config: TrainConfig, *, progress: Progress | None = None) -> TrainReport:
    """Train a detector and save its checkpoint.

    Args:
        config: Data, network, schedule.
        progress: Told after each step.

    Returns:
        What was done.

    Raises:
        InputError: If the shards are missing.
        PipelineError: If the loss stops being a finite number.
    """
    folder = Path(config.shards)
    samples = read_samples(folder, config.split)
    checkpoint = CheckpointConfig(
        architecture=config.architecture,
        classes=tuple(read_classes(folder)),
        background=True,
        regressor="single",
    )
    torch.set_num_threads(config.threads)
    network = checkpoint.build_network()
    initialize(network, seed=config.seed)
    attach_batch_norm(network)
    maker = CropMaker(
        architecture=get_architecture(config.architecture),
        normalization=checkpoint.normalization,
        ladder=checkpoint.ladder,
        background=len(checkpoint.classes),
        targets=config.targets,
        config=config.crops,
    )

    def draw(image: TrainingImage, rng: np.random.Generator, step: int) -> Crop:
        return maker.draw(image, rng, portrait=rng.uniform() < _portrait_share(step, config))

    batches = iter_batches(
        samples, draw, steps=config.steps, batch_size=config.batch_size, seed=config.seed
    )
    started = time.monotonic()
    losses = []
    training = _Training(network, config)
    for step, batch in enumerate(batches, start=1):
        loss = training.take_step(batch)
        losses.append(loss.total.item())
        if step % config.checkpoint_steps == 0 or step == config.steps:
            provenance = _describe(config, step, time.monotonic() - started)
            described = replace(checkpoint, provenance=provenance)
            save_checkpoint(Path(config.output), described, training.weights())
        if progress is not None:
            progress(step, config.steps, loss)
    tail = losses[-max(1, config.steps // 50) :]
    return TrainReport(
        output=config.output,
        steps=config.steps,
        samples=len(samples),
        seconds=time.monotonic() - started,
        final_loss=sum(tail) / len(tail),
    )


_PLACES: Final = ("shards", "output")
"""Settings that say where things lay on one machine; a checkpoint travels."""


def _describe(config: TrainConfig, steps: int, seconds: float) -> dict[str, Any]:
    """Say where a checkpoint comes from."""
    return {
        "command": _command(config),
        "config": {name: value for name, value in asdict(config).items() if name not in _PLACES},
        "steps": steps,
        "seconds": round(seconds),
        "torch": torch.__version__,
        "machine": f"{platform.machine()}, {config.threads} threads",
    }


def _command(config: TrainConfig) -> str:
    """Write the command of a training, with the flags that are not at their defaults."""
    words = ["overfeat train --shards SHARDS --output FOLDER"]
    for one in fields(config):
        value = getattr(config, one.name)
        if one.default is not MISSING and value != one.default:
            words.append(f"--{one.name.replace('_', '-')} {value}")
    return " ".join(words)


def _portrait_share(step: int, config: TrainConfig) -> float:
    """Part of a batch that is portraits: all at first, then less and less."""
    faded = (step - config.portrait_steps) / max(1, config.portrait_fade_steps)
    return 1 - (1 - config.portrait_share) * min(1.0, max(0.0, faded))


class _Training:
    """A network being trained, and the running average of its weights."""

    def __init__(self, network: OverFeat, config: TrainConfig) -> None:
        self.config = config
        self.network = network.train()
        self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stub lacks it
        self.optimizer = torch.optim.AdamW(
            network.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay
        )
        rate = partial(_rate, steps=config.steps)
        self.schedule = torch.optim.lr_scheduler.LambdaLR(self.optimizer, rate)
        self.average = {name: value.clone() for name, value in network.state_dict().items()}
        self.step = 0

    def take_step(self, batch: Batch) -> Loss:
        loss = _take_step(self.network, batch, self.optimizer, self.config)
        if not is_finite(loss):
            raise PipelineError(
                f"train: the loss of step {self.step} is {loss.total.item()}, expected a finite "
                f"number; lower --learning-rate (now {self.config.learning_rate})"
            )
        self.schedule.step()
        # A short memory first: the average must forget the random weights it started from.
        decay = min(self.config.averaging, (1 + self.step) / (10 + self.step))
        for name, value in self.network.state_dict().items():
            if value.is_floating_point():
                self.average[name].lerp_(value, 1 - decay)
        self.step += 1
        return loss

    def weights(self) -> dict[str, Tensor]:
        """The averaged weights of the plain network."""
        return fold_batch_norm(self.average)


def _take_step(
    network: OverFeat, batch: Batch, optimizer: torch.optim.Optimizer, config: TrainConfig
) -> Loss:
    canvases = batch.canvases.contiguous(memory_format=torch.channels_last)
    with torch.autocast("cpu", torch.bfloat16, enabled=config.dtype == "bfloat16"):
        values = network(canvases, "fine")
    logits, codes = (
        said.float().flatten(start_dim=2).transpose(1, 2) for said in (values.logits, values.codes)
    )
    background = logits.shape[2] - 1
    sums = measure_classes(logits, batch.labels, background=background, config=config.loss)
    sums += measure_boxes(
        codes,
        batch.labels,
        batch.edges,
        background=background,
        coding=network.box_coding,
        config=config.loss,
    )
    loss = weigh_loss(sums, sums.counts, config.loss)
    optimizer.zero_grad()
    loss.total.backward()  # type: ignore[no-untyped-call]  # torch's stub lacks it
    torch.nn.utils.clip_grad_norm_(network.parameters(), max_norm=5.0)
    optimizer.step()
    return loss


def _rate(step: int, *, steps: int) -> float:
    """Learning rate of a step as a part of the highest one."""
    warm = max(1, round(0.03 * steps))
    if step < warm:
        return (step + 1) / warm
    return 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))
