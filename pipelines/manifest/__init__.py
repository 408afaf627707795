"""Which images does a run have, in which slices, and which of them are still to be done?

A manifest is a row of generations. The first is the listing, cut into slices; each later one holds
the slices that an update or a retry touches. A slice's images are those of the newest complete
generation that lists it.
"""

from pipelines.manifest.entries import ManifestEntry, cut_slices
from pipelines.manifest.generations import (
    COMPLETE,
    SLICES_PER_PART,
    GenerationCounts,
    ManifestSummary,
    generation_folder,
    list_generations,
    note_contested,
    read_summary,
    write_generation,
)
from pipelines.manifest.places import (
    Manifest,
    SlicePlace,
    iter_slices,
    iter_tables,
    open_manifest,
    read_slice,
)

__all__ = [
    "COMPLETE",
    "SLICES_PER_PART",
    "GenerationCounts",
    "Manifest",
    "ManifestEntry",
    "ManifestSummary",
    "SlicePlace",
    "cut_slices",
    "generation_folder",
    "iter_slices",
    "iter_tables",
    "list_generations",
    "note_contested",
    "open_manifest",
    "read_slice",
    "read_summary",
    "write_generation",
]
