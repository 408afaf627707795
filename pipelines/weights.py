"""Checkpoints from wherever the user keeps them: fetched once, handed to every worker as bytes."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import safetensors.torch
from torch import Tensor

from overfeat.checkpoint import (
    CONFIG_FILE,
    WEIGHTS_FILE,
    CheckpointConfig,
    CheckpointError,
    digest_checkpoint,
    load_checkpoint,
    save_checkpoint,
)
from overfeat.loading import find_checkpoint
from overfeat.member import Dtype, Member
from overfeat.predictor import Predictor
from pipelines import storage
from pipelines.errors import InputError


@dataclass(frozen=True, kw_only=True, slots=True)
class CheckpointFiles:
    """A checkpoint in memory, so that a worker needs no access to where it came from."""

    config: CheckpointConfig
    """Its description."""
    digest: str
    """Its identity."""
    contents: dict[str, bytes]
    """File names and bytes."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelFiles:
    """A model in memory: one checkpoint, or the several of a committee."""

    members: tuple[CheckpointFiles, ...]
    """At least one; all with the same classes in the same order."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Labels in the order of every member's outputs."""
        return self.members[0].config.classes

    @property
    def digest(self) -> str:
        """The model's identity: a checkpoint's own; of a committee, of its members' in order."""
        first, *others = (member.digest for member in self.members)
        if not others:
            return first
        return hashlib.sha256("".join([first, *others]).encode()).hexdigest()


def fetch_model(weights: Sequence[str]) -> ModelFiles:
    """Read one checkpoint, or the several of a committee, and check that they can be used.

    Args:
        weights: For each `demo`, a folder, or a URI; at least one.

    Returns:
        The model.

    Raises:
        InputError: If a checkpoint is missing or damaged, or has other classes than the first.
    """
    members = tuple(fetch_checkpoint(name) for name in weights)
    for name, member in zip(weights, members, strict=True):
        if member.config.classes != members[0].config.classes:
            raise InputError(
                f"--weights {name}: its classes, or their order, differ from those of "
                f"{weights[0]}; a committee needs the same list in every {CONFIG_FILE}"
            )
    return ModelFiles(members=members)


def fetch_checkpoint(weights: str) -> CheckpointFiles:
    """Read a checkpoint from a folder or URI, and check that it can be used.

    Args:
        weights: `demo`, a folder, or a URI.

    Returns:
        The checkpoint.

    Raises:
        InputError: If there is none, or it is damaged.
    """
    # Only the shipped checkpoint's name is looked up: a path would lose a slash of a URI.
    root = storage.resolve_uri(str(find_checkpoint(weights)) if weights == "demo" else weights)
    try:
        contents = {
            name: storage.read_bytes(storage.join_uri(root, name))
            for name in (CONFIG_FILE, WEIGHTS_FILE)
        }
    except FileNotFoundError as error:
        raise InputError(
            f"--weights {weights}: no checkpoint there; expected a folder with {CONFIG_FILE} and "
            f"{WEIGHTS_FILE}, or 'demo'"
        ) from error
    with tempfile.TemporaryDirectory() as folder:
        try:
            _unpack(contents, Path(folder))
            config, _ = load_checkpoint(Path(folder))
            digest = digest_checkpoint(Path(folder))
        except CheckpointError as error:
            raise InputError(f"--weights {weights}: {_without_folder(error, folder)}") from error
    return CheckpointFiles(config=config, digest=digest, contents=contents)


def open_predictor(files: ModelFiles, *, device: str, dtype: Dtype) -> Predictor:
    """Build the model from what was fetched.

    Args:
        files: What `fetch_model` returned.
        device: Such as `cpu` or `cuda`.
        dtype: Number format of weights and activations.

    Returns:
        The model.
    """
    return Predictor([_open_member(member, device, dtype) for member in files.members])


def load_tensors(files: CheckpointFiles) -> dict[str, Tensor]:
    """Read the weights of what was fetched.

    Args:
        files: What `fetch_checkpoint` returned.

    Returns:
        The network's `state_dict`.
    """
    return safetensors.torch.load(files.contents[WEIGHTS_FILE])


def put_checkpoint(output: str, config: CheckpointConfig, tensors: Mapping[str, Tensor]) -> None:
    """Write a checkpoint to any store; its description last, so that it is whole once that stands.

    Args:
        output: Folder or URI, resolved.
        config: The description.
        tensors: The network's `state_dict`.

    Raises:
        StorageError: If the store refuses.
    """
    scratch = storage.join_uri(output, ".tmp")
    with tempfile.TemporaryDirectory() as folder:
        save_checkpoint(Path(folder), config, tensors)
        for name in (WEIGHTS_FILE, CONFIG_FILE):
            data = Path(folder, name).read_bytes()
            storage.write_bytes(storage.join_uri(output, name), data, scratch=scratch)


def _open_member(files: CheckpointFiles, device: str, dtype: Dtype) -> Member:
    with tempfile.TemporaryDirectory() as folder:
        _unpack(files.contents, Path(folder))
        config, network = load_checkpoint(Path(folder))
    return Member(config, network, device=device, dtype=dtype)


def _unpack(contents: dict[str, bytes], folder: Path) -> None:
    for name, data in contents.items():
        (folder / name).write_bytes(data)


def _without_folder(error: CheckpointError, folder: str) -> str:
    return str(error).replace(f"checkpoint {folder}: ", "")
