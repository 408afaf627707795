"""What has a training been like, step by step?

    OUTPUT/metrics/step-0000000500.jsonl                  one JSON object a line
    OUTPUT/tensorboard/events.out.tfevents.0000000500     the same for TensorBoard, with pictures

A part holds the steps since the state before, and is written just before the state whose step is
in its name. Stores cannot append; and so a step that is done again after a kill has one line.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

from pipelines import storage
from pipelines.training.events import Album, Picture, Scalars, encode_events

METRICS: Final = "metrics"
TENSORBOARD: Final = "tensorboard"
_PARTS: Final = {
    METRICS: re.compile(r"step-(\d{10})\.jsonl"),
    TENSORBOARD: re.compile(r"events\.out\.tfevents\.(\d{10})"),
}


class Journal:
    """What is to be written down with the next state."""

    def __init__(self, output: str) -> None:
        """Begin with nothing.

        Args:
            output: The training.
        """
        self._output = output
        self._lines: list[dict[str, Any]] = []
        self._scalars: list[Scalars] = []
        self._albums: list[Album] = []

    def note(self, kind: str, step: int, facts: Mapping[str, float]) -> None:
        """Keep numbers for the next part.

        Args:
            kind: What they are of: `training` or `validation`.
            step: Global batches that were done.
            facts: By name, finite.
        """
        now = time.time()
        line = {"kind": kind, "step": step, "time": round(now, 3), **facts}
        values = {f"{kind}/{name}": value for name, value in facts.items()}
        self._lines.append(line)
        self._scalars.append(Scalars(step=step, time=now, values=values))

    def show(self, step: int, pictures: Sequence[Picture]) -> None:
        """Keep pictures for the next part.

        Args:
            step: Global batches that were done.
            pictures: What was found on held-out images.
        """
        if pictures:
            self._albums.append(Album(step=step, time=time.time(), pictures=pictures))

    def write(self, steps: int) -> None:
        """Write the part that ends here, if there is anything in it.

        Args:
            steps: Global batches that are done.

        Raises:
            StorageError: If the store refuses.
        """
        if not self._lines:
            return
        text = "".join(json.dumps(line, allow_nan=False) + "\n" for line in self._lines)
        self._put(METRICS, f"step-{steps:010d}.jsonl", text.encode())
        events = encode_events(self._scalars, self._albums)
        self._put(TENSORBOARD, f"events.out.tfevents.{steps:010d}", events)
        self._lines, self._scalars, self._albums = [], [], []

    def _put(self, folder: str, name: str, data: bytes) -> None:
        uri = storage.join_uri(self._output, folder, name)
        storage.write_bytes(uri, data, scratch=storage.join_uri(self._output, ".tmp"))


def forget_after(output: str, steps: int) -> None:
    """Delete what was written of steps that will be done again.

    Args:
        output: The training.
        steps: Global batches that stay done.
    """
    for folder, pattern in _PARTS.items():
        found = storage.list_names(storage.join_uri(output, folder))
        matches = [match for name in found if (match := pattern.fullmatch(name))]
        doomed = [match[0] for match in matches if int(match[1]) > steps]
        storage.delete([storage.join_uri(output, folder, name) for name in sorted(doomed)])


def read_journal(output: str) -> list[dict[str, Any]]:
    """Read all that was written down.

    Args:
        output: The training.

    Returns:
        One mapping a line, in the order of the steps.
    """
    folder = storage.join_uri(output, METRICS)
    names = [name for name in storage.list_names(folder) if _PARTS[METRICS].fullmatch(name)]
    texts = [storage.read_bytes(storage.join_uri(folder, name)) for name in sorted(names)]
    return [json.loads(line) for text in texts for line in text.splitlines()]
