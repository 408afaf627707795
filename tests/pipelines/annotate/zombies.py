"""Processes that were paused, and come back to put what they were about to put long ago."""

from __future__ import annotations

from pathlib import Path

from pipelines import tables
from pipelines.manifest import open_manifest
from pipelines.tables import slice_number


class Zombies:
    """What was ever put in a slice's name, to be put once more in a store that takes everything.

    Of a slice that no update has touched a second attempt has the same rows but for failures that
    passed, and nobody looks for those: only touched slices are hit. An equal receipt, that of the
    slice's own generation, is as good as the one that stands.
    """

    def __init__(self, output):
        self._output = output
        self._history = []
        self.puts = 0
        """Objects that were put once more."""

    def note(self, uri, data):
        """Remember a put."""
        if Path(uri).parent.name in tables.TABLES:
            generation = int(tables.decode_notes(uri, data)["generation"])
            self._history.append((uri, bytes(data), generation))

    def put(self, model, which, write):
        """Put an old object over what stands there now, if there is one that may be."""
        manifest = open_manifest(self._output)
        touched = {} if manifest is None else manifest.touched
        candidates = [put for put in self._history if self._may_hit(touched, *put)]
        if candidates:
            uri, data, _ = candidates[which % len(candidates)]
            write(uri, data)
            model.hit.add(slice_number(Path(uri).name))
            self.puts += 1

    def _may_hit(self, touched, uri, data, generation):
        path = Path(uri)
        place = touched.get(slice_number(path.name))
        if place is None or path.read_bytes() == data:
            return False
        return generation < place.generation or path.parent.name != tables.IMAGES
