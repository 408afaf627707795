"""Batch normalisation in training alone: it makes a deep plain net learn, and leaves no trace.

OverFeat has none. During training each trunk convolution's output is normalised; before the
checkpoint is saved the normalisation is folded into the convolution, which then gives the same
outputs by itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from overfeat.network import OverFeat

_PREFIX = "batch_norm"


def attach_batch_norm(network: OverFeat) -> None:
    """Normalise every trunk convolution's output, from now on.

    Args:
        network: Changed in place; its `state_dict` gains the normalisation's tensors.
    """
    norms = nn.ModuleDict()
    for name, conv in network.trunk.items():
        assert isinstance(conv, nn.Conv2d)
        norm = nn.BatchNorm2d(conv.out_channels)
        norms[name] = norm
        conv.register_forward_hook(lambda _conv, _inputs, output, norm=norm: norm(output))
    network.add_module(_PREFIX, norms)


@contextmanager
def keep_statistics(network: OverFeat) -> Iterator[None]:
    """Let what the normalisation knows of images be the same after the body as before it.

    Args:
        network: One that `attach_batch_norm` changed, or a plain one.
    """
    norms = network.get_submodule(_PREFIX) if hasattr(network, _PREFIX) else nn.Module()
    before = [(buffer, buffer.clone()) for buffer in norms.buffers()]
    yield
    for buffer, value in before:
        buffer.copy_(value)


def fold_batch_norm(tensors: Mapping[str, Tensor], *, eps: float = 1e-5) -> dict[str, Tensor]:
    """Merge the normalisation into the convolutions.

    Args:
        tensors: The `state_dict` of a network that `attach_batch_norm` changed, or an average of
            such.
        eps: What the normalisation adds to the variance; torch's default.

    Returns:
        The `state_dict` of a plain network with the outputs of the other in evaluation mode.
    """
    plain = {name: value for name, value in tensors.items() if not name.startswith(_PREFIX)}
    layers = {name.split(".")[1] for name in tensors if name.startswith(_PREFIX)}
    for layer in layers:
        norm = {key: tensors[f"{_PREFIX}.{layer}.{key}"] for key in ("weight", "bias")}
        mean = tensors[f"{_PREFIX}.{layer}.running_mean"]
        variance = tensors[f"{_PREFIX}.{layer}.running_var"]
        gain = norm["weight"] / torch.sqrt(variance + eps)
        weight, bias = f"trunk.{layer}.weight", f"trunk.{layer}.bias"
        plain[weight] = tensors[weight] * gain[:, None, None, None]
        plain[bias] = (tensors[bias] - mean) * gain + norm["bias"]
    return plain
