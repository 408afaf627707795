"""What do the receipts of committed slices say? They are opened beside the work, not before it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

from pipelines.audit import Audit, audit_receipts
from pipelines.manifest import Manifest


@dataclass(frozen=True, kw_only=True, slots=True)
class Auditor:
    """A thread that audits receipts."""

    thread: ThreadPoolExecutor
    """Of one worker."""
    has_left: Callable[[], bool]
    """Whether nobody waits for it any more."""

    def begin(self, manifest: Manifest, slices: Iterable[int], *, is_beside: bool) -> Future[Audit]:
        """Audit the receipts of some slices.

        Args:
            manifest: Of the run.
            slices: Which.
            is_beside: Whether other work is done meanwhile, which says how far it is.

        Returns:
            What comes of it.
        """
        numbers = list(slices)
        return self.thread.submit(
            audit_receipts, manifest, numbers, self.has_left, is_quiet=is_beside
        )


@contextmanager
def open_auditor() -> Iterator[Auditor]:
    """Begin to audit; who leaves early waits for the receipts that are being opened, and no others.

    Yields:
        The auditor.
    """
    left = threading.Event()
    with ThreadPoolExecutor(1) as thread:
        try:
            yield Auditor(thread=thread, has_left=left.is_set)
        finally:
            left.set()
