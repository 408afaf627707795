"""How do a slice's objects come to stand, its receipt last, though other processes put them too?

A process that was taken for dead may come back, so that its puts and ours meet. Each put is over
what was seen before the lease was looked at: a store that honours this refuses the late one.
Elsewhere the receipt, which names its tables by their rows, tells the next command.
"""

from __future__ import annotations

import itertools
import json
import logging
from collections import Counter
from collections.abc import Sequence
from typing import Final

import pyarrow as pa

from overfeat.predict_config import Task
from pipelines import receipts, storage, tables
from pipelines.annotate.kept import KeptRows
from pipelines.annotate.rows import image_rows, task_rows
from pipelines.lease import check_holder
from pipelines.receipts import TABLES_NOTE, RowCounts
from pipelines.storage import OvertakenError, Seen

logger = logging.getLogger(__name__)

_TRIES: Final = 3
"""Of a commit that another process comes in between of (assumed: there is one of these)."""


def commit_slice(
    table: pa.Table,
    *,
    output: str,
    fingerprint: str,
    lease: str | None,
    tasks: Sequence[Task],
) -> RowCounts:
    """Put a slice's rows of every task's table, then its receipt; nothing if another process has.

    Args:
        table: From `detect_slice`, a whole slice.
        output: The run.
        fingerprint: Of the settings that decide the rows.
        lease: Id of the driver; None without one.
        tasks: What was asked of each image.

    Returns:
        The rows of the slice, those that were kept too.

    Raises:
        LeaseLostError: If another driver has taken the run over.
        OvertakenError: If another process puts the same objects again and again.
        StorageError: If the store refused, or rows that are kept are not there.
    """
    tries = itertools.count(1)
    while True:
        commit = _Commit(table, output, fingerprint, lease)
        standing = commit.find_standing()
        if standing is not None:
            return standing
        try:
            return commit.put(tasks)
        except OvertakenError as error:
            if next(tries) == _TRIES:
                raise
            logger.warning("%s", error)


class _Commit:
    """One try to put the objects of a slice."""

    def __init__(self, table: pa.Table, output: str, fingerprint: str, lease: str | None) -> None:
        self._table = table
        self._output = output
        self._lease = lease
        self._number: int = table["slice"][0].as_py()
        generation: int = table["generation"][0].as_py()
        self._provenance = tables.Provenance(fingerprint=fingerprint, generation=generation)
        self._receipt_seen = self._look(tables.IMAGES)

    def find_standing(self) -> RowCounts | None:
        """The rows of a slice that is committed: by another attempt, or a later generation."""
        if self._receipt_seen.etag is None:
            return None
        standing = receipts.find_standing(self._output, self._number, self._provenance.generation)
        if standing is not None:
            logger.warning("slice %d: is committed by another attempt; left as it is", self._number)
        return standing

    def put(self, tasks: Sequence[Task]) -> RowCounts:
        kept = KeptRows(self._output, self._table)
        done = self._table.filter(self._table["todo"])
        written: Counter[str] = Counter()
        digests: dict[str, str] = {}
        for name, fresh in task_rows(done, tasks):
            seen = self._look(name)
            rows = kept.add_to(name, fresh)
            data = tables.encode_table(rows, rows.schema, self._provenance, **kept.notes)
            self._put(name, data, seen)
            written[name] = len(rows)
            digests[name] = tables.decode_notes(name, data)[tables.ROWS_NOTE]
        fresh = image_rows(done, self._provenance.fingerprint)
        images = kept.add_to(tables.IMAGES, fresh)
        counts = _count(images, written)
        notes = {"counts": counts.encode(), TABLES_NOTE: json.dumps(digests), **kept.notes}
        data = tables.encode_table(images, tables.IMAGES_SCHEMA, self._provenance, **notes)
        self._put(tables.IMAGES, data, self._receipt_seen)
        return counts

    def _look(self, table: str) -> Seen:
        return storage.look(self._uri(table))

    def _put(self, table: str, data: bytes, seen: Seen) -> None:
        if self._lease is not None:
            check_holder(self._output, self._lease)
        scratch = storage.join_uri(self._output, ".tmp")
        storage.write_bytes(self._uri(table), data, scratch=scratch, seen=seen)

    def _uri(self, table: str) -> str:
        return storage.join_uri(self._output, table, tables.slice_name(self._number))


def _count(images: pa.Table, written: Counter[str]) -> RowCounts:
    reasons = [reason for reason in images["error_type"].to_pylist() if reason is not None]
    return RowCounts(
        images=len(images),
        boxes=written[tables.BOXES],
        guesses=written[tables.GUESSES],
        features=written[tables.FEATURES],
        errors=Counter(reasons),
    )
