"""How are objects kept on local disk, so that no partial one ever stands under a final name?

Temporary file, fsync, rename, fsync of the folder. A stray temporary file among the tables would
break their readers, so temporary files lie in the scratch folder that the caller names, on the same
disk.
"""

from __future__ import annotations

import errno
import logging
import os
import re
import secrets
import stat
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from pipelines.errors import ImageError, ImageReason, InputError, StorageError
from pipelines.storage.failures import absence_kept, explain, explain_image, explained
from pipelines.storage.objects import (
    CreateUnsupportedError,
    ObjectBytes,
    ObjectInfo,
    OvertakenError,
    Seen,
    describe_overtaken,
)
from pipelines.storage.ranges import check_range
from pipelines.storage.retries import repeat
from pipelines.storage.uris import escape_surrogates, local_path

logger = logging.getLogger(__name__)

_NO_HARD_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}
_NO_FOLDER_SYNC = {errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP}
_BROKEN_LINK = {errno.ELOOP, errno.ENOTDIR, errno.ENAMETOOLONG}
_TEMPORARY = re.compile(r".+\.[0-9a-f]{16}\.tmp|create-probe-[0-9a-f]{16}")
"""What a killed process can leave in a scratch folder, `supports_create_if_absent` too."""


class LocalStore:
    """Objects are regular files, folders are made as needed."""

    def iter_objects(self, uri: str, name_start: str = "") -> Iterator[ObjectInfo]:
        """Stream the files below a folder, in the order that S3 would list their keys."""
        root = local_path(uri)
        with explained(uri):
            status = root.stat()
        if not stat.S_ISDIR(status.st_mode):
            yield _describe(str(root), status)
            return
        yield from _walk(root, status, name_start)

    def list_names(self, uri: str) -> set[str]:
        """Name the files directly in a folder; none if it does not exist."""
        with explained(uri):
            try:
                with os.scandir(local_path(uri)) as entries:
                    return {entry.name for entry in entries if entry.is_file()}
            # A file of that name is no folder, as an object is none in a bucket.
            except (FileNotFoundError, NotADirectoryError):
                return set()

    def read_objects(
        self, objects: Sequence[ObjectInfo], *, concurrency: int, max_bytes: int | None
    ) -> list[ObjectBytes | ImageError]:
        """Read whole files, several at a time."""
        with ThreadPoolExecutor(max_workers=concurrency) as pool:
            return list(pool.map(lambda info: _read_file(info, max_bytes), objects))

    def read(self, uri: str) -> bytes:
        """Read one whole file; FileNotFoundError if there is none."""
        with absence_kept(uri):
            return local_path(uri).read_bytes()

    def open(self, uri: str, *, buffer_bytes: int) -> BinaryIO:
        """Open one file; FileNotFoundError if there is none."""
        with absence_kept(uri):
            return local_path(uri).open("rb", buffering=buffer_bytes)

    def find_object(self, uri: str) -> ObjectInfo | None:
        """Describe the file that stands here."""
        path = local_path(uri)
        with explained(uri):
            try:
                status = path.stat()
            except (FileNotFoundError, NotADirectoryError):
                return None
        return _describe(str(path), status) if stat.S_ISREG(status.st_mode) else None

    def write(
        self, uri: str, data: bytes, *, scratch: str | None, seen: Seen | None = None
    ) -> None:
        """Write a temporary file and rename it; what was seen is looked at right before.

        Raises:
            OvertakenError: something else stands there.
        """
        if seen is not None and seen.etag is None:
            with suppress(CreateUnsupportedError):
                if not self.create(uri, data, scratch=scratch):
                    _check_equal(uri, data)
                return
        final = local_path(uri)
        with explained(uri), _finished_file(final, data, scratch) as temporary:
            if seen is not None and self._see(uri) != seen:
                _check_equal(uri, data)
                return
            temporary.replace(final)
            _sync_folder(final.parent)

    def _see(self, uri: str) -> Seen:
        info = self.find_object(uri)
        return Seen(etag=None if info is None else info.etag)

    def create(self, uri: str, data: bytes, *, scratch: str | None) -> bool:
        """Write a temporary file and link it to the final name, which fails if that is taken.

        Raises:
            CreateUnsupportedError: the file system has no hard links.
        """
        final = local_path(uri)
        with explained(uri), _finished_file(final, data, scratch) as temporary:
            try:
                final.hardlink_to(temporary)
            except FileExistsError:
                return False
            except OSError as error:
                failure = CreateUnsupportedError(f"{uri}: this file system has no hard links")
                # Not `from error`: who follows an error that is its own cause never ends.
                raise (failure if error.errno in _NO_HARD_LINKS else error) from error.__cause__
            _sync_folder(final.parent)
        return True

    def delete(self, uris: Iterable[str]) -> None:
        """Remove files."""
        for uri in uris:
            with explained(uri):
                local_path(uri).unlink(missing_ok=True)


def _check_equal(uri: str, data: bytes) -> None:
    """Make sure that what stands under a name is what was to be put there.

    Raises:
        OvertakenError: it is something else.
    """
    final = local_path(uri)
    if not final.is_file() or final.read_bytes() != data:
        raise OvertakenError(describe_overtaken(uri))


def remove_leftovers(scratch: Path, seconds: float) -> None:
    """Remove temporary files that nobody has written to for so long; what cannot be stays."""
    with suppress(OSError), os.scandir(scratch) as entries:
        for entry in entries:
            if not _TEMPORARY.fullmatch(entry.name):
                continue
            with suppress(OSError):
                status = entry.stat(follow_symlinks=False)
                if stat.S_ISREG(status.st_mode) and time.time() - status.st_mtime > seconds:
                    Path(entry.path).unlink()


class _Folder:
    """A folder that is being listed."""

    def __init__(self, path: Path, status: os.stat_result, name_start: str = "") -> None:
        self.path = path
        self.identity = _identify(status)
        self.entries = _sorted_entries(path, name_start)

    def check_same(self, *, is_root: bool) -> None:
        """Make sure that all of it was listed, and not what a lost mount leaves in its place.

        Raises:
            StorageError: another folder stands there by now.
        """
        with explained(str(self.path)):
            now: tuple[int, int] | None
            try:
                now = _identify(self.path.stat())
            except FileNotFoundError:
                # Below the root it was deleted meanwhile, with all that was in it.
                now = None if is_root else self.identity
        if now != self.identity:
            raise StorageError(
                f"{self.path}: is not the folder that it was when its listing began, as when a "
                "mount is lost; see that all is there, then run the same command again"
            )


def _walk(root: Path, status: os.stat_result, name_start: str) -> Iterator[ObjectInfo]:
    """Stream a tree in key order; a link to a folder above itself is not followed."""
    open_folders = [_Folder(root, status, name_start)]
    while open_folders:
        folder = open_folders[-1]
        entry = next(folder.entries, None)
        if entry is None:
            folder.check_same(is_root=len(open_folders) == 1)
            open_folders.pop()
            continue
        found = _stat(entry)
        if found is None:
            yield ObjectInfo(uri=escape_surrogates(entry.path))
        elif stat.S_ISREG(found.st_mode):
            yield _describe(entry.path, found)
        elif stat.S_ISDIR(found.st_mode) and _is_no_loop(found, open_folders):
            open_folders.append(_Folder(Path(entry.path), found))


def _stat(entry: os.DirEntry[str]) -> os.stat_result | None:
    """Look what an entry is; None if it is a file of which that cannot be told.

    Then the read will say why, in the row of this image: it is gone since, or a broken link.

    Raises:
        StorageError: it may be a folder, and what is in it would be left out without a word.
    """
    try:
        return entry.stat()
    except FileNotFoundError:
        return None
    except OSError as error:
        # Told by the listing itself, on most file systems.
        with explained(entry.path):
            is_file = entry.is_file(follow_symlinks=False)
            is_link = entry.is_symlink()
        if is_file or (is_link and error.errno in _BROKEN_LINK):
            return None
        failure = explain(error, entry.path)
        raise failure from error


def _is_no_loop(status: os.stat_result, open_folders: Sequence[_Folder]) -> bool:
    """Whether a folder is none of those that it lies in; a link may lead back to one."""
    return _identify(status) not in {above.identity for above in open_folders}


def _identify(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


def _sorted_entries(folder: Path, name_start: str) -> Iterator[os.DirEntry[str]]:
    """List one folder so that the walk is in the order of whole keys; nothing if it is gone."""
    with explained(str(folder)):
        try:
            with os.scandir(folder) as entries:
                # Once each: a folder in which files are replaced may give one twice (POSIX).
                chosen = {
                    e.name: e
                    for e in entries
                    if not name_start or escape_surrogates(e.name).startswith(name_start)
                }
        except FileNotFoundError:
            chosen = {}
    return iter(sorted(chosen.values(), key=lambda entry: entry.name + "/" * _is_folder(entry)))


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False


def _describe(path: str, status: os.stat_result) -> ObjectInfo:
    return ObjectInfo(
        uri=escape_surrogates(path),
        size=status.st_size,
        etag=_etag(status),
        mtime=status.st_mtime_ns / 1e9,
    )


def _etag(status: os.stat_result) -> str:
    return f"{status.st_size}-{status.st_mtime_ns}"


def _read_file(info: ObjectInfo, max_bytes: int | None) -> ObjectBytes | ImageError:
    """Read one file or member; what goes wrong is the answer."""
    try:
        return repeat(info.uri, lambda: _read_once(info, max_bytes), (OSError,))
    except (ImageError, OSError, ValueError, InputError) as error:
        return explain_image(error, info.uri)


def _read_once(info: ObjectInfo, max_bytes: int | None) -> ObjectBytes:
    """Read one file, or a member of it, making sure that it did not change meanwhile.

    Raises:
        ImageError: it is not what was listed, or too large.
    """
    # Without O_NONBLOCK, a named pipe in a list would block this worker for ever.
    descriptor = os.open(local_path(info.object_uri), os.O_RDONLY | os.O_NONBLOCK)
    try:
        before = os.fstat(descriptor)
        _check_file(info, before, max_bytes)
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            file.seek(info.offset or 0)
            data = file.read(-1 if info.offset is None else info.size)
        after = os.fstat(descriptor)
    finally:
        os.close(descriptor)
    expected = after.st_size if info.offset is None else info.size
    if _etag(after) != _etag(before) or len(data) != expected:
        raise ImageError(ImageReason.CHANGED, f"{info.uri}: the file changed while it was read")
    return ObjectBytes(data=data, etag=_etag(after))


def _check_file(info: ObjectInfo, status: os.stat_result, max_bytes: int | None) -> None:
    # Nothing has been read yet: what is refused here costs no memory.
    if not stat.S_ISREG(status.st_mode):
        raise ImageError(ImageReason.NOT_AN_IMAGE, f"{info.uri}: not a regular file")
    if info.etag and _etag(status) != info.etag:
        raise ImageError(ImageReason.CHANGED, f"{info.uri}: the file changed since it was listed")
    size = status.st_size if info.offset is None else info.size
    if max_bytes is not None and size > max_bytes:
        raise ImageError(
            ImageReason.TOO_LARGE, f"{info.uri}: {size} bytes, at most {max_bytes} are read"
        )
    if info.offset is not None:
        check_range(info, status.st_size)


@contextmanager
def _finished_file(final: Path, data: bytes, scratch: str | None) -> Iterator[Path]:
    """Give a temporary file with these bytes on disk; it is gone afterwards, renamed or removed."""
    folder = final.parent if scratch is None else local_path(scratch)
    for needed in (folder, final.parent):
        _make_folder(needed)
    temporary = folder / f"{final.name[:32]}.{secrets.token_hex(8)}.tmp"
    try:
        # Not tempfile: it makes files that only their owner may read, and these are renamed into
        # tables.
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        yield temporary
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def _make_folder(folder: Path) -> None:
    """Make a folder with its parents so that it survives a power cut."""
    missing = [level for level in (folder, *folder.parents) if not level.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for level in missing:
        _sync_folder(level.parent)


def _sync_folder(folder: Path) -> None:
    # Makes a rename durable; some network file systems cannot, and need not.
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NO_FOLDER_SYNC:
            raise
    finally:
        os.close(descriptor)
