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

from pipelines.errors import ImageError, ImageReason, InputError
from pipelines.storage.failures import absence_kept, explain_image, explained
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
from pipelines.storage.uris import local_path
from pipelines.storage.walk import describe_file, make_etag, walk

logger = logging.getLogger(__name__)

_NO_HARD_LINKS = {
    errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EXDEV,
}  # fmt: skip
_NO_FOLDER_SYNC = {errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP}
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
            yield describe_file(str(root), status)
            return
        yield from walk(str(root), name_start)

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
        return describe_file(str(path), status) if stat.S_ISREG(status.st_mode) else None

    def write(
        self, uri: str, data: bytes, *, scratch: str | None, seen: Seen | None = None
    ) -> None:
        """Write a temporary file, and link it where nothing was seen, else rename it.

        What was seen is looked at right before it is renamed over.

        Raises:
            OvertakenError: something else stands there.
        """
        final = local_path(uri)
        with explained(uri), _finished_file(final, data, scratch) as temporary:
            if seen is not None and seen.etag is None:
                with suppress(CreateUnsupportedError):
                    if not _link(temporary, final):
                        _check_equal(uri, data)
                    return
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
            return _link(temporary, final)

    def delete(self, uris: Iterable[str]) -> None:
        """Remove files."""
        for uri in uris:
            with explained(uri):
                local_path(uri).unlink(missing_ok=True)


def _link(temporary: Path, final: Path) -> bool:
    """Give a file its final name too; False if that is taken.

    Raises:
        CreateUnsupportedError: the file system has no hard links.
        OSError: what else goes wrong.
    """
    try:
        final.hardlink_to(temporary)
    except FileExistsError:
        return False
    except OSError as error:
        failure = CreateUnsupportedError(f"{final}: this file system has no hard links")
        # Not `from error`: who follows an error that is its own cause never ends.
        raise (failure if error.errno in _NO_HARD_LINKS else error) from error.__cause__
    _sync_folder(final.parent)
    return True


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
    if make_etag(after) != make_etag(before) or len(data) != expected:
        raise ImageError(ImageReason.CHANGED, f"{info.uri}: the file changed while it was read")
    return ObjectBytes(data=data, etag=make_etag(after))


def _check_file(info: ObjectInfo, status: os.stat_result, max_bytes: int | None) -> None:
    # Nothing has been read yet: what is refused here costs no memory.
    if not stat.S_ISREG(status.st_mode):
        raise ImageError(ImageReason.NOT_AN_IMAGE, f"{info.uri}: not a regular file")
    if info.etag and make_etag(status) != info.etag:
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
    _refuse_device(final)
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


def _refuse_device(final: Path) -> None:
    """Refuse to put a file in place of what is not one.

    Raises:
        InputError: a device or a pipe stands there.
    """
    try:
        mode = final.stat().st_mode
    except OSError:
        return
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise InputError(f"{final}: is a device or a pipe; name a file")


def _make_folder(folder: Path) -> None:
    """Make a folder with its parents so that it survives a power cut.

    Raises:
        InputError: there can be none.
    """
    missing = [level for level in (folder, *folder.parents) if not level.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileNotFoundError, NotADirectoryError) as error:
        place = next(level for level in folder.parents if level.exists())
        raise InputError(
            f"{place}: no folder can be made there ({error.strerror}); choose another place"
        ) from error
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
