"""How do a slice's objects come to stand, its receipt last, though other processes put them too?

A process that was taken for dead may come back, so that its puts and ours meet. Each put is over
what was seen before the lease was looked at: a store that honours this refuses the late one. What
is put all the same is told by the receipt, which names its tables by their rows; of the first
generation nobody opens that, so a slice is noted as contested before different rows are replaced.
"""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import pyarrow as pa

from overfeat.predict_config import Task
from pipelines import receipts, storage, tables
from pipelines.annotate.kept import KeptRows, load_kept
from pipelines.annotate.rows import image_rows, task_rows
from pipelines.lease import check_holder
from pipelines.manifest import note_contested
from pipelines.receipts import LISTED_NOTE, SLICE_NOTE, TABLES_NOTE, RowCounts
from pipelines.storage import OvertakenError, Seen
from pipelines.tables import DamagedTableError, Provenance

logger = logging.getLogger(__name__)

_TRIES: Final = 3
"""Of a commit that another process comes in between of (assumed: there is one of these)."""
_PLACE: Final = ("slice", "generation", "listed")
"""Columns that tell which slice it is, and where it is listed."""


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
        RowsChangedError: If rows that are kept are not those that they were.
        StorageError: If the store refused, or rows that are kept are not there.
    """
    number, generation, listed = (table[name][0].as_py() for name in _PLACE)
    provenance = Provenance(fingerprint=fingerprint, generation=generation)
    objects = _SliceObjects(output=output, number=number, provenance=provenance, lease=lease)
    for _ in range(_TRIES):
        # Looked at before anything else: what is decided from here on holds for this receipt.
        seen = objects.look(tables.IMAGES)
        standing = (
            receipts.find_standing(output, number, generation, listed)
            if seen.etag is not None
            else None
        )
        if standing is not None:
            logger.warning("slice %d: is committed by another attempt; left as it is", number)
            return standing
        kept = load_kept(output, table)
        try:
            return _put_all(objects, table, kept, tasks, receipt_seen=seen)
        except OvertakenError as error:
            logger.warning("slice %d: %s; looking again", number, error)
    raise OvertakenError(
        f"{output}: slice {number}: another process put its objects {_TRIES} times while they were "
        "about to be put here; end what else works on this run, then run the same command again"
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class _SliceObjects:
    """The objects of one slice, as one driver's process puts them."""

    output: str
    number: int
    provenance: Provenance
    lease: str | None

    def uri(self, table: str) -> str:
        return storage.join_uri(self.output, table, tables.slice_name(self.number))

    def look(self, table: str) -> Seen:
        return storage.look(self.uri(table))

    def put(self, table: str, data: bytes, seen: Seen) -> None:
        """Put a table, over what was seen alone, as long as the driver holds the run."""
        self._check_holder()
        scratch = storage.join_uri(self.output, ".tmp")
        storage.write_bytes(self.uri(table), data, scratch=scratch, seen=seen)

    def note_contest(self, table: str, digest: str, seen: Seen) -> None:
        """Note it, if rows are about to be replaced whose receipt may still come."""
        if self.provenance.generation or seen.etag is None:
            return
        try:
            there = tables.read_notes(self.uri(table)).get(tables.ROWS_NOTE)
        except DamagedTableError:
            there = None
        if there != digest:
            self._check_holder()
            note_contested(self.output, self.number)

    def _check_holder(self) -> None:
        if self.lease is not None:
            check_holder(self.output, self.lease)


def _put_all(
    objects: _SliceObjects,
    table: pa.Table,
    kept: KeptRows | None,
    tasks: Sequence[Task],
    *,
    receipt_seen: Seen,
) -> RowCounts:
    """Put what a slice has, table after table.

    Raises:
        OvertakenError: If a put was refused.
    """
    done = table.filter(table["todo"])
    notes = {} if kept is None else kept.notes
    written: Counter[str] = Counter()
    digests: dict[str, str] = {}
    for name, fresh in task_rows(done, tasks):
        seen = objects.look(name)
        rows = fresh if kept is None else kept.add_to(name, fresh)
        data = tables.encode_table(rows, rows.schema, objects.provenance, **notes)
        written[name] = len(rows)
        digests[name] = tables.decode_notes(name, data)[tables.ROWS_NOTE]
        objects.note_contest(name, digests[name], seen)
        objects.put(name, data, seen)
    fresh = image_rows(done, objects.provenance.fingerprint)
    images = fresh if kept is None else kept.add_to(tables.IMAGES, fresh)
    counts = _count(images, written)
    data = tables.encode_table(
        images,
        tables.IMAGES_SCHEMA,
        objects.provenance,
        **notes,
        **{
            "counts": counts.encode(),
            TABLES_NOTE: json.dumps(digests),
            LISTED_NOTE: table["listed"][0].as_py(),
            SLICE_NOTE: str(objects.number),
        },
    )
    objects.put(tables.IMAGES, data, receipt_seen)
    return counts


def _count(images: pa.Table, written: Counter[str]) -> RowCounts:
    reasons = [reason for reason in images["error_type"].to_pylist() if reason is not None]
    return RowCounts(
        images=len(images),
        boxes=written[tables.BOXES],
        guesses=written[tables.GUESSES],
        features=written[tables.FEATURES],
        errors=Counter(reasons),
    )
