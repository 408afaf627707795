"""What came of each invocation on a run? Each leaves a report of its own in the folder `runs`."""

from __future__ import annotations

import json
from contextlib import suppress
from datetime import datetime
from typing import Any

from pipelines import storage
from pipelines.errors import PipelineError
from pipelines.tables import RUN_FILE


def write_report(output: str, started: datetime, values: dict[str, Any]) -> None:
    """Leave the report of an invocation.

    Args:
        output: The run.
        started: When it began, UTC; the report is called so.
        values: What it says.
    """
    name = f"{started.strftime('%Y%m%dT%H%M%S.%f')}Z.json"
    uri = storage.join_uri(output, "runs", name)
    data = json.dumps(values, indent=2).encode()
    storage.write_bytes(uri, data, scratch=storage.join_uri(output, ".tmp"))


def note_failure(output: str, started: datetime, error: PipelineError) -> None:
    """Leave the report of an invocation that failed, if there is a run and the store takes one.

    Args:
        output: The run.
        started: When it began, UTC.
        error: Why it failed.
    """
    with suppress(PipelineError):
        if storage.exists(storage.join_uri(output, RUN_FILE)):
            write_report(output, started, {"output": output, "error": str(error)})
