"""A network that learns: one step after the other, on one worker or in step with others."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, distributed, nn

from overfeat.box_coding import BoxCoding
from overfeat.losses import (
    Loss,
    LossConfig,
    LossSums,
    measure_boxes,
    measure_classes,
    weigh_loss,
)
from overfeat.network import OverFeat, WindowValues
from pipelines.training.batch_norm import attach_batch_norm, fold_batch_norm, keep_statistics
from pipelines.training.context import TwoScales
from pipelines.training.examples import Batch
from pipelines.training.recipe import Recipe
from pipelines.training.state import capture_optimizer, restore_optimizer

_STEP_SEEDS = 2**62


@dataclass(frozen=True, kw_only=True, slots=True)
class Turn:
    """Where in a training a step is."""

    steps: int
    """Steps done before it."""
    epoch: float
    """Epochs done after it: the learning rate follows from that."""


class Learner:
    """A network, its optimizer, and the running average of its weights."""

    def __init__(
        self,
        network: OverFeat,
        recipe: Recipe,
        *,
        device: torch.device,
        background: int | None,
        context: bool,
        autocast: bool,
        compiled: bool,
        seed: int,
    ) -> None:
        """Prepare for the first step, or for `restore`.

        Args:
            network: With its first weights; changed in place.
            recipe: How it learns.
            device: Where.
            background: Label of the background; None if there is none.
            context: Whether its windows are told what the next lower scale saw.
            autocast: Whether activations are bfloat16.
            compiled: Whether to compile the network.
            seed: Of the dropout.
        """
        self.recipe = recipe
        self.device = device
        self.network = network
        self._background = background
        self._autocast = autocast
        self._seed = seed
        self._rank = distributed.get_rank() if distributed.is_initialized() else 0
        self._world = distributed.get_world_size() if distributed.is_initialized() else 1
        if recipe.batch_norm and recipe.train_trunk:
            attach_batch_norm(network)
        network.dropout = recipe.dropout
        _choose_parameters(network, recipe, context=context)
        network.to(device=device, memory_format=torch.channels_last).train()  # type: ignore[call-overload]  # torch's stub lacks it
        self._optimizer = _make_optimizer(network, recipe)
        self._schedule = recipe.make_schedule()
        model = TwoScales(network) if context else network
        self._model = self._wrap(model, compiled=compiled)
        self._average = self._copy() if recipe.averaging else {}

    def _wrap(self, model: nn.Module, *, compiled: bool) -> nn.Module:
        if compiled:
            model.compile()
        if self._world == 1:
            return model
        ids = [self.device] if self.device.type == "cuda" else None
        return nn.parallel.DistributedDataParallel(model, device_ids=ids)

    def take_step(self, batch: Batch, turn: Turn) -> Loss:
        """Learn from one global batch, of which this worker has a part.

        Args:
            batch: This worker's part.
            turn: Where in the training it is.

        Returns:
            The loss of the whole global batch, before the step; the same on every worker.
        """
        # Masks are drawn anew, so that no generator has to be kept.
        torch.manual_seed((self._seed * 1_000_003 + turn.steps * 4_099 + self._rank) % _STEP_SEEDS)
        # The first worker's statistics of images are saved, and its streams are the first to end.
        with keep_statistics(self.network) if batch.is_blank else nullcontext():
            loss = self._learn(batch, turn)
        self._update_average(turn.steps)
        return self._share(loss)

    def _learn(self, batch: Batch, turn: Turn) -> Loss:
        """This worker's share of the loss, whose gradient all follow."""
        sums = self._measure(batch)
        counts = sums.counts.clone()
        self._add_up(counts)
        loss = weigh_loss(sums, counts, self.recipe.loss)
        for group in self._optimizer.param_groups:
            group["lr"] = self.rate_at(turn)
        self._optimizer.zero_grad()
        # Shares are to be added, and DistributedDataParallel takes the mean.
        (loss.total * self._world).backward()  # type: ignore[no-untyped-call]  # torch's stub lacks it
        if self.recipe.clip_norm is not None:
            nn.utils.clip_grad_norm_(self.network.parameters(), self.recipe.clip_norm)
        self._optimizer.step()
        return loss

    def rate_at(self, turn: Turn) -> float:
        """Look up the learning rate.

        Args:
            turn: Where in the training it is.

        Returns:
            The rate of that step.
        """
        return self._schedule.rate_at(turn.epoch)

    def _measure(self, batch: Batch) -> LossSums:
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self._autocast):
            values = see_windows(self._model, batch, device=self.device)
        return compare_windows(
            values,
            batch,
            background=self._background,
            coding=self.network.box_coding,
            config=self.recipe.loss,
        )

    def _add_up(self, values: Tensor) -> None:
        if self._world > 1:
            distributed.all_reduce(values)

    def _share(self, loss: Loss) -> Loss:
        parts = torch.stack([loss.objects, loss.background, loss.boxes, loss.total]).detach()
        self._add_up(parts)
        objects, background, boxes, total = parts
        return Loss(objects=objects, background=background, boxes=boxes, total=total)

    def _update_average(self, steps: int) -> None:
        if not self.recipe.averaging:
            return
        # A short memory first: the average must forget the random weights it started from.
        decay = min(self.recipe.averaging, (1 + steps) / (10 + steps))
        for name, value in self.network.state_dict().items():
            if value.is_floating_point():
                self._average[name].lerp_(value, 1 - decay)
            else:
                self._average[name].copy_(value)

    def capture(self) -> dict[str, dict[str, Tensor]]:
        """Copy all that a resume needs.

        Returns:
            Tensors by kind and name, on the CPU.
        """
        kinds = {
            "network": _to_cpu(self.network.state_dict()),
            "optimizer": capture_optimizer(self._optimizer, self.network),
        }
        return kinds | ({"average": _to_cpu(self._average)} if self.recipe.averaging else {})

    def is_sound(self) -> bool:
        """Tell whether training can go on from here; every worker calls it.

        Returns:
            False once a weight, or what the optimizer remembers of one, is no finite number, on any
            worker: the statistics of their batches differ.
        """
        slots = [slot for slots in self._optimizer.state.values() for slot in slots.values()]
        tensors = [*self.network.state_dict().values(), *self._average.values(), *slots]
        is_sound = all(
            bool(tensor.isfinite().all()) for tensor in tensors if isinstance(tensor, Tensor)
        )
        unsound = torch.tensor(int(not is_sound), device=self.device)
        self._add_up(unsound)
        return not int(unsound)

    def restore(self, kinds: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Become what `capture` copied.

        Args:
            kinds: What it returned.
        """
        self.network.load_state_dict(dict(kinds["network"]))
        restore_optimizer(self._optimizer, self.network, kinds["optimizer"])
        if self.recipe.averaging:
            self._average = {
                name: value.to(self.device) for name, value in kinds["average"].items()
            }

    def weights(self) -> dict[str, Tensor]:
        """The weights to be used: averaged if they are, and of a plain network.

        Returns:
            Its `state_dict`, on the CPU.
        """
        return _to_cpu(fold_batch_norm(self._average or self._copy()))

    def _copy(self) -> dict[str, Tensor]:
        return {name: value.detach().clone() for name, value in self.network.state_dict().items()}


def see_windows(
    model: nn.Module,
    batch: Batch,
    *,
    device: torch.device,
    dtype: torch.dtype = torch.float32,
) -> WindowValues:
    """Let a network look at a batch.

    Args:
        model: The network, or with context its `TwoScales`, or what wraps one of them.
        batch: What to look at.
        device: Where the network is.
        dtype: Number format of the pixels.

    Returns:
        What the windows of the batch say.
    """
    inputs = [batch.canvases.to(device, dtype, memory_format=torch.channels_last)]
    if batch.lower is not None:
        inputs += [
            batch.lower.canvases.to(device, dtype, memory_format=torch.channels_last),
            batch.lower.rows.to(device),
            batch.lower.cols.to(device),
        ]
    values: WindowValues = model(*inputs)
    return values


def compare_windows(
    values: WindowValues,
    batch: Batch,
    *,
    background: int | None,
    coding: BoxCoding,
    config: LossConfig,
) -> LossSums:
    """Compare what the windows of a batch say with what they should say.

    Args:
        values: What they say, in any number format.
        batch: What they should say.
        background: Label of the background; None if there is none.
        coding: What the numbers of a box mean.
        config: Which parts count.

    Returns:
        Sums and counts of all parts of the loss.
    """
    device = values.logits.device
    labels = batch.labels.to(device)
    sums = measure_classes(
        _list_windows(values.logits),
        labels,
        background=background,
        config=config,
        seeds=batch.seeds,
    )
    if values.codes is None or not config.box_weight:
        return sums
    boxes = measure_boxes(
        _list_windows(values.codes),
        labels,
        batch.edges.to(device),
        background=background,
        coding=coding,
        config=config,
    )
    return sums + boxes


def _choose_parameters(network: OverFeat, recipe: Recipe, *, context: bool) -> None:
    """Let only that learn which the loss says something of."""
    classes = bool(recipe.loss.class_weight or recipe.loss.background_weight)
    learns = {
        "trunk": recipe.train_trunk,
        "classifier": classes,
        "context": classes and context,
        "regressor": bool(recipe.loss.box_weight),
    }
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(learns.get(name.partition(".")[0], recipe.train_trunk))


def _make_optimizer(network: OverFeat, recipe: Recipe) -> torch.optim.Optimizer:
    parameters = [one for one in network.parameters() if one.requires_grad]
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(
            parameters,
            lr=recipe.learning_rate,
            momentum=recipe.momentum,
            weight_decay=recipe.weight_decay,
        )
    return torch.optim.AdamW(parameters, lr=recipe.learning_rate, weight_decay=recipe.weight_decay)


def _list_windows(values: Tensor) -> Tensor:
    """(images, channels, rows, cols) -> (images, windows, channels), in float32."""
    return values.float().flatten(2).transpose(1, 2)


def _to_cpu(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.detach().cpu().clone() for name, value in tensors.items()}
