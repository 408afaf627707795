"""Which images are read that nobody may read any more: of committed slices, or not asked for?"""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from types import TracebackType
from typing import Self

from pipelines.annotate.config import AnnotateConfig
from pipelines.manifest import list_generations
from tests.pipelines.annotate.file_reads import FileReads
from tests.pipelines.annotate.killed import list_done


class Rereads:
    """Looks on from one kill to the next, at a command over a folder on local disk."""

    def __init__(self, config: AnnotateConfig, kept: AbstractSet[str] = frozenset()) -> None:
        """Say what to look at.

        Args:
            config: Of the command.
            kept: Names of images that it may not read from its start.
        """
        self._config, self._forbidden = config, kept
        self._before = max(list_generations(config.output), default=-1)
        self._reads: FileReads | None = None
        self.names: set[str] = set()
        """Images that were read again, so far."""

    def __enter__(self) -> Self:
        self._look()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._collect()

    def mark(self) -> None:
        """Something is killed now: what is committed must not be read from here on."""
        self._collect()
        self._forbidden |= list_done(self._config.output, after=self._before)
        self._look()

    def _look(self) -> None:
        self._reads = FileReads(self._config.images)
        self._reads.__enter__()

    def _collect(self) -> None:
        if self._reads is not None:
            self.names |= self._reads.names() & self._forbidden
            self._reads.__exit__(None, None, None)
        self._reads = None
