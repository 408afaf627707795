"""Is the run finished? How many slices have no receipt, or that of an older update?

The first generation is known from its summary; of later ones only the column of the slices' numbers
is read, which is sorted and compresses to almost nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines import manifest, storage
from pipelines.errors import StorageError

_PART = re.compile(r".*/generation-(?P<generation>\d+)/part-\d+\.parquet")


@dataclass(frozen=True, kw_only=True, slots=True)
class PendingSlices:
    """What is still to be done, counted."""

    n_planned: int | None
    """Slices of the manifest; None without a complete manifest."""
    n_pending: int
    """Those that are not committed."""
    n_ahead: int
    """Slices with boxes and without a receipt: in flight, or left so by a killed run."""

    @property
    def is_finished(self) -> bool | None:
        """Whether all is committed; None where no manifest says what all is."""
        if self.n_pending or self.n_ahead:
            return False
        return None if self.n_planned is None else True


def count_pending(output: str, receipts: Mapping[int, int], n_ahead: int) -> PendingSlices:
    """Compare the manifest with the receipts.

    Args:
        output: URI of the run.
        receipts: by the number of each slice that has one, the generation that it is of.
        n_ahead: see `PendingSlices.n_ahead`.

    Returns:
        The slices, counted.

    Raises:
        StorageError: the manifest cannot be read.
    """
    summary = manifest.read_summary(output)
    if summary is None:
        return PendingSlices(n_planned=None, n_pending=0, n_ahead=n_ahead)
    planned = dict.fromkeys(range(summary.slices), 0)
    # A slice's manifest is the newest complete generation that lists it: later ones overwrite.
    for generation, parts in sorted(_list_updates(output).items()):
        planned.update(dict.fromkeys(_read_slices(parts), generation))
    pending = [number for number in planned if receipts.get(number, -1) < planned[number]]
    return PendingSlices(n_planned=len(planned), n_pending=len(pending), n_ahead=n_ahead)


def _list_updates(output: str) -> dict[int, list[str]]:
    """The parts of each complete generation after the first."""
    uris = [info.uri for info in storage.iter_objects(storage.join_uri(output, "manifest"))]
    complete = {uri.rpartition("/")[0] for uri in uris if uri.endswith(f"/{manifest.COMPLETE}")}
    updates: dict[int, list[str]] = {}
    for match in filter(None, map(_PART.fullmatch, uris)):
        generation = int(match["generation"])
        if generation and match[0].rpartition("/")[0] in complete:
            updates.setdefault(generation, []).append(match[0])
    return updates


def _read_slices(parts: Iterable[str]) -> set[int]:
    numbers: set[int] = set()
    for uri in parts:
        try:
            with storage.open_range_reader(uri) as file:
                table = pq.read_table(file, columns=["slice"])
        except (pa.ArrowException, OSError) as error:
            raise StorageError(f"{uri}: not a manifest of this program: {error}") from error
        numbers.update(table["slice"].unique().to_numpy().tolist())
    return numbers
