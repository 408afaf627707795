"""Where do the states of a training lie, and which of them stay?

    OUTPUT/checkpoints/step-0000001000.{network,average,optimizer}.safetensors
                       step-0000001000.json      written last: without it there is no state
                       best.json                 which of them did best on held-out samples

A state whose files are not those that its JSON names is passed over for the one before.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections.abc import Collection, Mapping
from dataclasses import asdict
from typing import Any, Final

import safetensors.torch
from safetensors import SafetensorError

from pipelines import storage
from pipelines.errors import PipelineError, TransientStorageError
from pipelines.training.state import Position, TrainingState

logger = logging.getLogger(__name__)

FOLDER: Final = "checkpoints"
_NAME: Final = re.compile(r"step-(\d{10})\.(json|[a-z]+\.safetensors)")
_LAST: Final = "json"
_BEST: Final = "best.json"
_DAMAGE: Final = (ValueError, KeyError, TypeError, SafetensorError)
"""What reading a state raises that is not the one that was written."""


def save_state(output: str, state: TrainingState) -> None:
    """Write a state; it counts once its last file stands.

    Args:
        output: The training.
        state: What to write.

    Raises:
        StorageError: If the store refuses.
    """
    digests = {}
    for kind, tensors in state.tensors.items():
        contiguous = {name: tensor.contiguous() for name, tensor in tensors.items()}
        data = safetensors.torch.save(contiguous)
        digests[kind] = hashlib.sha256(data).hexdigest()
        _write(output, state.position.steps, f"{kind}.safetensors", data)
    document = {
        "position": asdict(state.position),
        "sha256": digests,
        "facts": dict(state.facts),
    }
    _write(output, state.position.steps, _LAST, json.dumps(document, indent=2).encode())


def load_newest_state(output: str) -> TrainingState | None:
    """Read the newest state that is whole.

    Args:
        output: The training.

    Returns:
        The state; None if there is none yet.

    Raises:
        PipelineError: If there are states, and none of them can be read.
    """
    steps = sorted(list_states(output), reverse=True)
    for step in steps:
        try:
            return _load(output, step)
        except _DAMAGE as error:
            logger.warning(
                "%s: damaged (%s); going back to the state before it",
                _uri(output, step, _LAST),
                error,
            )
    if steps:
        raise PipelineError(
            f"{output}: none of the {len(steps)} states under {FOLDER}/ can be read; expected one "
            "whole one: delete that folder to start again, or train into another --output"
        )
    return None


def load_chosen_state(output: str, step: int) -> TrainingState:
    """Read the state that another worker has chosen to go on from.

    Args:
        output: The training.
        step: Its number of steps.

    Returns:
        The state.

    Raises:
        TransientStorageError: If this worker does not find it whole. It must not go on from
            another one; started again, all may.
    """
    try:
        return _load(output, step)
    except _DAMAGE as error:
        raise TransientStorageError(
            f"{_uri(output, step, _LAST)}: the first worker goes on from it and another one cannot "
            f"read it ({error}); expected the same files for all workers: --output must be a store "
            "that all of them see, and no other training may be at work there"
        ) from error


def load_state(output: str, step: int) -> TrainingState:
    """Read one state.

    Args:
        output: The training.
        step: Its number of steps.

    Returns:
        The state.

    Raises:
        PipelineError: If it is not there, or damaged.
    """
    try:
        return _load(output, step)
    except _DAMAGE as error:
        raise PipelineError(
            f"{_uri(output, step, _LAST)}: cannot be read ({error}), and it is the best state; "
            "give --result last"
        ) from error


def write_best(output: str, best: Mapping[str, Any]) -> None:
    """Write down which state did best on held-out samples, for whoever looks.

    Args:
        output: The training.
        best: Its step, and what decided.

    Raises:
        StorageError: If the store refuses.
    """
    uri = storage.join_uri(output, FOLDER, _BEST)
    data = json.dumps(dict(best), indent=2).encode()
    storage.write_bytes(uri, data, scratch=storage.join_uri(output, ".tmp"))


def list_states(output: str) -> set[int]:
    """Find the states that were written to their end.

    Args:
        output: The training.

    Returns:
        By their number of steps.
    """
    return {step for step, end in _list_files(output) if end == _LAST}


def prune_states(output: str, *, keep: Collection[int]) -> None:
    """Delete states, each one's JSON first, so that none is ever found in part.

    Args:
        output: The training.
        keep: Numbers of steps of those that stay.
    """
    files = sorted(_list_files(output), key=lambda file: file[1] != _LAST)
    for step, end in files:
        if step not in keep:
            storage.delete([_uri(output, step, end)])


def _load(output: str, step: int) -> TrainingState:
    document: dict[str, Any] = json.loads(_read(output, step, _LAST))
    tensors = {}
    for kind, digest in document["sha256"].items():
        data = _read(output, step, f"{kind}.safetensors")
        if hashlib.sha256(data).hexdigest() != digest:
            raise ValueError(f"{kind}.safetensors is not the file that was written")
        tensors[kind] = safetensors.torch.load(data)
    return TrainingState(
        position=Position(**document["position"]), tensors=tensors, facts=document["facts"]
    )


def _list_files(output: str) -> list[tuple[int, str]]:
    """Steps and endings of all files of states."""
    names = storage.list_names(storage.join_uri(output, FOLDER))
    found = [_NAME.fullmatch(name) for name in sorted(names)]
    return [(int(match[1]), match[2]) for match in found if match is not None]


def _uri(output: str, step: int, end: str) -> str:
    return storage.join_uri(output, FOLDER, f"step-{step:010d}.{end}")


def _read(output: str, step: int, end: str) -> bytes:
    try:
        return storage.read_bytes(_uri(output, step, end))
    except FileNotFoundError as error:
        raise ValueError(f"{end} is missing") from error


def _write(output: str, step: int, end: str, data: bytes) -> None:
    uri = _uri(output, step, end)
    storage.write_bytes(uri, data, scratch=storage.join_uri(output, ".tmp"))
