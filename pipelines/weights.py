"""A checkpoint from wherever the user keeps it: fetched once, handed to every worker as bytes."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

from overfeat.checkpoint import (
    CONFIG_FILE,
    WEIGHTS_FILE,
    CheckpointConfig,
    CheckpointError,
    digest_checkpoint,
    load_checkpoint,
)
from overfeat.predictor import Dtype, Predictor, find_checkpoint
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


def open_predictor(files: CheckpointFiles, *, device: str, dtype: Dtype) -> Predictor:
    """Build the model from a fetched checkpoint.

    Args:
        files: What `fetch_checkpoint` returned.
        device: Such as `cpu` or `cuda`.
        dtype: Number format of weights and activations.

    Returns:
        The model.
    """
    with tempfile.TemporaryDirectory() as folder:
        _unpack(files.contents, Path(folder))
        config, network = load_checkpoint(Path(folder))
    return Predictor(config, network, device=device, dtype=dtype)


def _unpack(contents: dict[str, bytes], folder: Path) -> None:
    for name, data in contents.items():
        (folder / name).write_bytes(data)


def _without_folder(error: CheckpointError, folder: str) -> str:
    return str(error).replace(f"checkpoint {folder}: ", "")
