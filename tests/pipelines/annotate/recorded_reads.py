"""Which members of tars does this process read, and which tars does it open for their index?"""

from __future__ import annotations

from pipelines import storage


class RecordedReads:
    """Every read of images, and every tar that is opened for its index."""

    def __init__(self, monkeypatch):
        self.images, self.opened = [], []
        read_objects, open_tar = storage.read_objects, storage.open_range_reader

        def record(objects, **options):
            self.images += [info.uri for info in objects if info.offset is not None]
            return read_objects(objects, **options)

        def record_opening(uri, **options):
            self.opened += [uri] * uri.endswith(".tar")
            return open_tar(uri, **options)

        monkeypatch.setattr(storage, "read_objects", record)
        monkeypatch.setattr(storage, "open_range_reader", record_opening)
