"""Progress that a person can read: a bar on a terminal, a line every few seconds in a job's log."""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Generator, Iterable
from types import TracebackType
from typing import Final, NoReturn, TypeVar

from tqdm import tqdm

logger = logging.getLogger(__name__)

LINE_SECONDS: Final = 10.0
"""Time between two lines of a log."""
_STEADY: Final = 4
"""Counts after which the time before the first one, in which workers start and load the model, is
left out of the rate (assumed)."""

_PLAIN_RATE: Final = 100.0
"""Rate from which tenths say nothing."""

_Item = TypeVar("_Item")


class Progress:
    """Counts, and says how far it is, at which rate, and when it will be done.

    It speaks every few seconds even while nothing is counted: a slice can take minutes.
    """

    def __init__(
        self,
        total: int | None,
        *,
        unit: str,
        done: int = 0,
        doing: str = "",
        at_once: bool = True,
    ) -> None:
        """Start counting.

        Args:
            total: What there is to do, done before included; None if nobody knows.
            unit: Such as `images`.
            done: What an earlier run has done; it does not count for the rate.
            doing: What is done, where that is not the work itself: such as `listing`.
            at_once: Whether to speak whatever it takes; or else of what takes long, and no word of
                what ends before the first line would come.
        """
        self.total = total
        self.unit = unit
        self.doing = doing
        self.before = done
        self.done = done
        self.started = time.monotonic()
        self._counts = 0
        self._first = (self.started, done)
        self._note = ""
        self._ended = threading.Event()
        self._speaks = at_once
        # None where it was closed before the start, as by `2>&-`.
        self._is_terminal = sys.stderr is not None and sys.stderr.isatty()
        self._bar = self._open_bar() if self._is_terminal and at_once else None
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
        elif error is None and self._speaks:
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
            # All of it: the bar may have been opened in the middle of a count.
            self._bar.update(self.done - self._bar.n)

    def settle(self) -> None:
        """Take what is done for all there was: the total was an estimate."""
        self.total = self.done
        if self._bar is not None:
            self._bar.total = self.done

    def _speak(self) -> None:
        """Say something every few seconds until the end."""
        while not self._ended.wait(LINE_SECONDS):
            self._speaks = True
            if self._is_terminal:
                # Not by its truth: a bar without a total has none.
                self._bar = self._open_bar() if self._bar is None else self._bar
                self._bar.refresh()
            else:
                logger.info("%s", self.line(self._note))

    def _open_bar(self) -> tqdm[NoReturn]:
        doing, unit = self.doing or None, f" {self.unit}"
        bar = tqdm(total=self.total, initial=self.before, unit=unit, desc=doing)
        # One that opens late counts from the start all the same.
        bar.start_t -= time.monotonic() - self.started
        bar.n = self.done
        return bar

    def line(self, note: str = "") -> str:
        """Describe the state in one line.

        Args:
            note: What else to say.

        Returns:
            Such as `1,200/5,000 images, 35.1 images/s, 0:01:48 left`.
        """
        parts = [self._say_count(), *self._say_rate(self._rate())]
        return ", ".join([*parts, note] if note else parts)

    def _say_count(self) -> str:
        doing = f"{self.doing}: " if self.doing else ""
        total = "" if self.total is None else f"/{self.total:,}"
        return f"{doing}{self.done:,}{total} {self.unit}"

    def _say_rate(self, rate: float) -> list[str]:
        if rate > 0:
            speed = f"{rate:,.{0 if rate >= _PLAIN_RATE else 1}f} {self.unit}/s"
            if self.total is None:
                return [speed]
            # More than was expected may have come.
            left = max(0, self.total - self.done)
            return [speed, f"{format_seconds(left / rate)} left"]
        if self.total is not None and self.done >= self.total:
            return []
        return ["none yet" if self.doing else "none done yet: starting"]

    def _rate(self) -> float:
        """Units a second; until the end of a long count without the time that the start took."""
        time_from, done_from = self.started, self.before
        if self._counts > _STEADY and self.done != self.total:
            time_from, done_from = self._first
        seconds = time.monotonic() - time_from
        return (self.done - done_from) / seconds if seconds > 0 else 0.0


def follow(items: Iterable[_Item], *, total: int | None, unit: str, doing: str) -> Generator[_Item]:
    """Count items while they pass, and speak of it if it takes long.

    Args:
        items: One each of the unit.
        total: About how many there are; None if nobody knows.
        unit: Such as `images`.
        doing: What is done, such as `listing`.

    Yields:
        The same.
    """
    with Progress(total, unit=unit, doing=doing, at_once=False) as progress:
        for item in items:
            yield item
            progress.advance(1)
        if total is not None:
            progress.settle()


def format_seconds(seconds: float) -> str:
    """Write a time span for people.

    Args:
        seconds: 0 or more.

    Returns:
        Hours, minutes and seconds: `1:02:03`.
    """
    whole = round(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}"
