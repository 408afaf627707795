"""Does a search guided by coverage find bytes that break the decoder?

Mutations of files that reached new lines of Pillow or of ours are mutated on, in a child process.
`tests.fuzz` searches on with atheris, deeper and for as long as you like; this one needs no more
than Python.
"""

from __future__ import annotations

import random
import sys
from collections import Counter
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FrameType
from typing import Any

import PIL

import pipelines.images
from pipelines.images import ImageLimits
from pipelines.isolation import ChildDiedError, ChildTimeoutError, Isolated
from tests.fuzz.fuzz_decode import MAX_PIXELS, fill_corpus
from tests.hostile.mutations import MUTATIONS, repair_checksums
from tests.hostile.verdict import judge_twice
from tests.torture.apart import tell
from tests.torture.record import Record

LIMITS = ImageLimits(max_pixels=MAX_PIXELS, max_bytes=2**20, max_frames=50)
_FOLDERS = tuple(str(Path(package.__path__[0])) for package in (PIL, pipelines.images))
_MOST_MUTATIONS = 3
_REPAIRED = 0.7
"""Part of the PNGs whose checksums are made right, without which no damage gets past them."""
_MEMORY_BYTES = 2 * 2**30
_SECONDS = 60.0
_seen: set[tuple[str, int]] = set()
"""Lines that this process has reached."""


def torture_decoder(seed: int, *, inputs: int) -> Record:
    """Decode so many inputs; one that raises, crashes, hangs or gives unsure pixels fails."""
    source, verdicts = random.Random(seed), Counter[str]()
    with (
        TemporaryDirectory() as name,
        Isolated(judge_and_cover, memory_bytes=_MEMORY_BYTES, seconds=_SECONDS) as child,
    ):
        fill_corpus(Path(name, "corpus"))
        corpus = [path.read_bytes() for path in sorted(Path(name, "corpus").iterdir())]
        seeds, lines = len(corpus), 0
        for number in range(inputs):
            data = corpus[number] if number < seeds else mutate(source.choice(corpus), source)
            try:
                verdict, new = child(data, LIMITS)
            except (ChildDiedError, ChildTimeoutError) as error:
                raise AssertionError(_show(data, number, error)) from error
            verdicts[verdict] += 1
            lines += new
            if new and number >= seeds:
                corpus.append(data)
            if number % 5000 == seeds:
                tell(f"{number:,} inputs, {len(corpus):,} of them kept, {lines:,} lines reached")
    return Record(
        faults={"input": inputs},
        notes=(
            f"{seeds} files to start from, {len(corpus) - seeds} mutations that reached new lines "
            f"and were mutated on, {lines:,} lines reached",
            ", ".join(f"{count:,} {verdict}" for verdict, count in verdicts.most_common()),
        ),
    )


def mutate(data: bytes, source: random.Random) -> bytes:
    """Break a file a few times over."""
    for _ in range(source.randint(1, _MOST_MUTATIONS)):
        if data:
            data = source.choice(MUTATIONS)(data, source)
    return repair_checksums(data) if source.random() < _REPAIRED else data


def judge_and_cover(data: bytes, limits: ImageLimits) -> tuple[str, int]:
    """Judge a file; says what came of it, and how many lines no file has reached before."""
    before = len(_seen)
    sys.settrace(_trace_call)
    try:
        verdict = judge_twice(data, limits)
    finally:
        sys.settrace(None)
    return verdict, len(_seen) - before


def _trace_call(frame: FrameType, event: str, argument: Any) -> Any:
    del event, argument
    return _trace_line if frame.f_code.co_filename.startswith(_FOLDERS) else None


def _trace_line(frame: FrameType, event: str, argument: Any) -> Any:
    del event, argument
    _seen.add((frame.f_code.co_filename, frame.f_lineno))
    return _trace_line


def _show(data: bytes, number: int, error: Exception) -> str:
    return f"input {number}, {len(data):,} bytes of SHA-256 {sha256(data).hexdigest()}: {error}"
