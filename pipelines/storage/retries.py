"""Which requests that failed are made again, how often, how long after, and how long may one take?

The one place that decides it, for every store. What may pass by itself (`Fault.TRANSIENT`) is tried
again, all else is raised at once. botocore's own retries are off: they cover neither bodies nor 409
and 429, and all requests of a process share a quota of some hundred retries, after which each
failure is final (measured: of 200 reads of which 80 % were throttled, 75 came, in 337 requests).
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable
from typing import TypeVar

from pipelines.storage.failures import Fault, classify, describe
from pipelines.storage.uris import redact

logger = logging.getLogger(__name__)

TRIES = 8
"""Of one request. Where one in ten fails, one in 10^8 is given up; where four in five fail, as
under heavy throttling, one in six."""

_FIRST_PAUSE_S = 0.5
"""The longest pause before the second try; each later one is at most twice as long."""

_LONGEST_PAUSE_S = 20.0
"""What no pause exceeds. With `TRIES`, between 26 and 52 s are waited in all: a server that
restarts within 25 s costs no image. Assumed to be what a batch job wants."""

ATTEMPT_TIMEOUT_S = 60
"""Seconds for one attempt over HTTP, besides what its bytes take. aiohttp has no limit of its own
while it waits for `100 Continue` or sends a body: without this, a put that stalls there hangs for
ever (seen). And a server that sends a byte every 29 s is never silent for as long as a read waits.
Assumed."""

SLOWEST_BYTES_PER_S = 100_000
"""What an attempt may need for its bytes: one that is slower is given up. Assumed."""

_TELLING_FAILURES = 4
"""Failures of one request after which the log says so: one in 10,000 on a bad day."""

_Result = TypeVar("_Result")

# Not the generator that everybody shares: a fork would repeat its pauses, and who seeded it would
# find it moved on.
_jitter = random.SystemRandom()


class Retries:
    """The failures of one request so far."""

    def __init__(self, uri: str, tries: int = TRIES) -> None:
        """Begin to count.

        Args:
            uri: what is asked for, for the log.
            tries: how often in all, at least 1.
        """
        self._uri = uri
        self._tries = tries
        self._failures = 0

    def pause_after(self, error: Exception) -> float:
        """Count a failure and say how long to wait before the next try.

        Args:
            error: what the try raised.

        Returns:
            Seconds: half of the exponential pause, and a random part of the other half, so that
            those who failed together do not come back together.

        Raises:
            error: it will not pass by itself, or this was the last try.
        """
        self._failures += 1
        if classify(error) is not Fault.TRANSIENT or self._failures >= self._tries:
            raise error
        if self._failures == _TELLING_FAILURES:
            left = self._tries - self._failures
            place, reply = redact(self._uri), describe(error)
            logger.warning(
                "%s: failed %d times, %d tries are left: %s", place, self._failures, left, reply
            )
        pause = min(_FIRST_PAUSE_S * 2 ** (self._failures - 1), _LONGEST_PAUSE_S)
        return _jitter.uniform(pause / 2, pause)


def limit_attempt(byte_count: int) -> float:
    """Say how long one attempt may take.

    Args:
        byte_count: how many bytes it moves.

    Returns:
        Seconds since it began.
    """
    return ATTEMPT_TIMEOUT_S + byte_count / SLOWEST_BYTES_PER_S


def repeat(
    uri: str, attempt: Callable[[], _Result], errors: tuple[type[Exception], ...]
) -> _Result:
    """Make attempts until one succeeds, or fails in a way that another would not mend.

    Args:
        uri: what is asked for, for the log.
        attempt: makes one.
        errors: what it raises if it fails.

    Returns:
        What it returns.

    Raises:
        errors: what the last attempt raised.
    """
    retries = Retries(uri)
    while True:
        try:
            return attempt()
        except errors as error:
            pause = retries.pause_after(error)
        time.sleep(pause)
