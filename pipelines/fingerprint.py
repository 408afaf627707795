"""Which settings decide a run's rows, as one short text: equal settings, equal fingerprint.

Canonical JSON refuses what it cannot write the same way in every process, rather than guessing.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Final

from pipelines.errors import RunMismatchError

RESULTS_VERSION: Final = 1
"""Raised by hand whenever the code gives other rows for the same settings."""

Value = str | int | float | bool | None | Sequence["Value"] | Mapping[str, "Value"]
"""What canonical JSON can hold."""


def encode_canonically(value: Value) -> bytes:
    """Write a value as the one JSON text that stands for it.

    Args:
        value: Texts, numbers, truth values, None, and lists and mappings of these.

    Returns:
        ASCII JSON: sorted keys, no spaces, no NaN.

    Raises:
        TypeError: If the value holds anything else, such as a set or a path.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def compute_fingerprint(settings: Mapping[str, Value]) -> str:
    """Digest the settings that decide a run's rows.

    Args:
        settings: Names and values.

    Returns:
        16 hexadecimal digits.
    """
    return hashlib.sha256(encode_canonically(settings)).hexdigest()[:16]


def refuse_other_settings(
    output: str, *, found: Mapping[str, Value], wanted: Mapping[str, Value]
) -> None:
    """Refuse to mix the rows of two configurations in one output.

    Args:
        output: Where the run stands, for the message.
        found: Settings of the run that is there.
        wanted: Settings of the command.

    Raises:
        RunMismatchError: If any differ, naming each with both values.
    """
    names = sorted(found.keys() | wanted.keys())
    # Compared as JSON: tuples have become lists on the way through run.json.
    different = [
        f"{name} (there: {_show(found.get(name))}, here: {_show(wanted.get(name))})"
        for name in names
        if encode_canonically(found.get(name)) != encode_canonically(wanted.get(name))
    ]
    if different:
        raise RunMismatchError(
            f"{output} holds a run with another configuration: {', '.join(different)}; "
            "use the same settings, or another --output"
        )


def _show(value: Value) -> str:
    return json.dumps(value)
