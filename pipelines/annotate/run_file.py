"""`run.json`: what a run is, made by its first command and the same for every later one."""

from __future__ import annotations

import json
import logging
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from overfeat.member import Dtype
from pipelines import storage
from pipelines.annotate.config import AnnotateConfig
from pipelines.annotate.graph import resolve_device
from pipelines.annotate.resolve import ResolvedModel
from pipelines.annotate.settings import row_settings
from pipelines.cluster import Placement
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
    fingerprint: str
    """Of the settings that decide the rows."""
    model: ResolvedModel
    """What it does with its checkpoints."""
    device: str
    """Kind of device: `cpu` or `cuda`."""
    dtype: Dtype
    """Number format in use."""
    is_new: bool
    """Whether this command made it."""


def open_run(
    config: AnnotateConfig,
    output: str,
    files: ModelFiles,
    model: ResolvedModel,
    placement: Placement,
) -> OpenRun:
    """Create `run.json`, or check that the one there is of the same configuration.

    Args:
        config: What the user said.
        output: Where the run is, resolved.
        files: Its checkpoints.
        model: What the run does with them.
        placement: Where the detect actors run.

    Returns:
        The run.

    Raises:
        RunMismatchError: If the run there has another configuration.
    """
    device, dtype = resolve_device(placement, config.dtype)
    settings = row_settings(config, model, device=device, dtype=dtype)
    uri = storage.join_uri(output, RUN_FILE)
    fingerprint = compute_fingerprint(settings)
    document = _describe_run(config, files, fingerprint, settings)
    scratch = storage.join_uri(output, ".tmp")
    data = json.dumps(document, indent=2).encode()
    is_new = storage.create_bytes(uri, data, scratch=scratch)
    if not is_new:
        there = _read_run(uri)
        refuse_other_settings(output, found=there["settings"], wanted=settings)
        _warn_of_versions(there["versions"])
    return OpenRun(
        output=output,
        fingerprint=fingerprint,
        model=model,
        device=device,
        dtype=dtype,
        is_new=is_new,
    )


def _read_run(uri: str) -> dict[str, Any]:
    try:
        there: dict[str, Any] = json.loads(storage.read_bytes(uri))
    except ValueError:
        there = {}
    if not isinstance(there, dict) or not {"settings", "versions"} <= there.keys():
        raise InputError(f"{uri}: not the {RUN_FILE} of an annotation run; choose another --output")
    return there


def _describe_run(
    config: AnnotateConfig, files: ModelFiles, fingerprint: str, settings: dict[str, Value]
) -> dict[str, Any]:
    return {
        "fingerprint": fingerprint,
        "settings": settings,
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
