"""Which settings decide a run's rows, as one short text: equal settings, equal fingerprint.

Canonical JSON refuses what it cannot write the same way in every process, rather than guessing.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
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
    output: str,
    *,
    found: Mapping[str, Value],
    wanted: Mapping[str, Value],
    are_flags: bool = False,
) -> None:
    """Refuse to mix the rows of two configurations in one output.

    Args:
        output: Where the run stands, for the message.
        found: Settings of the run that is there.
        wanted: Settings of the command.
        are_flags: Whether every setting is a flag of its innermost name, which is then what it is
            called: `epochs` rather than `recipe.epochs`, unless there is another of that name.

    Raises:
        RunMismatchError: If any differ, naming each with both values.
    """
    # Compared as JSON: tuples have become lists on the way through run.json.
    changed = sorted(
        name
        for name in found.keys() | wanted.keys()
        if encode_canonically(found.get(name)) != encode_canonically(wanted.get(name))
    )
    if not changed:
        return
    there, here = dict(_flatten(found)), dict(_flatten(wanted))
    names = {path: ".".join(path) for path in there.keys() | here.keys()}
    if are_flags:
        count = Counter(path[-1] for path in names)
        names |= {path: path[-1] for path in names if count[path[-1]] == 1}
    different = [
        f"{names[path]} (there: {there.get(path, 'missing')}, here: {here.get(path, 'missing')})"
        for path in sorted(names)
        if path[0] in changed and there.get(path) != here.get(path)
    ]
    raise RunMismatchError(
        f"{output} holds a run with another configuration: {', '.join(different)}; "
        "use the same settings, or another --output"
    )


def _flatten(
    settings: Mapping[str, Value], before: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], str]]:
    """Every value that is no mapping of others, as JSON, with the names that lead to it."""
    for name, value in settings.items():
        path = (*before, name)
        if isinstance(value, Mapping) and value:
            yield from _flatten(value, path)
        else:
            yield path, json.dumps(value, sort_keys=True)
