"""How does a text become HTML that can be trusted?

By type: `element` escapes every child and attribute that is not already `Html`, so a file name that
holds a tag stays a file name. Nothing else in the package writes an angle bracket.
"""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

VOID_ELEMENTS = frozenset({"img", "input", "link", "meta"})

Attribute = str | int | float | bool | None


class Html(str):
    """Text that is markup already."""

    __slots__ = ()


def element(name: str, /, *children: str | Html | None, **attributes: Attribute) -> Html:
    """Write one element.

    Args:
        name: of the element, from our own code, never from data.
        children: text, which is escaped, and markup, which is not; None adds nothing.
        attributes: by name, `_` standing for `-` and a trailing `_` dropped (`class_`). Values are
            escaped; True writes the bare name; False and None write nothing.

    Returns:
        The markup. Void elements have no end tag.
    """
    written = "".join(_write_attribute(key, value) for key, value in attributes.items())
    if name in VOID_ELEMENTS:
        return Html(f"<{name}{written}>")
    return Html(f"<{name}{written}>{join(children)}</{name}>")


def join(children: Iterable[str | Html | None]) -> Html:
    """Put pieces one after the other.

    Args:
        children: as in `element`.

    Returns:
        The markup of all of them.
    """
    return Html("".join(_write_child(child) for child in children if child is not None))


def _write_child(child: str | Html) -> str:
    return child if isinstance(child, Html) else escape(child, quote=False)


def _write_attribute(key: str, value: Attribute) -> str:
    if value is None or value is False:
        return ""
    name = key.rstrip("_").replace("_", "-")
    return f" {name}" if value is True else f' {name}="{escape(str(value))}"'
