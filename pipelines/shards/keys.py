"""What is the key of a sample, made of its file's name?

ASCII letters, digits, `_`, `-`, and `/` between parts, for webdataset cuts a name at its first dot.
Most names stay as they are; the others are escaped so that different names have different keys.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Final

from pipelines.errors import InputError
from pipelines.images import IMAGE_SUFFIXES

_PLAIN_NAME: Final = re.compile(r"[A-Za-z0-9_]+([/-][A-Za-z0-9_]+)*")
_PLAIN: Final = frozenset(string.ascii_letters + string.digits + "_")


def make_keys(names: Sequence[str]) -> list[str]:
    """Make the keys of a set's files.

    The suffix of an image is left out, but where `a.jpg` and `a.png` would then be one.

    Args:
        names: Relative, with slashes; all different, none empty.

    Returns:
        Different keys, in the order of the names, whatever that order is.

    Raises:
        InputError: Two names are equal.
    """
    name, times = Counter(names).most_common(1)[0] if names else ("", 1)
    if times > 1:
        raise InputError(f"{name}: stands {times} times in this split; take it out of the list")
    keys = [escape_name(_leave_out_suffix(name)) for name in names]
    # Whole names differ when escaped, so that each round settles at least one key for good.
    while clashing := {key for key, times in Counter(keys).items() if times > 1}:
        keys = [
            escape_name(name) if key in clashing else key
            for name, key in zip(names, keys, strict=True)
        ]
    return keys


def escape_name(name: str) -> str:
    """Write a name with the characters of a key: an injective function.

    Args:
        name: Any text but the empty one.

    Returns:
        The name; a byte of UTF-8 that a key cannot hold is `--` and two hexadecimal digits, and so
        is a hyphen before another, and a slash that is not between two parts.
    """
    if _PLAIN_NAME.fullmatch(name):
        return name
    key = ""
    # From the end: whether a hyphen begins an escape depends on what follows it in the key.
    for at in reversed(range(len(name))):
        letter = name[at]
        between = 0 < at < len(name) - 1 and "/" not in (name[at - 1], name[at + 1])
        is_plain = (
            letter in _PLAIN
            or (letter == "-" and not key.startswith("-"))
            or (letter == "/" and between)
        )
        # Names of files need not be UTF-8: their bytes come as lone surrogates.
        data = letter.encode("utf-8", "surrogatepass")
        key = (letter if is_plain else "".join(f"--{byte:02x}" for byte in data)) + key
    return key


def _leave_out_suffix(name: str) -> str:
    path = PurePosixPath(name)
    is_image = path.suffix.lower() in IMAGE_SUFFIXES
    return name[: -len(path.suffix)] if is_image else name
