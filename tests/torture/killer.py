"""Who kills something at random moments while a run goes on, and stops when the run has ended?"""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from pipelines.annotate.config import AnnotateConfig
from pipelines.annotate.run import AnnotateReport, annotate
from pipelines.manifest import list_generations, open_manifest
from pipelines.tables import IMAGES
from tests.torture.apart import tell
from tests.torture.rereads import Rereads
from tests.torture.scenarios import Scenario

_POLL_S = 0.005
_PAUSE_S = 1.0
"""Longest time from a moment to its kill."""
_PATIENCE_S = 15.0
"""Until something that is not there is left for another run."""

Strike = Callable[[random.Random, Callable[[], None]], bool]
"""Kills one thing, if it has work at this moment, and calls right after; says whether it had."""


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
            plan: Parts of the slices to do that are committed, 0 to 1, and what is killed then.
            source: Of what is left to chance.
        """
        self.struck = Counter[str]()
        self._strikes, self._plan, self._source = strikes, sorted(plan), source

    def disturb(self, scenario: Scenario, output: str) -> tuple[AnnotateReport, set[str]]:
        """Run a command, once, and kill as told meanwhile, from its manifest to its last receipt.

        The run has a thread, not the killing: Ray lets only the main thread start a node.

        Args:
            scenario: What to run, over a folder on local disk.
            output: Where.

        Returns:
            Its report, and the images that were read though their slice was committed, or though
            the command had no business with them.
        """
        config = scenario.begin(output)
        ended = threading.Event()

        def drive() -> AnnotateReport:
            try:
                return annotate(config)
            finally:
                ended.set()

        commits = Commits(config)
        with ThreadPoolExecutor(1) as driver, Rereads(config, scenario.kept) as rereads:
            running = driver.submit(drive)
            try:
                self._strike_all(commits, rereads, ended)
            except BaseException as error:
                # Without what should have been replaced the run may wait for ever.
                tell(f"the killer failed: {error!r}")
                raise
            report = running.result()
        return report, rereads.names

    def _strike_all(self, commits: Commits, rereads: Rereads, ended: threading.Event) -> None:
        while not commits.is_planned():
            if ended.wait(_POLL_S):
                return
        slices = commits.count_slices()
        for share, kind in self._plan:
            # What is killed behind the last commit would disturb nothing.
            moment = min(round(share * slices), slices - 2)
            if not self._wait_for(commits, moment, ended):
                return
            deadline = time.monotonic() + _PATIENCE_S
            while time.monotonic() < deadline and commits.count() < slices - 1:
                if self._strikes[kind](self._source, rereads.mark):
                    self.struck[kind] += 1
                    tell(f"{kind}, {commits.count()} of {slices} slices were committed")
                    break
                ended.wait(_POLL_S)

    def _wait_for(self, commits: Commits, count: int, ended: threading.Event) -> bool:
        """Wait until so many slices are committed; says whether the run still goes on."""
        while commits.count() < count and not ended.wait(_POLL_S):
            pass
        return not ended.wait(self._source.uniform(0, _PAUSE_S))


class Commits:
    """How far a command is that begins now, by the receipts on disk that it has put."""

    def __init__(self, config: AnnotateConfig) -> None:
        self._output = config.output
        self._generations = list_generations(config.output)
        self._receipts = self._list()

    def is_planned(self) -> bool:
        """Whether the generation that the command does is complete."""
        return list_generations(self._output) != self._generations

    def count_slices(self) -> int:
        """Count the slices that it has to do."""
        manifest = open_manifest(self._output)
        assert manifest is not None
        newest = manifest.summary.generation
        return sum(place.generation == newest for place in manifest.places)

    def count(self) -> int:
        """Count those that it has committed."""
        return len(self._list() - self._receipts)

    def _list(self) -> set[tuple[str, int, int]]:
        # A receipt that is written anew is another file.
        receipts = [(path, path.stat()) for path in Path(self._output, IMAGES).glob("*.parquet")]
        return {(path.name, stat.st_ino, stat.st_mtime_ns) for path, stat in receipts}
