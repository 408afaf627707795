"""Checkpoints: a folder with `model.safetensors` and `config.json`. Nothing is unpickled.

`config.json` says all that is needed to use the weights: architecture, classes, normalisation,
scales.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar, get_args

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from overfeat.box_coding import BoxCoding
from overfeat.network import OverFeat, Regressor
from overfeat.scales import Canvas, check_ladder
from overfeat.zoo import get_architecture

WEIGHTS_FILE = "model.safetensors"
CONFIG_FILE = "config.json"
CHANNELS = 3
"""Red, green, blue."""
FORMAT = 1
"""Version of this layout, in `config.json`."""


_Kind = TypeVar("_Kind")
_JSON_KINDS: dict[type, str] = {
    bool: "true or false",
    dict: "an object",
    float: "a number",
    int: "a whole number",
    list: "a list",
    str: "a text",
}


class CheckpointError(ValueError):
    """A checkpoint is missing, damaged, or of another layout."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Normalization:
    """What is taken from the pixels, and what they are divided by: (pixel - mean) / std."""

    mean: tuple[float, float, float]
    """Red, green, blue, 0 to 255."""
    std: tuple[float, float, float]
    """Red, green, blue, above 0."""

    def __post_init__(self) -> None:
        finite = all(math.isfinite(value) for value in (*self.mean, *self.std))
        if not len(self.mean) == len(self.std) == CHANNELS or not finite or min(self.std) <= 0:
            msg = f"normalization: received {self}, expected three means and three positive stds"
            raise ValueError(msg)


NYU_NORMALIZATION = Normalization(mean=(118.380948,) * 3, std=(61.896913,) * 3)
"""The constants of the 2014 program, one number for all channels of both networks."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CheckpointConfig:
    """What `config.json` holds."""

    architecture: str
    """A name of `overfeat.zoo`, such as `fast`."""
    classes: tuple[str, ...]
    """Labels in the order of the classifier's outputs, background left out."""
    background: bool = False
    """Whether the classifier has one more output, for windows without an object."""
    regressor: Regressor = "none"
    """Which box regressor there is."""
    box_coding: BoxCoding = "edges"
    """What the regressor's numbers mean; without a regressor nothing reads it."""
    context: bool = False
    """Whether the classifier of each scale also reads the next lower one."""
    normalization: Normalization = NYU_NORMALIZATION
    """How pixels become inputs."""
    scales: tuple[Canvas, ...] = ()
    """Ladder of scales; empty for the architecture's own."""
    provenance: Mapping[str, Any] = field(default_factory=dict)
    """Where the weights come from: command, seed, time, numbers. Never read by the code."""

    def __post_init__(self) -> None:
        architecture = get_architecture(self.architecture)
        if not self.classes:
            raise ValueError("classes: received none, expected at least one label")
        choices = {"regressor": Regressor, "box_coding": BoxCoding}
        for name, choice in choices.items():
            if getattr(self, name) not in get_args(choice):
                expected = f"expected one of {get_args(choice)}"
                raise ValueError(f"{name}: received {getattr(self, name)!r}, {expected}")
        check_ladder(self.ladder, window=architecture.window)

    @property
    def ladder(self) -> tuple[Canvas, ...]:
        """The scales to use: the checkpoint's, or else the architecture's."""
        return self.scales or get_architecture(self.architecture).scales

    @property
    def outputs(self) -> int:
        """Outputs of the classifier, background included."""
        return len(self.classes) + self.background

    def build_network(self) -> OverFeat:
        """Make the network with uninitialised weights.

        Returns:
            The network, in float32 on the CPU.
        """
        architecture = get_architecture(self.architecture)
        # On the meta device no time goes into random numbers that are overwritten at once.
        with torch.device("meta"):
            network = OverFeat(
                architecture,
                outputs=self.outputs,
                regressor=self.regressor,
                box_coding=self.box_coding,
                context=self.context,
            )
        return network.to_empty(device="cpu")


def save_checkpoint(folder: Path, config: CheckpointConfig, tensors: Mapping[str, Tensor]) -> None:
    """Write a checkpoint; `config.json` last, so that its presence means that the folder is whole.

    Args:
        folder: Where to; made if it is missing.
        config: The description.
        tensors: The network's `state_dict`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / CONFIG_FILE).unlink(missing_ok=True)
    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    save_file(contiguous, folder / WEIGHTS_FILE)
    write_config(folder, config)
    # safetensors lets only the owner read its file; a checkpoint is for whoever reads its config.
    (folder / WEIGHTS_FILE).chmod((folder / CONFIG_FILE).stat().st_mode)


def write_config(folder: Path, config: CheckpointConfig) -> None:
    """Write a checkpoint's description alone.

    Args:
        folder: The checkpoint.
        config: The description.
    """
    (folder / CONFIG_FILE).write_text(json.dumps(_to_json(config), indent=2) + "\n", "utf-8")


def load_checkpoint(folder: Path) -> tuple[CheckpointConfig, OverFeat]:
    """Read a checkpoint into a network.

    Args:
        folder: A folder that `save_checkpoint` wrote.

    Returns:
        The description, and the network in float32 on the CPU, in evaluation mode.

    Raises:
        CheckpointError: If the folder is missing or is not a checkpoint of this layout.
    """
    config = read_config(folder)
    network = config.build_network()
    try:
        tensors = load_file(folder / WEIGHTS_FILE)
    except (OSError, SafetensorError) as error:
        msg = f"checkpoint {folder}: {WEIGHTS_FILE} cannot be read ({error}); copy it again"
        raise CheckpointError(msg) from error
    _check_tensors(folder, expected=network.state_dict(), received=tensors)
    network.load_state_dict({name: tensor.float() for name, tensor in tensors.items()})
    return config, network.eval()


def read_config(folder: Path) -> CheckpointConfig:
    """Read a checkpoint's description alone.

    Args:
        folder: A folder that `save_checkpoint` wrote.

    Returns:
        The description.

    Raises:
        CheckpointError: If the folder is missing or is not a checkpoint of this layout.
    """
    if not (folder / CONFIG_FILE).is_file():
        msg = (
            f"checkpoint {folder}: no {CONFIG_FILE} there; expected a local folder with it and "
            f"{WEIGHTS_FILE}, as training and import-weights make it"
        )
        raise CheckpointError(msg)
    try:
        return _from_json(json.loads((folder / CONFIG_FILE).read_text("utf-8")))
    except (OSError, OverflowError, TypeError, ValueError) as error:
        msg = f"checkpoint {folder}: {CONFIG_FILE} is not valid ({error})"
        raise CheckpointError(msg) from error


def digest_checkpoint(folder: Path) -> str:
    """Compute the identity of a checkpoint: any changed byte of either file changes it.

    Args:
        folder: A checkpoint.

    Returns:
        SHA-256 of both files, 64 hexadecimal digits.

    Raises:
        CheckpointError: If a file is missing.
    """
    digest = hashlib.sha256()
    for name in (CONFIG_FILE, WEIGHTS_FILE):
        try:
            with (folder / name).open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
        except OSError as error:
            msg = f"checkpoint {folder}: {name} cannot be read ({error.strerror})"
            raise CheckpointError(msg) from error
    return digest.hexdigest()


def _check_tensors(
    folder: Path, *, expected: Mapping[str, Tensor], received: Mapping[str, Tensor]
) -> None:
    shapes = {name: tuple(tensor.shape) for name, tensor in expected.items()}
    found = {name: tuple(tensor.shape) for name, tensor in received.items()}
    for name in sorted(shapes.keys() | found.keys()):
        if shapes.get(name) != found.get(name):
            msg = (
                f"checkpoint {folder}: tensor {name} is {found.get(name, 'missing')}, "
                f"expected {shapes.get(name, 'none of that name')} for its {CONFIG_FILE}"
            )
            raise CheckpointError(msg)


def _to_json(config: CheckpointConfig) -> dict[str, Any]:
    normalization = config.normalization
    return {
        "format": FORMAT,
        "architecture": config.architecture,
        "classes": list(config.classes),
        "background": config.background,
        "regressor": config.regressor,
        "box_coding": config.box_coding,
        "context": config.context,
        "normalization": {"mean": list(normalization.mean), "std": list(normalization.std)},
        "scales": [str(canvas) for canvas in config.scales],
        "provenance": dict(config.provenance),
    }


def _from_json(values: object) -> CheckpointConfig:
    fields = _check_kind("the file", values, dict)
    received = _take(fields, "format", int)
    if received != FORMAT:
        raise ValueError(f"format {received}, expected {FORMAT}")
    normalization = _take(fields, "normalization", dict)
    return CheckpointConfig(
        architecture=_take(fields, "architecture", str),
        classes=_take_all(fields, "classes", str),
        background=_take(fields, "background", bool),
        regressor=_take(fields, "regressor", str),  # type: ignore[arg-type]  # checked there
        box_coding=_take(fields, "box_coding", str),  # type: ignore[arg-type]  # the same
        context=_take(fields, "context", bool),
        normalization=Normalization(
            mean=_take_all(normalization, "mean", float),  # type: ignore[arg-type]  # the same
            std=_take_all(normalization, "std", float),  # type: ignore[arg-type]  # the same
        ),
        scales=tuple(Canvas.parse(text) for text in _take_all(fields, "scales", str)),
        provenance=_take(fields, "provenance", dict),
    )


def _take(fields: Mapping[str, object], name: str, kind: type[_Kind]) -> _Kind:
    if name not in fields:
        raise ValueError(f"no {name!r}")
    return _check_kind(name, fields[name], kind)


def _take_all(fields: Mapping[str, object], name: str, kind: type[_Kind]) -> tuple[_Kind, ...]:
    return tuple(_check_kind(name, value, kind) for value in _take(fields, name, list))


def _check_kind(name: str, value: object, kind: type[_Kind]) -> _Kind:
    # To Python, `true` is the number 1.
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if not isinstance(value, kind) or isinstance(value, bool) != (kind is bool):
        raise TypeError(f"{name}: received {value!r}, expected {_JSON_KINDS[kind]}")
    return value
