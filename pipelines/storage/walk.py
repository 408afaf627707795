"""How is a tree on local disk listed in the order of its keys, with nothing left out in silence?

A folder stays open while it is listed, and all in it is seen through that: should another one come
to stand in its place, as the empty one below a mount that is lost, it is not taken for this one.
"""

from __future__ import annotations

import errno
import logging
import os
import stat
from collections.abc import Iterator, Sequence

from pipelines.storage.failures import explain, explained
from pipelines.storage.objects import ObjectInfo
from pipelines.storage.uris import escape_surrogates

logger = logging.getLogger(__name__)

_BROKEN_LINK = {errno.ELOOP, errno.ENOTDIR, errno.ENAMETOOLONG}


class _Folder:
    """A folder, open until it is closed."""

    def __init__(self, path: str, above: _Folder | None = None) -> None:
        name = path if above is None else path.rpartition("/")[2]
        below = None if above is None else above.descriptor
        self.path = path
        self.descriptor: int = os.open(name, os.O_RDONLY | os.O_DIRECTORY, dir_fd=below)
        self.entries: Iterator[os.DirEntry[str]] = iter(())
        self.identity = (0, 0)
        """Device and inode, once it is read: while it is open no other folder has these."""

    def read(self, name_start: str = "") -> None:
        """Read the names in it, sorted so that a walk is in the order of whole keys."""
        self.identity = _identify(os.fstat(self.descriptor))
        with os.scandir(self.descriptor) as entries:
            # Once each: a folder in which files are replaced may give one twice (POSIX).
            chosen = {
                e.name: e
                for e in entries
                if not name_start or escape_surrogates(e.name).startswith(name_start)
            }
        self.entries = iter(sorted(chosen.values(), key=lambda e: e.name + "/" * _is_folder(e)))

    def close(self) -> None:
        """Let it go."""
        os.close(self.descriptor)


def walk(root: str, name_start: str = "") -> Iterator[ObjectInfo]:
    """Stream the files below a folder; a link to a folder above itself is not followed.

    Args:
        root: a path, as Python names it.
        name_start: of the names directly in it, how those that are taken begin.

    Yields:
        Regular files, and what may be one though nobody can tell: then the read will say why, in
        the row of this image.

    Raises:
        StorageError: a folder cannot be looked into, or what cannot be looked at may be one.
    """
    open_folders: list[_Folder] = []
    try:
        with explained(root):
            open_folders.append(_Folder(root))
            open_folders[-1].read(name_start)
        while open_folders:
            folder = open_folders[-1]
            entry = next(folder.entries, None)
            if entry is None:
                open_folders.pop().close()
                continue
            path = f"{folder.path.rstrip('/')}/{entry.name}"
            status = _stat(entry, path)
            if status is None:
                yield ObjectInfo(uri=escape_surrogates(path))
            elif stat.S_ISREG(status.st_mode):
                yield describe_file(path, status)
            elif stat.S_ISDIR(status.st_mode) and _is_no_loop(status, open_folders):
                _enter(path, open_folders)
    finally:
        for folder in open_folders:
            folder.close()


def _enter(path: str, open_folders: list[_Folder]) -> None:
    with explained(path):
        try:
            below = _Folder(path, open_folders[-1])
        except FileNotFoundError:
            return  # deleted meanwhile, with all that was in it
        open_folders.append(below)
        below.read()


def _stat(entry: os.DirEntry[str], path: str) -> os.stat_result | None:
    """Look what an entry is; None if it is a file of which that cannot be told.

    Raises:
        StorageError: it may be a folder, and what is in it would be left out without a word.
    """
    try:
        return entry.stat()
    except FileNotFoundError:
        return None
    except OSError as error:
        # Told by the listing itself, on most file systems.
        with explained(path):
            is_file, is_link = entry.is_file(follow_symlinks=False), entry.is_symlink()
        if is_file or (is_link and error.errno in _BROKEN_LINK):
            return None
        if is_link and error.errno == errno.EACCES:
            logger.warning(
                "%s: leads to where this user may not look; if that is a folder, what is in it is "
                "left out",
                path,
            )
            return None
        failure = explain(error, path)
        raise failure from error


def _is_no_loop(status: os.stat_result, open_folders: Sequence[_Folder]) -> bool:
    """Whether a folder is none of those that it lies in; a link may lead back to one."""
    return _identify(status) not in {above.identity for above in open_folders}


def _identify(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False


def describe_file(path: str, status: os.stat_result) -> ObjectInfo:
    """Describe a file.

    Args:
        path: as Python names it.
        status: of the file.

    Returns:
        As a listing shows it.
    """
    return ObjectInfo(
        uri=escape_surrogates(path),
        size=status.st_size,
        etag=make_etag(status),
        mtime=status.st_mtime_ns / 1e9,
    )


def make_etag(status: os.stat_result) -> str:
    """Make the mark of a file's version, of its size and time of change.

    Args:
        status: of the file.

    Returns:
        The mark.
    """
    return f"{status.st_size}-{status.st_mtime_ns}"
