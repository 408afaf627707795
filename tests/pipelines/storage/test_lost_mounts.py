"""Is a folder that cannot be seen any more told from one that is empty?"""

from __future__ import annotations

import errno
import os
from contextlib import contextmanager

import pytest

from pipelines import storage
from pipelines.errors import StorageError

NAMES = ["a.jpg", "sub/b.jpg", "sub/c.jpg", "t/d.jpg"]


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
    for name in NAMES:
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
    assert names(tree) == NAMES


def test_a_link_that_may_lead_to_a_folder_fails_the_listing(tree, lose):
    (tree / "link").symlink_to(tree / "sub")
    lose(errno.EIO, "link")
    with pytest.raises(StorageError, match=f"{tree}/link"):
        names(tree)


def test_a_link_to_itself_is_listed(tree):
    (tree / "z.jpg").symlink_to(tree / "z.jpg")
    assert names(tree) == [*NAMES, "z.jpg"]


@pytest.mark.parametrize("lost", ["", "sub"])
@pytest.mark.parametrize("is_replaced", [True, False])
def test_a_folder_in_whose_place_another_comes_is_listed_as_it_was(
    tree, tmp_path, lost, is_replaced
):
    """As the empty folder below a mount that is lost."""
    listing = storage.iter_objects(str(tree))
    found = [next(listing).uri, next(listing).uri]
    (tree / lost).rename(tmp_path / "elsewhere")
    if is_replaced:
        (tree / lost).mkdir()
    found += [info.uri for info in listing]
    assert found == [f"{tree}/{name}" for name in NAMES]


def test_a_link_to_where_nobody_may_look_is_listed_with_a_warning(tree, lose, caplog):
    (tree / "z.jpg").symlink_to("/root/z.jpg")
    lose(errno.EACCES, "z.jpg")
    assert names(tree)[-1] == "z.jpg"
    (record,) = caplog.records
    assert f"{tree}/z.jpg: leads to where this user may not look" in record.message


def test_no_folder_stays_open_whether_a_listing_ends_breaks_off_or_is_left(tree, lose, monkeypatch):
    is_open, opened, close = set(), os.open, os.close

    def open_and_note(path, flags, **options):
        descriptor = opened(path, flags, **options)
        if flags & os.O_DIRECTORY:
            is_open.add(descriptor)
        return descriptor

    def close_and_note(descriptor):
        is_open.discard(descriptor)
        close(descriptor)

    monkeypatch.setattr(os, "open", open_and_note)
    monkeypatch.setattr(os, "close", close_and_note)
    names(tree)
    assert not is_open
    listing = storage.iter_objects(str(tree))
    next(listing)
    assert is_open
    listing.close()
    assert not is_open
    lose(errno.EIO, "t")
    with pytest.raises(StorageError):
        names(tree)
    assert not is_open


def test_a_subfolder_that_is_deleted_meanwhile_is_gone(tree):
    listing = storage.iter_objects(str(tree))
    assert next(listing).uri == f"{tree}/a.jpg"
    (tree / "t" / "d.jpg").unlink()
    (tree / "t").rmdir()
    found = [storage.relative_to(info.uri, str(tree)) for info in listing]
    assert [name for name in found if name.endswith(".jpg")] == ["sub/b.jpg", "sub/c.jpg"]
