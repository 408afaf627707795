"""A thousand files that a bucket may hold and no decoder should be given. The same every time.

Known bombs and strangers, each with the verdicts that are right for it, and mutations of one good
file of every kind: cut at every stage, and damaged in ten ways.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from pipelines.errors import ImageReason
from tests.hostile import bombs, strangers
from tests.hostile.mutations import MUTATIONS, STAGES, repair_checksums, truncate
from tests.hostile.verdict import OK, REASONS
from tests.pipelines.images.image_files import every_kind_of_file

ANY = frozenset({OK, *map(str, REASONS)})
NO_IMAGE = frozenset({str(ImageReason.NOT_AN_IMAGE), str(ImageReason.TRUNCATED)})
TIMES_EACH = 3
"""How often each kind of file is damaged in each of the ways, in the full corpus."""


@dataclass(frozen=True, kw_only=True, slots=True)
class HostileFile:
    """One file, written when it is asked for."""

    name: str
    """What it is, in words."""
    write: Callable[[], bytes]
    """Gives its bytes."""
    verdicts: frozenset[str] = ANY
    """What the decoder may make of it."""
    is_heavy: bool = False
    """Whether decoding it takes a second or a gigabyte, within every limit."""


def iter_known() -> Iterator[HostileFile]:
    """Bombs and strangers."""
    for name, (write, verdicts) in bombs.BOMBS.items():
        yield HostileFile(
            name=name,
            write=write,
            verdicts=frozenset(verdicts),
            is_heavy=name in bombs.HEAVY,
        )
    for files, verdicts in (
        (strangers.list_no_images(), NO_IMAGE),
        (strangers.list_undecoded(), frozenset({str(ImageReason.UNSUPPORTED)})),
        (strangers.list_odd_pictures(), frozenset({OK})),
    ):
        for name, data in files.items():
            yield HostileFile(name=name, write=lambda data=data: data, verdicts=verdicts)


def iter_mutations(seed: int, times: int = TIMES_EACH) -> Iterator[HostileFile]:
    """Good files, cut and damaged. A file depends on the seed and its own name alone."""
    for kind, data in every_kind_of_file().items():
        for stage in STAGES:
            yield HostileFile(
                name=f"{kind} cut at {stage}",
                write=lambda data=data, stage=stage: truncate(data, stage),
            )
        for mutate, number in itertools.product(MUTATIONS, range(times)):
            name = f"{kind}, {mutate.__name__} {number} of seed {seed}"
            yield HostileFile(
                name=name,
                write=lambda data=data, mutate=mutate, name=name: _mutate(data, mutate, name),
            )


def _mutate(data: bytes, mutate: Callable[[bytes, random.Random], bytes], name: str) -> bytes:
    source = random.Random(name)
    mutated = mutate(data, source)
    return repair_checksums(mutated) if source.random() < 0.5 else mutated


def list_all(seed: int) -> list[HostileFile]:
    """The full corpus."""
    return [*iter_known(), *iter_mutations(seed)]


def list_small(seed: int, n_mutations: int = 60) -> list[HostileFile]:
    """What is known and light, and some of the rest: decoded in a few seconds."""
    light = [file for file in iter_known() if not file.is_heavy]
    return light + random.Random(seed).sample([*iter_mutations(seed)], n_mutations)
