"""Is the range of bytes that a member of a tar was listed with inside the tar?"""

from __future__ import annotations

from pipelines.errors import ImageError, ImageReason
from pipelines.storage.objects import ObjectInfo


def check_range(info: ObjectInfo, end: int) -> None:
    """Make sure that all of a member is there, in the version of the tar that was listed.

    Args:
        info: the member.
        end: how many bytes its tar has, or has up to the end of the range.

    Raises:
        ImageError: the tar ends in the middle of it.
    """
    there = end - (info.offset or 0)
    if there < info.size:
        raise ImageError(
            ImageReason.TRUNCATED,
            f"{info.uri}: the tar ends after {max(0, there)} of its {info.size} bytes",
        )
