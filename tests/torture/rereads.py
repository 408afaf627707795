"""Which images are read though their slice was committed before something was killed?"""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from pipelines.annotate.config import AnnotateConfig
from pipelines.manifest import iter_slices, open_manifest
from pipelines.receipts import list_receipts
from tests.pipelines.annotate.file_reads import FileReads


class Rereads:
    """Looks on from one kill to the next, at a first run over a folder on local disk."""

    def __init__(self, config: AnnotateConfig) -> None:
        self._config = config
        self._stack = ExitStack()
        self._reads: FileReads | None = None
        self._committed: set[str] = set()
        self.names: set[str] = set()
        """Images that were read again, so far."""

    def __enter__(self) -> Self:
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
        self._committed = list_committed(self._config.output)
        self._reads = self._stack.enter_context(FileReads(self._config.images))

    def _collect(self) -> None:
        if self._reads is not None:
            self.names |= self._reads.names() & self._committed
        self._stack.close()
        self._reads = None


def list_committed(output: str) -> set[str]:
    """Name the images of the committed slices of a first run."""
    manifest = open_manifest(output)
    if manifest is None:
        return set()
    return {
        Path(entry.info.uri).name
        for _, entries in iter_slices(manifest, sorted(list_receipts(output)))
        for entry in entries
    }
