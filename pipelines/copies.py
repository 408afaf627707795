"""What does a folder hold that a finished run was copied to?"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from pipelines import storage
from pipelines.tables import RUN_FILE, count_rows, read_notes

_COPY_NAME: Final = re.compile(r"part-\d{5,}\.parquet")


@dataclass(frozen=True, kw_only=True, slots=True)
class CopyContents:
    """What a copy holds."""

    rows: dict[str, int]
    """Rows of each table."""
    files: dict[str, int]
    """Files of each table."""


def is_copy(name: str) -> bool:
    """Say whether a table's file is one of a copy.

    Args:
        name: Without its folder.

    Returns:
        Whether it is called so.
    """
    return _COPY_NAME.fullmatch(name) is not None


def read_copy(to: str, run: bytes, tables: Sequence[str], generation: int) -> CopyContents | None:
    """Look whether a copy stands already: whoever puts it puts `run.json` last.

    Args:
        to: The folder.
        run: `run.json` of the run.
        tables: That the run has.
        generation: Of the run.

    Returns:
        What it holds; None if it is none of this run as it stands now.

    Raises:
        DamagedTableError: If one of its files is damaged.
    """
    try:
        if storage.read_bytes(storage.join_uri(to, RUN_FILE)) != run:
            return None
    except FileNotFoundError:
        return None
    rows, files = {}, {}
    for table in tables:
        folder = storage.join_uri(to, table)
        uris = [storage.join_uri(folder, name) for name in storage.list_names(folder)]
        notes = [read_notes(uri) for uri in uris]
        if not uris or any(of.get("generation") != str(generation) for of in notes):
            return None
        rows[table], files[table] = sum(map(count_rows, uris)), len(uris)
    return CopyContents(rows=rows, files=files)
