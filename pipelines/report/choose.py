"""Which images are shown, when only a few of millions can be?

A choice with variety that is the same each time. Images are grouped by the label of their first
box; the groups take turns, the largest first and that without a box last; inside a group the order
is that of a hash of the image's name. Memory: `max_images` names a group.
"""

from __future__ import annotations

import zlib
from bisect import insort
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import NamedTuple

WITHOUT_LABEL = ""
"""The group of the images that have no box, or no class in a run without boxes."""


class Candidate(NamedTuple):
    """An image that may be shown; the order of candidates is the order inside a group."""

    turn: int
    """A hash of the name, so that neighbours in the bucket are not neighbours on the page."""
    image: str
    """The image's URI."""
    slice_number: int
    """The slice that holds the image's rows."""


@dataclass(kw_only=True, slots=True)
class Shortlist:
    """The candidates so far: what `pick_images` chooses from."""

    max_images: int
    """No group keeps more candidates than this."""
    sizes: Counter[str] = field(default_factory=Counter)
    """How many images each group has had, kept or not."""
    groups: dict[str, list[Candidate]] = field(default_factory=dict)
    """The first candidates of each group, in their order."""

    def add(self, images: Iterable[tuple[str, str]], *, slice_number: int) -> None:
        """Take in the images of one slice.

        Args:
            images: pairs of an image's URI and its group.
            slice_number: the slice that holds their rows.
        """
        for image, group in images:
            candidate = Candidate(zlib.crc32(image.encode()), image, slice_number)
            kept = self.groups.setdefault(group, [])
            self.sizes[group] += 1
            # Most images of a large run are turned away here, without a search.
            if len(kept) < self.max_images or (kept and candidate < kept[-1]):
                insort(kept, candidate)
                del kept[self.max_images :]


def pick_images(shortlist: Shortlist) -> list[Candidate]:
    """Choose the images to show.

    Args:
        shortlist: all images of the tables have been added to it.

    Returns:
        At most `max_images` candidates, in the order of the page: first one of each group in
        turn, then a second one of each, and so on.
    """
    by_size = sorted(
        shortlist.groups,
        key=lambda group: (group == WITHOUT_LABEL, -shortlist.sizes[group], group),
    )
    rounds = zip_longest(*(shortlist.groups[group] for group in by_size))
    turns = (candidate for turn in rounds for candidate in turn if candidate is not None)
    return [candidate for candidate, _ in zip(turns, range(shortlist.max_images), strict=False)]
