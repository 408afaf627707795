"""Progress that a person can read: a bar on a terminal, a line every few seconds in a job's log."""

from __future__ import annotations

import logging
import sys
import threading
import time
from types import TracebackType
from typing import Final

from tqdm import tqdm

logger = logging.getLogger(__name__)

LINE_SECONDS: Final = 10.0
"""Time between two lines of a log."""
_STEADY: Final = 4
"""Counts after which the time before the first one, in which workers start and load the model, is
left out of the rate (assumed)."""


class Progress:
    """Counts up to a total and says how far it is, at which rate, and when it will be done.

    It speaks every few seconds even while nothing is counted: a slice can take minutes.
    """

    def __init__(self, total: int, *, unit: str, done: int = 0) -> None:
        """Start counting.

        Args:
            total: What there is to do, done before included.
            unit: Such as `images`.
            done: What an earlier run has done; it does not count for the rate.
        """
        self.total = total
        self.unit = unit
        self.before = done
        self.done = done
        self.started = time.monotonic()
        self._counts = 0
        self._first = (self.started, done)
        self._note = ""
        self._ended = threading.Event()
        is_terminal = sys.stderr.isatty()
        self._bar = tqdm(total=total, initial=done, unit=f" {unit}") if is_terminal else None
        self._speaker = threading.Thread(target=self._speak, daemon=True)

    def __enter__(self) -> Progress:
        self._speaker.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ended.set()
        self._speaker.join()
        if self._bar is not None:
            self._bar.close()
        elif error is None:
            logger.info("%s", self.line(self._note))

    def advance(self, count: int, note: str = "") -> None:
        """Count some more.

        Args:
            count: How many.
            note: What else to say, such as the failed ones so far.
        """
        self.done += count
        self._counts += 1
        if self._counts == 1:
            self._first = (time.monotonic(), self.done)
        self._note = note
        if self._bar is not None:
            self._bar.set_postfix_str(note, refresh=False)
            self._bar.update(count)

    def settle(self) -> None:
        """Take what is done for all there was: the total was an estimate."""
        self.total = self.done
        if self._bar is not None:
            self._bar.total = self.done

    def _speak(self) -> None:
        """Say something every few seconds until the end."""
        while not self._ended.wait(LINE_SECONDS):
            if self._bar is not None:
                self._bar.refresh()
            else:
                logger.info("%s", self.line(self._note))

    def line(self, note: str = "") -> str:
        """Describe the state in one line.

        Args:
            note: What else to say.

        Returns:
            Such as `1,200/5,000 images, 35.1 images/s, 0:01:48 left`.
        """
        parts = [f"{self.done:,}/{self.total:,} {self.unit}"]
        rate = self._rate()
        if rate > 0:
            left = format_seconds((self.total - self.done) / rate)
            parts += [f"{rate:.1f} {self.unit}/s", f"{left} left"]
        elif self.done < self.total:
            parts.append("none done yet: starting")
        return ", ".join([*parts, note] if note else parts)

    def _rate(self) -> float:
        """Units a second; until the end of a long count without the time that the start took."""
        time_from, done_from = self.started, self.before
        if self._counts > _STEADY and self.done < self.total:
            time_from, done_from = self._first
        seconds = time.monotonic() - time_from
        return (self.done - done_from) / seconds if seconds > 0 else 0.0


def format_seconds(seconds: float) -> str:
    """Write a time span for people.

    Args:
        seconds: 0 or more.

    Returns:
        Hours, minutes and seconds: `1:02:03`.
    """
    whole = round(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}"
