"""A store that fails between any two objects of a commit."""

from __future__ import annotations

import itertools

from pipelines import storage
from pipelines.errors import StorageError


class FailingWrites:
    """Lets a number of writes pass, then fails one, before or after its object stands."""

    def __init__(self, monkeypatch, *, failing, after):
        self.failing, self.after = failing, after
        self.calls = itertools.count()
        self.write_bytes = storage.write_bytes
        monkeypatch.setattr(storage, "write_bytes", self)

    def __call__(self, uri, data, **options):
        fails = next(self.calls) == self.failing
        if fails and not self.after:
            raise StorageError(f"{uri}: the store failed")
        self.write_bytes(uri, data, **options)
        if fails:
            raise StorageError(f"{uri}: the answer got lost")
