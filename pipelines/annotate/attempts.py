"""How often has a slice been started, and what follows if it took its worker down?

Ray starts a task or an actor again, for ever, when its process dies: an image that kills the
process it is decoded in would loop. So every start is counted, and what was started before is done
more carefully. `attempts/slice-000000.json` keeps the number for the next driver.
"""

from __future__ import annotations

import json
import logging
from collections import Counter
from typing import Final, NamedTuple

from pipelines import storage
from pipelines.errors import PipelineError
from pipelines.lease import check_holder
from pipelines.readers import read_slices
from pipelines.tables import slice_name, slice_number

logger = logging.getLogger(__name__)

DECODE_APART_FROM: Final = 2
"""Attempt from which the images of a slice are decoded in a child process."""
REHEARSE_FROM: Final = 3
"""Attempt from which each image is also detected in a child process first."""
MOST_STARTS: Final = 12
"""Of one stage of a slice under one driver (assumed: more nodes are not lost one after another). By
then it is no image, for each was tried alone."""

_FOLDER: Final = "attempts"
_SUFFIX: Final = ".json"


class Start(NamedTuple):
    """A stage of a slice that begins."""

    attempt: int
    """Which attempt at the slice this is, from 1; earlier drivers' count."""
    here: int
    """Which start of this stage under this driver, from 1."""
    most: int
    """Most attempts of any of the slice's stages."""


class Attempts:
    """The number of starts of every slice."""

    def __init__(self, output: str) -> None:
        """Read what earlier drivers have left.

        Args:
            output: The run.
        """
        self._before = read_attempts(output)
        self._here: Counter[tuple[int, int, str]] = Counter()
        self._most: dict[tuple[int, int], int] = {}

    def start(self, number: int, generation: int, stage: str) -> Start:
        """Count a start.

        Args:
            number: The slice.
            generation: Of the manifest: another one begins at 1.
            stage: What is about to be done with the slice.

        Returns:
            Which start it is. A driver's first one goes on with the last attempt of the driver
            before it, for it is the driver that ended then, not the worker.
        """
        self._here[number, generation, stage] += 1
        here = self._here[number, generation, stage]
        attempt = self._before.get((number, generation), 1) + here - 1
        most = max(attempt, self._most.get((number, generation), 1))
        self._most[number, generation] = most
        return Start(attempt=attempt, here=here, most=most)


def read_attempts(output: str) -> dict[tuple[int, int], int]:
    """Read which slices were started more than once.

    Args:
        output: The run.

    Returns:
        Attempts by the slice's number and generation.
    """
    names = storage.list_names(storage.join_uri(output, _FOLDER))
    numbers = [number for name in names if (number := slice_number(name, _SUFFIX)) is not None]
    notes = read_slices(numbers, lambda number: _read_one(_uri(output, number)), doing=None)
    return {
        (number, note[0]): note[1]
        for number, note in zip(numbers, notes, strict=True)
        if note is not None
    }


def _read_one(uri: str) -> tuple[int, int] | None:
    """Generation and attempts; None if the note cannot be read, or is gone since it was listed."""
    try:
        document = json.loads(storage.read_bytes(uri))
        return int(document["generation"]), int(document["attempts"])
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError):
        logger.warning("%s: not a number of attempts; left out", uri)
        return None


def _uri(output: str, number: int) -> str:
    return storage.join_uri(output, _FOLDER, slice_name(number, _SUFFIX))


def note_start(
    output: str, number: int, generation: int, start: Start, lease: str | None = None
) -> None:
    """Write down that a slice is started again, before it is.

    Args:
        output: The run.
        number: The slice.
        generation: Of the manifest.
        start: Which start it is; of a driver's first one nothing is written.
        lease: Id of the driver; None without one.

    Raises:
        LeaseLostError: If another driver has taken the run over.
        PipelineError: If it has been started so often that nothing will help.
    """
    if start.here == 1:
        return
    logger.warning("slice %d: attempt %d, for its worker died before", number, start.attempt)
    if start.here > MOST_STARTS:
        raise PipelineError(
            f"slice {number}: took its worker down {MOST_STARTS} times, whatever care was taken; "
            "look for nodes that go or have no memory, and lower --slice-size in another --output "
            "if they have enough for one image"
        )
    if lease is not None:
        check_holder(output, lease)
    data = json.dumps({"generation": generation, "attempts": start.most}).encode()
    storage.write_bytes(_uri(output, number), data, scratch=storage.join_uri(output, ".tmp"))
