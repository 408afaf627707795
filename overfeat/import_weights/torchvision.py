"""torchvision's AlexNet and VGG-16, read from their state dict into a checkpoint of ours.

Such a file is a pickle: torch's restricted unpickler makes tensors and containers of it, nothing
else, and every name, shape, format and value is checked before anything is written.
"""

from __future__ import annotations

import pickle
import struct
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final, Literal

import torch
from torch import Tensor

from overfeat.checkpoint import CheckpointConfig, Normalization, save_checkpoint
from overfeat.import_weights.imagenet_classes import read_imagenet_classes
from overfeat.import_weights.weight_file import WeightFileError, check_finite, check_is_file

TorchvisionNetwork = Literal["alexnet", "vgg16"]
"""The networks of torchvision that are networks of ours, by the name they have in both."""

TORCHVISION_NORMALIZATION: Final = Normalization(
    mean=(123.675, 116.28, 103.53), std=(58.395, 57.12, 57.375)
)
"""What torchvision writes as (0.485, 0.456, 0.406) and (0.229, 0.224, 0.225) of full brightness."""

_POSITIONS: Final[Mapping[str, tuple[tuple[int, ...], tuple[int, ...]]]] = {
    "alexnet": ((0, 3, 6, 8, 10), (1, 4, 6)),
    "vgg16": ((0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28), (0, 3, 6)),
}
"""Where the layers with weights stand in torchvision's `features` and `classifier`."""

_FORMATS: Final = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
_DAMAGE: Final = (
    AssertionError,
    AttributeError,
    EOFError,
    LookupError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
    struct.error,
)
"""What `torch.load` raised of 41,000 files with a cut end or wrong bytes (*measured*)."""


def import_torchvision_weights(
    source: Path, folder: Path, *, architecture: TorchvisionNetwork
) -> CheckpointConfig:
    """Turn a state dict of torchvision's AlexNet or VGG-16 into a checkpoint.

    The state dict may stand alone or under `state_dict`, as training scripts save it, with or
    without the `module.` that data-parallel training puts into names, in any float format.

    Args:
        source: A file that `torch.save` wrote, such as `alexnet-owt-7be5be79.pth`.
        folder: Where the checkpoint goes; nothing is written there unless the whole file is good.
        architecture: Which network it is.

    Returns:
        The checkpoint's description; its classes are in torchvision's order.

    Raises:
        WeightFileError: If the file is missing or damaged, holds anything but tensors, or is not
            exactly this network with 1000 classes and finite weights.
    """
    check_is_file(source, give=f"the .pth file of torchvision's {architecture}")
    config = CheckpointConfig(
        architecture=architecture,
        classes=read_imagenet_classes("sorted-wnid"),
        normalization=TORCHVISION_NORMALIZATION,
        provenance={
            "source": f"torchvision-{architecture}",
            "file": source.name,
            "bytes": source.stat().st_size,
        },
    )
    state = _find_state(source, _load(source))
    names = _list_names(architecture)
    _check_names(source, state, architecture)
    # Our state_dict keeps the order of construction, which is torchvision's too.
    ours = config.build_network().state_dict()
    tensors = {
        name: _convert(source, theirs, state[theirs], like=ours[name])
        for name, theirs in zip(ours, names, strict=True)
    }
    save_checkpoint(folder, config, tensors)
    return config


# Reads the file without running anything that may be in it.
def _load(source: Path) -> object:
    try:
        with warnings.catch_warnings():
            # Of odd files torch warns too; the error that follows says it once.
            warnings.simplefilter("ignore")
            return torch.load(source, map_location="cpu", weights_only=True)  # noqa: TID251  # other programs' files are pickles; this makes tensors only
    except pickle.UnpicklingError as error:
        raise WeightFileError(
            f"weights {source}: the pickle is damaged or holds more than tensors, expected a "
            "state dict; save model.state_dict() rather than the model"
        ) from error
    except _DAMAGE as error:
        raise WeightFileError(
            f"weights {source}: cannot be read ({type(error).__name__}), expected a file that "
            "torch.save wrote; copy it again"
        ) from error


# Takes the state dict out of what training scripts wrap around it and put into its names.
def _find_state(source: Path, loaded: object) -> Mapping[str, object]:
    if isinstance(loaded, Mapping) and isinstance(loaded.get("state_dict"), Mapping):
        loaded = loaded["state_dict"]
    if not isinstance(loaded, Mapping) or not all(isinstance(name, str) for name in loaded):
        raise WeightFileError(
            f"weights {source}: received a {type(loaded).__name__}, expected a state dict: "
            "tensors by name"
        )
    # Whole models are wrapped as `module.features.0`, AlexNet's and VGG's trunk often alone, as
    # `features.module.0`.
    state = {
        ".".join(part for part in name.split(".") if part != "module"): value
        for name, value in loaded.items()
    }
    if len(state) < len(loaded):
        raise WeightFileError(
            f"weights {source}: tensors are there twice, with and without `module.` in their name"
        )
    return state


def _list_names(architecture: str) -> tuple[str, ...]:
    features, classifier = _POSITIONS[architecture]
    layers = [f"features.{i}" for i in features] + [f"classifier.{i}" for i in classifier]
    return tuple(f"{layer}.{part}" for layer in layers for part in ("weight", "bias"))


def _check_names(source: Path, received: Iterable[str], architecture: str) -> None:
    found, expected = set(received), set(_list_names(architecture))
    if found == expected:
        return
    others = [name for name in _POSITIONS if found == set(_list_names(name))]
    if others:
        raise WeightFileError(
            f"weights {source}: this is torchvision's {others[0]}, expected {architecture}; "
            f"import it as torchvision-{others[0]}"
        )
    faults = [
        f"{verb} {_abridge(names)}"
        for verb, names in (("lacks", expected - found), ("also has", found - expected))
        if names
    ]
    raise WeightFileError(
        f"weights {source}: {' and '.join(faults)}, expected exactly the {len(expected)} tensors "
        f"of torchvision's {architecture}"
    )


def _abridge(names: set[str]) -> str:
    first, *others = sorted(names)
    return f"{first} and {len(others)} more" if others else first


# Checks one tensor of the file, and shapes it as our convolution has it.
def _convert(source: Path, name: str, value: object, *, like: Tensor) -> Tensor:
    is_linear = name.startswith("classifier") and name.endswith("weight")
    fault = _find_fault(value, like.flatten(1).shape if is_linear else like.shape)
    if fault:
        raise WeightFileError(f"weights {source}: {name} is {fault}")
    assert isinstance(value, Tensor)
    # A copy, because safetensors refuses tensors that overlap, as those of a file may.
    converted = value.detach().to(torch.float32, copy=True, memory_format=torch.contiguous_format)
    converted = converted.view(like.shape)
    check_finite(source, name, converted)
    return converted


def _find_fault(value: object, shape: torch.Size) -> str | None:
    """What is wrong with what stands under the name of a tensor; None if nothing is."""
    if not isinstance(value, Tensor):
        return f"a {type(value).__name__}, expected a tensor"
    if value.layout != torch.strided or value.is_meta:
        return f"a {value.layout} tensor on {value.device}, expected a dense one with its numbers"
    if value.shape != shape:
        return f"{tuple(value.shape)}, expected {tuple(shape)}"
    if value.dtype not in _FORMATS:
        return f"{value.dtype}, expected one of {', '.join(map(str, _FORMATS))}"
    return None
