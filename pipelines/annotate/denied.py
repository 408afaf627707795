"""Are images denied because nobody may read them, or because these credentials may read no more?

A store answers both alike. A denied image keeps a row that says so, and that row would stand for
good: so images of which some could be read before, or else some of the rest of the run, are asked
for again. While one of them can be read, the denial is a matter of the images.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import Final

from pipelines import manifest, storage
from pipelines.errors import ImageError, ImageReason, StorageError
from pipelines.manifest import ManifestEntry, SlicePlace
from pipelines.storage import ObjectBytes, ObjectInfo

_WITNESSES: Final = 32
"""Images asked for at most, of as many slices as there are (assumed: where one image in ten can be
read, 97 of 100 such samples hold one, and the next command draws others)."""
_RECENT: Final = 4
"""Images asked for at most of those that could be read a moment ago: each says much."""
_SAYS_NOTHING: Final = frozenset({ImageReason.NOT_FOUND, ImageReason.UNAVAILABLE})
"""Answers that tell nothing of what the credentials may read."""


def check_credentials(
    output: str,
    place: SlicePlace,
    entries: Sequence[ManifestEntry],
    answers: Sequence[tuple[ObjectInfo, ImageError | None]],
) -> None:
    """Make sure that images of a slice were not denied because the credentials may read no more.

    Nothing is asked unless one was denied; over https no credentials are sent. One image that is
    alone in its run is taken at its word.

    Args:
        output: The run.
        place: Where the slice is listed.
        entries: All images of the slice.
        answers: Those that were asked for, with what went wrong in reading them, if anything.

    Raises:
        StorageError: If no image of the run can be read, as far as can be seen.
    """
    denied = [
        error
        for info, error in answers
        if error is not None and _is_denial(error) and storage.takes_credentials(info.uri)
    ]
    if not denied:
        return
    witnesses = [info for info, error in answers if error is None][-_RECENT:]
    witnesses = witnesses or list(_draw_others(output, place, entries))
    found = storage.read_objects(witnesses, max_bytes=0)
    clear = [answer for answer in found if not _says_nothing(answer)]
    if not all(map(_is_denial, clear)) or len(denied) + len(clear) == 1:
        return
    raise StorageError(
        f"{denied[0].message}; so were {len(denied):,} of {len(answers):,} images of slice "
        f"{place.number}, and {len(clear):,} others of the run that were asked for: the "
        "credentials may read none; mend them, on the workers too, then run the same command "
        "again. If nobody may read these images, leave them out, by a list of the others"
    )


def _draw_others(
    output: str, place: SlicePlace, entries: Sequence[ManifestEntry]
) -> Iterator[ObjectInfo]:
    """Images of the slice that were not asked for, and of other slices; others in each command."""
    source = random.Random()
    kept = [entry.info for entry in entries if not entry.todo]
    yield from source.sample(kept, min(len(kept), _WITNESSES))
    run = manifest.open_manifest(output)
    if run is None:
        return
    numbers = source.sample(range(run.summary.slices), min(run.summary.slices, _WITNESSES + 1))
    others = [number for number in numbers if number != place.number][:_WITNESSES]
    for _, listed in manifest.iter_slices(run, others):
        each = min(len(listed), -(-_WITNESSES // len(others)))
        yield from (entry.info for entry in source.sample(listed, each))


def _is_denial(answer: ObjectBytes | ImageError) -> bool:
    return isinstance(answer, ImageError) and answer.reason is ImageReason.ACCESS_DENIED


def _says_nothing(answer: ObjectBytes | ImageError) -> bool:
    return isinstance(answer, ImageError) and answer.reason in _SAYS_NOTHING
