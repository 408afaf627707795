"""What does a training have to remember, so that it goes on as if it had never stopped?

Nothing that follows from the settings and the position is in it: the order of the samples, their
crops, the learning rate and the dropout masks are drawn anew from (seed, epoch, step).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True, kw_only=True, slots=True)
class Position:
    """How far a training is."""

    epoch: int = 0
    """Epochs that are done."""
    step: int = 0
    """Global batches of the present epoch that are done."""
    steps: int = 0
    """Global batches that are done since the start."""
    samples: int = 0
    """Samples that were seen since the start."""
    damaged: int = 0
    """How many of these could not be decoded."""

    def advance(self, *, samples: int, damaged: int, steps_per_epoch: int) -> Position:
        """Go on by one global batch.

        Args:
            samples: Samples of the batch, over all workers.
            damaged: How many of these could not be decoded.
            steps_per_epoch: Global batches in an epoch.

        Returns:
            The next position.
        """
        ends = self.step + 1 == steps_per_epoch
        return Position(
            epoch=self.epoch + ends,
            step=0 if ends else self.step + 1,
            steps=self.steps + 1,
            samples=self.samples + samples,
            damaged=self.damaged + damaged,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingState:
    """A training between two steps."""

    position: Position
    """How far it is."""
    tensors: Mapping[str, Mapping[str, Tensor]]
    """By kind (`network`, `average`, `optimizer`), then by name; on the CPU."""
    facts: Mapping[str, Any]
    """What else is known, as JSON: metrics, the number of workers."""


def capture_optimizer(optimizer: torch.optim.Optimizer, network: nn.Module) -> dict[str, Tensor]:
    """Copy what an optimizer remembers of each parameter.

    Args:
        optimizer: One that was given parameters of the network.
        network: Whose names the parameters get.

    Returns:
        Tensors such as `trunk.conv1.weight/momentum_buffer`, on the CPU.
    """
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    return {
        f"{names[id(parameter)]}/{slot}": torch.as_tensor(value).detach().cpu().clone()
        for parameter, slots in optimizer.state.items()
        for slot, value in slots.items()
        if value is not None
    }


def restore_optimizer(
    optimizer: torch.optim.Optimizer, network: nn.Module, tensors: Mapping[str, Tensor]
) -> None:
    """Give an optimizer what `capture_optimizer` copied.

    Args:
        optimizer: A new one, over parameters of the same names.
        network: Whose parameters they are.
        tensors: What was copied.
    """
    order = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    state: dict[int, dict[str, Tensor]] = {}
    for index, parameter in enumerate(order):
        start = f"{names[id(parameter)]}/"
        found = {
            key.removeprefix(start): value
            for key, value in tensors.items()
            if key.startswith(start)
        }
        if found:
            state[index] = found
    document = optimizer.state_dict()
    optimizer.load_state_dict({**document, "state": state})
