"""How are names and settings written for people?"""

from __future__ import annotations

import json

LISTED_AT_MOST = 12


def name_of(image: str) -> str:
    """Shorten an image's URI to what tells it from its neighbours.

    Args:
        image: the URI, of an object or of a member of a tar.

    Returns:
        What follows the last slash.
    """
    return image.rstrip("/").rpartition("/")[2] or image


def tell_value(value: object) -> str:
    """Write a value of a JSON file for people.

    Args:
        value: any.

    Returns:
        Text as it is, a flat list with commas, cut where it is long, anything else as JSON.
    """
    if isinstance(value, str):
        return value
    if isinstance(value, list) and all(isinstance(part, str | int | float) for part in value):
        more = [f"{len(value):,} in all"] if len(value) > LISTED_AT_MOST else []
        return ", ".join([*map(str, value[:LISTED_AT_MOST]), *more])
    return json.dumps(value, ensure_ascii=False, default=str)
