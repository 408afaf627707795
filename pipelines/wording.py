"""How is a number written with its noun, for people?"""

from __future__ import annotations


def tell_count(number: int, one: str, many: str | None = None) -> str:
    """Write a number with its noun.

    Args:
        number: At least 0.
        one: The noun for 1.
        many: The noun for all other numbers; `one` with an s if None.

    Returns:
        Such as "1 box" or "1,200 boxes".
    """
    return f"{number:,} {one if number == 1 else many or f'{one}s'}"
