"""Is a folder that cannot be seen any more told from one that is empty?"""

from __future__ import annotations

import errno
import os
from contextlib import contextmanager

import pytest

from pipelines import storage
from pipelines.errors import StorageError


class Entry:
    """An entry of a folder whose disk answers no question about it."""

    def __init__(self, entry, number):
        self._entry = entry
        self._number = number
        self.name, self.path = entry.name, entry.path
        self.is_symlink = entry.is_symlink

    def stat(self):
        raise OSError(self._number, os.strerror(self._number), self.path)

    def is_dir(self):
        return bool(self.stat())

    def is_file(self, *, follow_symlinks):
        assert not follow_symlinks, "the disk would be asked"
        return self._entry.is_file(follow_symlinks=False)


@pytest.fixture
def lose(monkeypatch):
    """Let entries of some names fail."""
    scandir = os.scandir

    def lose(number, *names):
        @contextmanager
        def scan(folder):
            with scandir(folder) as entries:
                yield [Entry(e, number) if e.name in names else e for e in entries]

        monkeypatch.setattr(os, "scandir", scan)

    return lose


@pytest.fixture
def tree(tmp_path):
    for name in ("a.jpg", "sub/b.jpg", "t/c.jpg"):
        storage.write_bytes(f"{tmp_path}/in/{name}", b"x")
    return tmp_path / "in"


def names(tree):
    return [storage.relative_to(info.uri, str(tree)) for info in storage.iter_objects(str(tree))]


@pytest.mark.parametrize(
    "number", [errno.EIO, errno.ESTALE, errno.ENOTCONN, errno.ETIMEDOUT, errno.EACCES]
)
def test_a_subfolder_that_cannot_be_looked_at_fails_the_listing(tree, lose, number):
    """Its images would count as gone, and an update would drop their rows."""
    lose(number, "sub")
    with pytest.raises(StorageError, match=f"{tree}/sub"):
        names(tree)


@pytest.mark.parametrize("number", [errno.EIO, errno.EACCES])
def test_a_file_that_cannot_be_looked_at_is_listed(tree, lose, number):
    """Its row will say why."""
    lose(number, "a.jpg")
    assert names(tree) == ["a.jpg", "sub/b.jpg", "t/c.jpg"]


def test_a_link_that_may_lead_to_a_folder_fails_the_listing(tree, lose):
    (tree / "link").symlink_to(tree / "sub")
    lose(errno.EIO, "link")
    with pytest.raises(StorageError, match=f"{tree}/link"):
        names(tree)


def test_a_link_to_itself_is_listed(tree):
    (tree / "z.jpg").symlink_to(tree / "z.jpg")
    assert names(tree) == ["a.jpg", "sub/b.jpg", "t/c.jpg", "z.jpg"]


@pytest.mark.parametrize("lost", ["", "sub"])
def test_a_folder_that_gives_way_to_another_fails_the_listing(tree, tmp_path, lost):
    """As the empty folder below a mount that is lost."""
    listing = storage.iter_objects(str(tree))
    assert next(listing).uri == f"{tree}/a.jpg"
    assert next(listing).uri == f"{tree}/sub/b.jpg"
    (tree / lost).rename(tmp_path / "elsewhere")
    (tree / lost).mkdir()
    with pytest.raises(StorageError, match=f"{tree / lost}: is not the folder that it was"):
        list(listing)


def test_a_root_that_vanishes_fails_the_listing(tree, tmp_path):
    listing = storage.iter_objects(str(tree))
    next(listing)
    tree.rename(tmp_path / "elsewhere")
    with pytest.raises(StorageError, match="is not the folder that it was"):
        list(listing)


def test_a_subfolder_that_is_deleted_meanwhile_is_gone(tree):
    listing = storage.iter_objects(str(tree))
    assert next(listing).uri == f"{tree}/a.jpg"
    (tree / "t" / "c.jpg").unlink()
    (tree / "t").rmdir()
    found = [storage.relative_to(info.uri, str(tree)) for info in listing]
    assert [name for name in found if name.endswith(".jpg")] == ["sub/b.jpg"]
