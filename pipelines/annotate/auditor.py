"""What do the receipts of committed slices say? They are opened beside the work, not before it."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType

from pipelines.manifest import Manifest
from pipelines.receipts import Audit, audit_receipts


class Auditor:
    """A thread that audits receipts; left early, it opens no more of them."""

    def __init__(self) -> None:
        """Begin nothing yet."""
        self._thread = ThreadPoolExecutor(1)
        self._left = threading.Event()

    def __enter__(self) -> Auditor:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # Who interrupts a resume of ten thousand slices does not wait for as many receipts.
        self._left.set()
        self._thread.shutdown()

    def begin(self, manifest: Manifest, slices: Iterable[int]) -> Future[Audit]:
        """Audit the receipts of some slices.

        Args:
            manifest: Of the run.
            slices: Which.

        Returns:
            What comes of it.
        """
        return self._thread.submit(audit_receipts, manifest, list(slices), self._left.is_set)
