"""Parts that end in every way there is, for the test of the program; light to import."""

from __future__ import annotations

import os
import time

from tests.torture.apart import tell
from tests.torture.record import Record


def succeed(seed: int) -> Record:
    tell("in the middle")
    return Record(faults={"word": seed}, rows=10)


def lose(seed: int) -> Record:
    return Record(rows=seed, lost=1)


def fail(seed: int) -> Record:
    os.write(2, b"a library spoke\n")
    raise AssertionError(f"wrong with {seed}")


def die(seed: int) -> Record:
    os._exit(seed)


def hang(seed: int) -> Record:
    time.sleep(100 * seed)
    return Record()
