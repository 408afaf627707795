"""What does the store itself say of some images, whatever a list or an older listing said?"""

from __future__ import annotations

import itertools
import logging
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import Final

from pipelines import storage
from pipelines.errors import PipelineError
from pipelines.storage import ObjectInfo
from pipelines.tars import TarIndex

logger = logging.getLogger(__name__)

_LOOK_UPS: Final = 16
"""Objects looked up at a time (assumed: hides an object store's latency)."""
_IN_FLIGHT: Final = 4 * _LOOK_UPS
"""Look-ups that are begun and not yet given on: few enough whatever the number of names, and enough
for one that is slow to hold up no other (assumed)."""


def look_up_objects(names: Iterable[str]) -> Iterator[ObjectInfo]:
    """Look up whole objects.

    Args:
        names: URIs.

    Yields:
        Those that are there and can be asked for, in order: of others the read will say why.
    """
    with ThreadPoolExecutor(_LOOK_UPS) as threads:
        # Not `map`, which begins all of them before it gives the first one on.
        begun: deque[Future[ObjectInfo | None]] = deque()
        for name in names:
            if len(begun) == _IN_FLIGHT and (found := begun.popleft().result()):
                yield found
            begun.append(threads.submit(_look_up, name))
        yield from filter(None, (look_up.result() for look_up in begun))


def look_up_members(names: Iterable[str], known_etags: Mapping[str, str]) -> Iterator[ObjectInfo]:
    """Look up members of tars; a tar that has changed is opened for their new places.

    Args:
        names: URIs of members.
        known_etags: By URI of a tar, the version that is known; such a tar is not opened.

    Yields:
        Those whose tar has changed and still has them; without a time of modification, which tells
        the next update that other members of this version may be unknown.
    """
    of_tars = itertools.groupby(sorted(names), key=_tar_of)
    wanted = {tar: set(members) for tar, members in of_tars}
    for now in look_up_objects(wanted):
        if not now.etag or now.etag != known_etags.get(now.uri):
            yield from _find_members(now, wanted[now.uri])


def _find_members(tar: ObjectInfo, wanted: set[str]) -> list[ObjectInfo]:
    try:
        index = TarIndex(tar, suffixes=("",))
        return [replace(info, mtime=0.0) for info in index if info.uri in wanted]
    except PipelineError as error:
        logger.warning("%s; its failed images fail again", error)
        return []


def _tar_of(member: str) -> str:
    return ObjectInfo(uri=member, offset=0).object_uri


def _look_up(uri: str) -> ObjectInfo | None:
    try:
        info = storage.find_object(uri)
    except PipelineError:
        return None
    # As it was asked for, whatever the store calls it.
    return None if info is None else replace(info, uri=uri)
