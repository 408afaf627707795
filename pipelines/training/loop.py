"""Training a detector in one process: classifier, background and box regressor together.

Spatial training as in section 5 of the paper: every window of a crop is an example, weights are
shared.
"""

from __future__ import annotations

import logging
import math
import platform
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from overfeat.architectures import get_architecture
from overfeat.checkpoint import CheckpointConfig, save_checkpoint
from overfeat.losses import Loss, LossConfig, is_finite, measure_loss
from overfeat.network import OverFeat, initialize
from overfeat.targets import TargetConfig
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
    architecture: str = "tiny"
    """`tiny`, `fast` or `accurate`."""
    steps: int = 9000
    """Batches to train on."""
    portrait_steps: int = 1500
    """The first of these batches, made of single objects that fill the window: without them the
    classes are not learnt for thousands of steps (measured on augmented digit scenes)."""
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
        default_factory=lambda: LossConfig(box_loss="l1", box_weight=4.0, negatives=2.0)
    )
    """Weights of the parts of the loss."""

    def __post_init__(self) -> None:
        if self.steps < 1 or self.batch_size < 1 or self.learning_rate <= 0:
            raise InputError(
                f"train: received steps={self.steps}, batch_size={self.batch_size}, "
                f"learning_rate={self.learning_rate}; expected numbers above 0"
            )
        if not 0 <= self.averaging < 1:
            raise InputError(f"averaging: received {self.averaging}, expected from 0 to below 1")


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


def train(
    config: TrainConfig, *, command: Sequence[str] = (), progress: Progress | None = None
) -> TrainReport:
    """Train a detector and save its checkpoint.

    Args:
        config: Data, network, schedule.
        command: What the user typed, for the checkpoint's provenance.
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
        return maker.draw(image, rng, portrait=step < config.portrait_steps)

    batches = iter_batches(
        samples, draw, steps=config.steps, batch_size=config.batch_size, seed=config.seed
    )
    started = time.monotonic()
    weights, losses = _run_steps(network, batches, config, progress)
    seconds = time.monotonic() - started
    provenance = {
        "command": " ".join(command),
        "config": asdict(config),
        "samples": len(samples),
        "seconds": round(seconds),
        "torch": torch.__version__,
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads",
    }
    described = CheckpointConfig(
        architecture=checkpoint.architecture,
        classes=checkpoint.classes,
        background=True,
        regressor="single",
        provenance=provenance,
    )
    save_checkpoint(Path(config.output), described, weights)
    tail = losses[-max(1, config.steps // 50) :]
    return TrainReport(
        output=config.output,
        steps=config.steps,
        samples=len(samples),
        seconds=seconds,
        final_loss=sum(tail) / len(tail),
    )


def _run_steps(
    network: OverFeat,
    batches: Iterator[Batch],
    config: TrainConfig,
    progress: Progress | None,
) -> tuple[dict[str, Tensor], list[float]]:
    network.train()
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stub lacks it
    optimizer = torch.optim.AdamW(
        network.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, partial(_rate, steps=config.steps))
    averaged = {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}
    losses = []
    for step, batch in enumerate(batches):
        loss = _take_step(network, batch, optimizer, config)
        if not is_finite(loss):
            raise PipelineError(
                f"train: the loss of step {step} is {loss.total.item()}, expected a finite number; "
                f"lower --learning-rate (now {config.learning_rate})"
            )
        schedule.step()
        # A short memory first: the average must forget the random weights it started from.
        decay = min(config.averaging, (1 + step) / (10 + step))
        for name, tensor in network.state_dict().items():
            if tensor.is_floating_point():
                averaged[name].lerp_(tensor, 1 - decay)
        losses.append(loss.total.item())
        if progress is not None:
            progress(step + 1, config.steps, loss)
    return fold_batch_norm(averaged), losses


def _take_step(
    network: OverFeat, batch: Batch, optimizer: torch.optim.Optimizer, config: TrainConfig
) -> Loss:
    canvases = batch.canvases.contiguous(memory_format=torch.channels_last)
    with torch.autocast("cpu", torch.bfloat16, enabled=config.dtype == "bfloat16"):
        values = network(canvases, "fine")
    loss = measure_loss(
        values.logits.float().permute(0, 2, 3, 1).flatten(0, 2),
        values.edges.float().permute(0, 2, 3, 1).flatten(0, 2),
        batch.labels.flatten(),
        batch.edges.flatten(0, 1),
        config.loss,
    )
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
