"""What do `run.json` and `runs/` say about a run?

The page must open for a run of any age and version, so every file and every key is optional.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from pipelines import storage


@dataclass(frozen=True, kw_only=True, slots=True)
class RunFacts:
    """What a run wrote about itself; empty where it wrote nothing that can be read."""

    run: Mapping[str, object] = field(default_factory=dict)
    """The content of `run.json`: configuration, fingerprint, versions, model."""
    invocation: Mapping[str, object] = field(default_factory=dict)
    """The content of the newest file of `runs/`: counts and rates of one invocation."""


def read_facts(output: str) -> RunFacts:
    """Read what a run wrote about itself.

    Args:
        output: URI of the run.

    Returns:
        The facts; a file that is missing or damaged gives none.

    Raises:
        StorageError: the store refused.
    """
    # The files are named by the time of their start, in a form that sorts.
    invocations = sorted(storage.list_names(storage.join_uri(output, "runs")))
    return RunFacts(
        run=_read_json(storage.join_uri(output, "run.json")),
        invocation=_read_json(storage.join_uri(output, "runs", invocations[-1]))
        if invocations
        else {},
    )


def find_fact(facts: Mapping[str, object], *names: str) -> object | None:
    """Look for a key at any depth.

    Args:
        facts: the content of a JSON file.
        names: keys for the same thing, the most telling first.

    Returns:
        The value of the first name that has one; None without any.
    """
    listed = list(flatten_facts(facts))
    for name in names:
        for key, value in listed:
            if key.rpartition(".")[2] == name and value is not None:
                return value
    return None


def flatten_facts(facts: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, object]]:
    """List all values with their dotted keys.

    Args:
        facts: the content of a JSON file.
        prefix: what stands before each key.

    Yields:
        Keys and values that are no mappings, in the order of the file.
    """
    for key, value in facts.items():
        if isinstance(value, Mapping):
            yield from flatten_facts(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _read_json(uri: str) -> Mapping[str, object]:
    try:
        content = json.loads(storage.read_bytes(uri))
    except (FileNotFoundError, ValueError):
        return {}
    return content if isinstance(content, Mapping) else {}
