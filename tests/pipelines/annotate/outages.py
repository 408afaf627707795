"""Stores that take no more from a certain moment on, and what must stand in them then."""

from __future__ import annotations

import errno

from pipelines import storage
from tests.builders import list_all, read_file

SENTENCES = {
    errno.ENOSPC: "the disk or quota is full",
    errno.EDQUOT: "the disk or quota is full",
    errno.EROFS: "the file system is read-only",
    errno.EACCES: "denied",
}
"""What the command says of each error of a disk."""


class Countdown:
    """Does something before a call, from a certain one on."""

    def __init__(self, function, calls, act):
        self.function, self.left, self.act = function, calls, act

    def __call__(self, *args, **options):
        self.left -= 1
        if self.left < 0:
            self.act()
        return self.function(*args, **options)


def assert_whole(root):
    names = [name for name in list_all(root) if name.endswith(".parquet")]
    for name in names:
        read_file(storage.join_uri(root, name))
    return names
