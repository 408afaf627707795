"""Who kills something at random moments while a run goes on, and stops when the run has ended?"""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from pipelines.annotate.config import AnnotateConfig
from pipelines.annotate.run import AnnotateReport, annotate
from pipelines.manifest import list_generations, read_summary
from pipelines.receipts import list_receipts
from tests.torture.apart import tell
from tests.torture.rereads import Rereads

_POLL_S = 0.005
_PAUSE_S = 1.0
"""Longest time from a moment to its kill."""
_PATIENCE_S = 15.0
"""Until something that is not there is left for another run."""

Strike = Callable[[random.Random, Callable[[], None]], bool]
"""Kills one thing, if it is there at this moment, and calls right after; says whether it was."""


class Killer:
    """Strikes one kind of thing after the other, and counts what was struck."""

    def __init__(
        self,
        strikes: Mapping[str, Strike],
        plan: Sequence[tuple[float, str]],
        source: random.Random,
    ) -> None:
        """Say what to kill, and when.

        Args:
            strikes: By kind of what they kill.
            plan: Parts of the slices that are committed, 0 to 1, and what is killed then.
            source: Of what is left to chance.
        """
        self.struck = Counter[str]()
        self._strikes, self._plan, self._source = strikes, sorted(plan), source

    def disturb(self, config: AnnotateConfig) -> tuple[AnnotateReport, set[str]]:
        """Run a command, once, and kill as told meanwhile, from its manifest to its last receipt.

        The run has a thread, not the killing: Ray lets only the main thread start a node.

        Args:
            config: Of a first run over a folder on local disk.

        Returns:
            Its report, and the images that were read though their slice was committed.
        """
        ended = threading.Event()

        def drive() -> AnnotateReport:
            try:
                return annotate(config)
            finally:
                ended.set()

        with ThreadPoolExecutor(1) as driver, Rereads(config) as rereads:
            running = driver.submit(drive)
            try:
                self._strike_all(config, rereads, ended)
            except BaseException as error:
                # Without what should have been replaced the run may wait for ever.
                tell(f"the killer failed: {error!r}")
                raise
            report = running.result()
        return report, rereads.names

    def _strike_all(self, config: AnnotateConfig, rereads: Rereads, ended: threading.Event) -> None:
        while not list_generations(config.output):
            if ended.wait(_POLL_S):
                return
        slices = read_summary(config.output).slices
        for share, kind in self._plan:
            # What is killed behind the last commit would disturb nothing.
            moment = min(round(share * slices), slices - 2)
            if not self._wait_for(config, moment, ended):
                return
            deadline = time.monotonic() + _PATIENCE_S
            while time.monotonic() < deadline and count_receipts(config) < slices - 1:
                if self._strikes[kind](self._source, rereads.mark):
                    self.struck[kind] += 1
                    tell(f"{kind}, {count_receipts(config)} of {slices} slices were committed")
                    break
                ended.wait(_POLL_S)

    def _wait_for(self, config: AnnotateConfig, receipts: int, ended: threading.Event) -> bool:
        """Wait until so many slices are committed; says whether the run still goes on."""
        while count_receipts(config) < receipts and not ended.wait(_POLL_S):
            pass
        return not ended.wait(self._source.uniform(0, _PAUSE_S))


def count_receipts(config: AnnotateConfig) -> int:
    """Count the slices that are committed."""
    return len(list_receipts(config.output))
