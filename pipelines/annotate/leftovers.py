"""What stands in an output whose `run.json` or manifest is gone, and may a run go on with it?

Rows are of the images that a manifest lists, under the settings that `run.json` tells. Without
either nobody knows what they are of: they are refused rather than mixed with others.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from typing import Final

from pipelines import storage
from pipelines.copies import is_copy
from pipelines.errors import InputError, RunMismatchError
from pipelines.manifest import list_generations
from pipelines.receipts import list_receipts
from pipelines.tables import (
    IMAGES,
    RUN_FILE,
    TABLES,
    DamagedTableError,
    read_notes,
    slice_name,
    slice_number,
)

logger = logging.getLogger(__name__)

_TABLE_SUFFIX: Final = ".parquet"


def refuse_unlisted_rows(output: str) -> None:
    """Refuse an output without a manifest in which tables stand: a copy, or what is left of a run.

    A new listing may cut other slices, so that receipts there would answer for other images.

    Args:
        output: The run.

    Raises:
        InputError: If it is one.
    """
    if list_generations(output):
        return
    for table in reversed(TABLES):
        folder = storage.join_uri(output, table)
        names = storage.list_names(folder)
        tables = sorted(name for name in names if name.endswith(_TABLE_SUFFIX))
        # Another driver may write a manifest and rows meanwhile: always the manifest first.
        if tables and not list_generations(output):
            what = _explain(storage.join_uri(folder, tables[0]))
            raise InputError(f"{output}: {table}/{tables[0]} is {what}")


def _explain(uri: str) -> str:
    """What a table without a manifest is, and what to do."""
    if slice_number(uri.rpartition("/")[2]) is not None:
        return (
            "there, but the manifest that tells which images it is of is gone; put manifest/ back, "
            "or choose another --output"
        )
    if is_copy(uri):
        return (
            "of a copy that overfeat compact has made; go on with the run itself and copy it "
            "again, or choose another --output"
        )
    return "there, and readers would take it for a part of this run; choose another --output"


def refuse_rows_of_others(output: str, fingerprint: str) -> None:
    """Refuse a run that has lost its `run.json`, unless a receipt tells that it is of the same.

    Args:
        output: The run.
        fingerprint: Of the settings of this command.

    Raises:
        RunMismatchError: If its rows were made with another configuration, or none tells.
    """
    # In the order in which another driver would not write them: what is missing here is gone.
    numbers, generations = sorted(list_receipts(output)), list_generations(output)
    if storage.exists(storage.join_uri(output, RUN_FILE)):
        return
    for number in numbers:
        uri = storage.join_uri(output, IMAGES, slice_name(number))
        with suppress(DamagedTableError):
            found = read_notes(uri).get("fingerprint")
            if found != fingerprint:
                raise RunMismatchError(
                    f"{output}: its {RUN_FILE} is gone, and {uri} was made with other settings "
                    f"(fingerprint {found}, expected {fingerprint}); put the file back, or "
                    "choose another --output"
                )
            logger.warning(
                "%s: its %s is gone; %s is of the same settings, so it is written again",
                output,
                RUN_FILE,
                uri,
            )
            return
    if generations:
        raise RunMismatchError(
            f"{output}: its {RUN_FILE} is gone, and no row tells with which settings its manifest "
            "was made; put the file back, delete manifest/, or choose another --output"
        )
