"""A bucket of images that change, and what the tables of a run over it must hold: plain dicts."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from PIL import Image

from pipelines.comparison import Changes


def draw_pixels(version):
    """A picture of its own for each version of an image."""
    return np.random.default_rng(version).integers(0, 256, (6, 8, 3)).astype(np.uint8)


class Bucket:
    """The images: names and versions; a version is a number, negative for bytes that are no image.

    Size and modification time, which tell versions apart, follow from the number.
    """

    def __init__(self, folder):
        self.folder = folder
        self.versions = {}
        self.unreachable = set()
        self._last = 0

    def put(self, name, *, is_image=True):
        self._last += 1
        version = self._last if is_image else -self._last
        path = Path(self.folder, name)
        path.parent.mkdir(exist_ok=True)
        if is_image:
            Image.fromarray(draw_pixels(version)).save(path)
        else:
            path.write_bytes(b"no image")
        os.utime(path, ns=(0, self._last * 10**9))
        self.versions[name] = version

    def remove(self, name):
        Path(self.folder, name).unlink()
        del self.versions[name]


class Model:
    """What the tables must hold."""

    def __init__(self, bucket):
        self.bucket = bucket
        self.listed = {}
        """Versions of the images as the manifest has them."""
        self.todo = set()
        """Images of the newest generation that no receipt has yet."""
        self.rows = {}
        """For each image with a row: its version if it is ok, else the reason."""
        self.slices = {}
        self.is_started = False
        self.hit = set()
        """Slices over which an old process put something; their images may be done again."""

    def outcome(self, name):
        """What reading an image gives now."""
        version = self.bucket.versions.get(name)
        if name in self.bucket.unreachable:
            return "unavailable"
        if version is None:
            return "not_found"
        if version != self.listed[name]:
            return "changed"
        return version if version > 0 else "not_an_image"

    def plan(self, *, update, retry_failed):
        """What a generation that is begun now has to do: versions, images, and the report of it."""
        now = self.bucket.versions
        failed = {name for name, found in self.rows.items() if isinstance(found, str)}
        compared = now.keys() & (self.listed.keys() if update else failed if retry_failed else ())
        added = now.keys() - self.listed.keys() if update else set()
        gone = self.listed.keys() - now.keys() if update else set()
        changed = {name for name in compared if now[name] != self.listed[name]}
        retried = failed - gone - changed if retry_failed else set()
        listed = {name: version for name, version in self.listed.items() if name not in gone}
        listed |= {name: now[name] for name in added | changed}
        changes = Changes(
            added=len(added), changed=len(changed), vanished=len(gone), retried=len(retried)
        )
        return listed, added | changed | retried, changes

    def begin_first(self):
        self.is_started = True
        self.listed = dict(self.bucket.versions)
        self.todo = set(self.listed)

    def begin_next(self, *, update, retry_failed):
        self.listed, self.todo, _ = self.plan(update=update, retry_failed=retry_failed)

    def commit(self, number, names, outcomes):
        """A receipt stands: its slice has the rows of these images, and of no other."""
        for name in [name for name, slice_of in self.slices.items() if slice_of == number]:
            if name not in names:
                del self.slices[name], self.rows[name]
        for name in names:
            assert self.slices.setdefault(name, number) == number
            if name in self.todo or (number in self.hit and name in outcomes):
                self.rows[name] = outcomes[name]
        self.todo -= names

    def may_read(self):
        """The images that are to be done, and those of slices that were hit."""
        return self.todo | {name for name, number in self.slices.items() if number in self.hit}
