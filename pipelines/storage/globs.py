"""Which objects does a glob name, when the store itself must never be asked to glob?

`*` and `?` stay within one segment, `**` crosses them, `[a-c]` and `[!a-c]` are sets, `[*]` is a
literal star.
"""

from __future__ import annotations

import re

_MAGIC = re.compile(r"[*?[]")
_STARS = re.compile(r"\*\*/|\*+")


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
        escaped = re.sub(r"([\\\[\]^&~|])", r"\\\1", members.removeprefix("!"))
        return f"[{negation}{escaped}]", end + 1
    return re.escape(character), position + 1
