"""Which objects does a glob name, when the store itself must never be asked to glob?

`*` and `?` stay within one segment, `**` crosses them, `[a-c]` and `[!a-c]` are sets, `[*]` is a
literal star.
"""

from __future__ import annotations

import re

from pipelines.errors import InputError
from pipelines.storage.uris import redact

_MAGIC = re.compile(r"[*?[]")
_STARS = re.compile(r"\*\*/|\*+")
_RANGE = re.compile(r"(.)-(.)|(.)", re.DOTALL)


def is_glob(uri: str) -> bool:
    """Say whether a text has a character that a glob would interpret."""
    return _MAGIC.search(uri) is not None


def split_glob(pattern: str) -> tuple[str, str]:
    """Cut a pattern where a listing may start.

    Args:
        pattern: a URI with at least one of `*`, `?`, `[`.

    Returns:
        The folder before the first magic character, with the slash at its end, and the literal
        start of the names below it.
    """
    magic = _MAGIC.search(pattern)
    literal = pattern[: magic.start()] if magic else pattern
    cut = literal.rfind("/") + 1
    return literal[:cut], literal[cut:]


def compile_glob(pattern: str) -> re.Pattern[str]:
    """Translate a glob into a regular expression for whole URIs.

    Args:
        pattern: a URI with magic characters.

    Returns:
        The expression, to be used with `fullmatch`.

    Raises:
        InputError: a range of a set goes down.
    """
    expression, position = [], 0
    while position < len(pattern):
        text, position = _translate_at(pattern, position)
        expression.append(text)
    return re.compile("".join(expression), re.DOTALL)


def _translate_at(pattern: str, position: int) -> tuple[str, int]:
    """Translate what begins at a position; the second value is where the rest begins."""
    stars = _STARS.match(pattern, position)
    if stars:
        meaning = {"*": "[^/]*", "**/": "(?:.*/)?"}.get(stars.group(), ".*")
        return meaning, stars.end()
    character = pattern[position]
    if character == "?":
        return "[^/]", position + 1
    # A bracket that directly follows the opening one (or the !) is a member: []] and [!]].
    end = pattern.find("]", position + (3 if pattern[position + 1 : position + 2] == "!" else 2))
    if character == "[" and end > 0:
        members = pattern[position + 1 : end]
        negation = "^/" if members.startswith("!") else ""
        return f"[{negation}{_translate_set(pattern, members.removeprefix('!'))}]", end + 1
    return re.escape(character), position + 1


def _translate_set(pattern: str, members: str) -> str:
    """Translate what stands in brackets; a hyphen at an end of it is a member itself.

    Raises:
        InputError: a range goes down.
    """
    parts = []
    for low, high, single in _RANGE.findall(members):
        if low > high:
            raise InputError(
                f"{redact(pattern)}: the range {redact(f'{low}-{high}')} in brackets goes down, "
                f"expected one that goes up; write {redact(f'{high}-{low}')}, or the hyphen last"
            )
        parts.append(re.escape(single) or f"{re.escape(low)}-{re.escape(high)}")
    return "".join(parts)
