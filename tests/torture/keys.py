"""Do images whose names are made of anything keep their rows, beside what they are taken for?

Names are drawn from pieces that globs, escapes, fragments and tidied paths stumble over. Each goes
through a run, an update and a copy, and its row is compared with its own picture.
"""

from __future__ import annotations

import random
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.builders import make_checkpoint
from tests.pipelines.annotate.fake_model import FakeModel
from tests.pipelines.annotate.plain_engine import install_plain_engine
from tests.pipelines.annotate.round_trip import check_round_trip
from tests.torture.apart import tell
from tests.torture.record import Record
from tests.torture.stores import LOCAL, MOTO, RCLONE, STORES, open_store

_PLAIN = ("a", "b", "1", "IMG", "ü", "日本")
_ODD = (
    " ", "#", "%", "%20", "%23", "[1]", "[ab]", "*", "?", "..", "'", '"', "&", "+", "::", "\\",
    "{}", "{a,b}", "~", "!", "$HOME", "@", "=", ";", ",", "<b>", "|", "^", "`",
)  # fmt: skip
_ONLY_ON: dict[str, tuple[str, ...]] = {
    LOCAL: ("\n", "\t", "\r"),
    MOTO: ("//", "/../", "/./", "/", "u\u0308"),
    RCLONE: (),
}
"""Pieces that not every store knows, or tells apart."""
_TAKEN_FOR = {
    "*": "xx", "?": "x", "[1]": "1", "[ab]": "a", "%20": " ", "%23": "#", "%": "%25", "#": "",
    " ": "+", "+": " ", "\\": "", "{a,b}": "a", "$HOME": "", "//": "/", "/../": "/", "/./": "/",
    "\n": " ", "\t": " ", "\r": " ", "u\u0308": "ü", "..": ".", "~": "", "::": ":",
}  # fmt: skip
"""What a piece becomes if somebody thinks it means something."""
_LONGEST = 4


def torture_keys(seed: int, *, names: int) -> Record:
    """Send so many names through each store."""
    faults, source = {}, random.Random(seed)
    with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        install_plain_engine(patch, FakeModel())
        weights = make_checkpoint(Path(folder, "weights"))
        for kind in STORES:
            drawn = draw_names(names, (*_ODD, *_ONLY_ON[kind]), source)
            with open_store(kind, Path(folder, kind)) as root:
                check_round_trip(root, drawn, weights)
            faults[f"odd name on {kind}"] = len(drawn)
            tell(f"{len(drawn)} names kept their rows on {kind}")
    return Record(
        faults=faults,
        # Each has a row in the run, in its update and in the copy, but for one that goes.
        rows=sum(3 * count - 2 for count in faults.values()),
        notes=("each beside the name that it would be taken for",),
    )


def draw_names(count: int, odd: tuple[str, ...], source: random.Random) -> list[str]:
    """Make at least so many names, each with an odd piece, and their siblings; no two alike."""
    names: dict[str, None] = {}
    while len(names) < count:
        pieces = source.choices((*_PLAIN, *odd), k=source.randint(1, _LONGEST))
        pieces[source.randrange(len(pieces))] = source.choice(odd)
        sibling = [_TAKEN_FOR.get(piece, "x") for piece in pieces]
        names |= dict.fromkeys(f"{''.join(name)}.jpg" for name in (pieces, sibling))
    return [name for name in names if is_apart(name, names)]


def is_apart(name: str, names: dict[str, None]) -> bool:
    """Whether a disk can hold it beside the others: no name may be a folder of another one."""
    return not any(other.startswith(f"{name}/") for other in names)
