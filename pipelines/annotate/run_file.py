"""`run.json`: what a run is, made by its first command and the same for every later one."""

from __future__ import annotations

import json
import logging
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Any

from overfeat.member import Dtype
from pipelines import storage
from pipelines.annotate.config import AnnotateConfig
from pipelines.annotate.leftovers import refuse_rows_of_others
from pipelines.annotate.resolve import ResolvedModel
from pipelines.annotate.settings import row_settings
from pipelines.errors import InputError
from pipelines.fingerprint import Value, compute_fingerprint, refuse_other_settings
from pipelines.tables import RUN_FILE
from pipelines.versions import describe_versions
from pipelines.weights import ModelFiles

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class OpenRun:
    """A run whose `run.json` is there and agrees with the command."""

    output: str
    """Where it is."""
    settings: dict[str, Value]
    """What decides the rows."""
    fingerprint: str
    """Of these."""
    model: ResolvedModel
    """What it does with its checkpoints."""
    is_new: bool
    """Whether this command made it."""


def find_run(config: AnnotateConfig, output: str, model: ResolvedModel) -> OpenRun | None:
    """Find the run of earlier commands, and check that this one has the same configuration.

    Which device it runs on is not known before a cluster is joined: `check_device` is for that.

    Args:
        config: What the user said.
        output: Where the run is, resolved.
        model: What the run does with its checkpoints.

    Returns:
        The run; None if there is none yet.

    Raises:
        RunMismatchError: If the run there has another configuration.
        InputError: If the file there is none of ours.
    """
    try:
        there = _read_run(storage.join_uri(output, RUN_FILE))
    except FileNotFoundError:
        return None
    device = str(there["settings"].get("device"))
    dtype = there["settings"].get("dtype") if config.dtype == "auto" else config.dtype
    run = _assemble(config, output, model, device=device, dtype=dtype, is_new=False)
    refuse_other_settings(output, found=there["settings"], wanted=run.settings)
    _warn_of_versions(there["versions"])
    return run


def prepare_run(
    config: AnnotateConfig, output: str, model: ResolvedModel, *, device: str, dtype: Dtype
) -> OpenRun:
    """Describe a run that has no `run.json`; nothing is written.

    Args:
        config: What the user said.
        output: Where the run is, resolved.
        model: What the run does with its checkpoints.
        device: Kind of device that every detect actor has.
        dtype: Number format in use.

    Returns:
        The run.

    Raises:
        RunMismatchError: If there are rows that lost their `run.json`, of another configuration.
    """
    run = _assemble(config, output, model, device=device, dtype=dtype, is_new=True)
    refuse_rows_of_others(output, run.fingerprint)
    return run


def create_run(
    config: AnnotateConfig,
    output: str,
    files: ModelFiles,
    model: ResolvedModel,
    *,
    device: str,
    dtype: Dtype,
) -> OpenRun:
    """Write `run.json`, unless another driver was faster with the same configuration.

    Args:
        config: What the user said.
        output: Where the run is, resolved.
        files: Its checkpoints.
        model: What the run does with them.
        device: Kind of device that every detect actor has.
        dtype: Number format in use.

    Returns:
        The run.

    Raises:
        RunMismatchError: If the other driver's run has another configuration, or rows that lost
            their `run.json`.
    """
    run = prepare_run(config, output, model, device=device, dtype=dtype)
    data = json.dumps(_describe_run(config, files, run), indent=2).encode()
    uri, scratch = storage.join_uri(output, RUN_FILE), storage.join_uri(output, ".tmp")
    if storage.create_bytes(uri, data, scratch=scratch):
        return run
    refuse_other_settings(output, found=_read_run(uri)["settings"], wanted=run.settings)
    return replace(run, is_new=False)


def check_device(run: OpenRun, *, device: str, dtype: Dtype) -> None:
    """Make sure that a cluster computes what the run's earlier commands computed.

    Args:
        run: The run.
        device: Kind of device that every detect actor has.
        dtype: Number format in use.

    Raises:
        RunMismatchError: If it does not.
    """
    wanted = {**run.settings, "device": device, "dtype": dtype}
    refuse_other_settings(run.output, found=run.settings, wanted=wanted)


def _assemble(
    config: AnnotateConfig,
    output: str,
    model: ResolvedModel,
    *,
    device: str,
    dtype: Dtype,
    is_new: bool,
) -> OpenRun:
    settings = row_settings(config, model, device=device, dtype=dtype)
    return OpenRun(
        output=output,
        settings=settings,
        fingerprint=compute_fingerprint(settings),
        model=model,
        is_new=is_new,
    )


def _read_run(uri: str) -> dict[str, Any]:
    try:
        there: dict[str, Any] = json.loads(storage.read_bytes(uri))
    except ValueError:
        there = {}
    if not isinstance(there, dict) or not all(
        isinstance(there.get(name), dict) for name in ("settings", "versions")
    ):
        raise InputError(f"{uri}: not the {RUN_FILE} of an annotation run; choose another --output")
    return there


def _describe_run(config: AnnotateConfig, files: ModelFiles, run: OpenRun) -> dict[str, Any]:
    return {
        "fingerprint": run.fingerprint,
        "settings": run.settings,
        "configuration": asdict(config),
        "model": {
            "weights": list(config.weights),
            "digest": files.digest,
            "architectures": [member.config.architecture for member in files.members],
            "classes": list(files.classes),
        },
        "versions": describe_versions(),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _warn_of_versions(there: dict[str, str]) -> None:
    here = describe_versions()
    for name in sorted(there.keys() | here.keys()):
        if there.get(name) != here.get(name):
            logger.warning(
                "%s was %s when the run started and is %s now: new rows agree within a tolerance",
                name,
                there.get(name),
                here.get(name),
            )
