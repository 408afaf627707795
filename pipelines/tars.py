"""Which images does a tar hold, and at which of its bytes?

Headers are read by the standard library, by seeking where that is cheaper than reading on. Nothing
is ever extracted, so a member's name is text alone, whatever it looks like.
"""

from __future__ import annotations

import io
import itertools
import logging
import re
import tarfile
import threading
from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import IO, BinaryIO, Final, cast

from pipelines import storage
from pipelines.errors import InputError
from pipelines.storage import ObjectInfo

logger = logging.getLogger(__name__)

TAR_SUFFIX: Final = ".tar"

_COMPRESSED: Final = re.compile(r"\.(tar\.\w+|tgz|tbz2?|txz|tzst)\Z", re.IGNORECASE)
_REMOTE_BLOCK_BYTES: Final = 4 * 2**20
"""Read at a time from an object store. At 30 ms a request and 100 MB/s, skipping less than 3 MB
takes longer than reading it (assumed)."""
_LOCAL_BLOCK_BYTES: Final = 16 * 2**10
"""Read at a time from a disk, where skipping costs nothing (assumed): a few small members."""
_HEADER_BYTES: Final = 256 * 2**10
"""Most that one header may have in its extensions. Assumed: names end at 4 KiB elsewhere."""
_TARS_AHEAD: Final = 7
"""Tars that are read beside the one whose turn it is, for one connection is slow (assumed)."""
_IMAGES_AHEAD: Final = 8192
"""Images that are found ahead in each: the whole of a usual shard, and 4 MB of memory."""
_LARGEST: Final = 2**63 - 1
"""Of sizes in the manifest."""

# What `tarfile` raises for bytes that are no tar: found with random damage, beside its own errors.
_DAMAGE: Final = (
    tarfile.TarError,
    ValueError,
    IndexError,
    KeyError,
    OverflowError,
    RecursionError,
)


def is_tar(uri: str) -> bool:
    """Say whether an object, or what a glob matches, is a tar by its name.

    Args:
        uri: Object or glob.

    Returns:
        Whether it ends in `.tar`.
    """
    return uri.lower().endswith(TAR_SUFFIX)


def is_compressed(uri: str) -> bool:
    """Say whether an object, or what a glob matches, is a compressed tar by its name.

    Args:
        uri: Object or glob.

    Returns:
        Whether it ends like one, such as `.tar.gz`.
    """
    return _COMPRESSED.search(uri) is not None


def refuse_compressed(uri: str) -> None:
    """Refuse a tar whose members cannot be read by themselves.

    Args:
        uri: Object or glob.

    Raises:
        InputError: If it is one by its name.
    """
    if is_compressed(uri):
        raise InputError(
            f"{uri}: a compressed tar can only be read from start to end; unpack it to a .tar"
        )


class TarIndex:
    """The images of one tar, in the order of its members; found as they are asked for, once."""

    def __init__(self, tar: ObjectInfo, *, suffixes: tuple[str, ...], known_etag: str = "") -> None:
        """Say which tar; nothing is read before its images are asked for.

        Args:
            tar: By URI; looked up if its etag is not known.
            suffixes: Endings of images' names, in lower case.
            known_etag: A version whose images need not be found again; "" if there is none.
        """
        self.skipped = 0
        """Members met so far that are no images."""
        self._tar = tar
        self._suffixes = suffixes
        self._known_etag = known_etag
        self._found: deque[ObjectInfo] = deque()
        self._damage: InputError | None = None
        self._rest = self._find_images()

    @property
    def uri(self) -> str:
        """Of the tar."""
        return self._tar.uri

    def __iter__(self) -> Iterator[ObjectInfo]:
        """Give the images; the tar itself alone, if it is of the known version."""
        while self._found:
            yield self._found.popleft()
        if self._damage is not None:
            raise self._damage
        yield from self._rest

    def find_ahead(self, stop: threading.Event) -> None:
        """Find the first images now, to be given later.

        Args:
            stop: Nobody wants them any more.
        """
        try:
            for info in itertools.islice(self._rest, _IMAGES_AHEAD):
                self._found.append(info)
                if stop.is_set():
                    return
        except InputError as error:
            # To be raised in its turn.
            self._damage = error

    def close(self) -> None:
        """Close the tar, whose images are not asked for any more."""
        self._rest.close()

    def _find_images(self) -> Generator[ObjectInfo, None, None]:
        tar = self._look_up()
        if self._known_etag and tar.etag == self._known_etag:
            yield tar
            return
        seen: set[int] = set()
        with _open_tar(tar.uri) as file:
            for member in iter_members(file, tar.uri):
                name = storage.escape_surrogates(member.name)
                if not (_is_plain(member, tar.uri) and name.lower().endswith(self._suffixes)):
                    self.skipped += 1
                    continue
                # 64-bit hashes take less room than the texts.
                if hash(name) in seen:
                    raise InputError(
                        f"{tar.uri}: has two members named {name!r}; write it anew with one"
                    )
                seen.add(hash(name))
                yield ObjectInfo(
                    uri=storage.join_member(tar.uri, name),
                    size=min(member.size, _LARGEST),
                    etag=tar.etag,
                    mtime=tar.mtime,
                    offset=member.offset_data,
                )

    def _look_up(self) -> ObjectInfo:
        """The tar as it is now.

        Raises:
            InputError: If it is not there, or its members' names could not be told from its own.
        """
        uri = self._tar.uri
        if storage.split_member(uri) is not None:
            raise InputError(f"{uri}: a tar's own name must not have .tar# in it; rename it")
        tar = self._tar if self._tar.etag else storage.find_object(uri)
        if tar is None:
            raise InputError(f"{uri}: no such object; name tars that exist")
        # Its members' names begin with the name that was asked for, whatever the store calls it.
        return replace(tar, uri=uri)


def read_ahead(tars: Iterator[TarIndex]) -> Iterator[TarIndex]:
    """Find the images of several tars at a time.

    Args:
        tars: In their order.

    Yields:
        Them, in the same order; images of the next ones are found meanwhile.
    """
    stop = threading.Event()
    ahead: deque[tuple[TarIndex, Future[None]]] = deque()
    try:
        with ThreadPoolExecutor(_TARS_AHEAD) as threads:
            try:
                front = next(tars, None)
                while front is not None:
                    for tar in itertools.islice(tars, _TARS_AHEAD - len(ahead)):
                        ahead.append((tar, threads.submit(tar.find_ahead, stop)))
                    yield front
                    front = None
                    if ahead:
                        front, found = ahead.popleft()
                        found.result()
            finally:
                stop.set()
    finally:
        # Threads have ended: a generator that runs cannot be closed.
        for tar, _ in ahead:
            tar.close()


def iter_members(file: BinaryIO, uri: str) -> Iterator[tarfile.TarInfo]:
    """Read the headers of a tar.

    Args:
        file: The tar, open for seeking.
        uri: Its name, for messages.

    Yields:
        Every member, of any type. The last one may go beyond the end of the tar.

    Raises:
        InputError: If it is no tar, has something else where a header should be, or ends in the
            middle.
    """
    end = file.seek(0, io.SEEK_END)
    file.seek(0)
    headers = cast("IO[bytes]", _Headers(file))
    try:
        # Its own iteration would keep every member, and end without a word at a damaged header.
        tar = tarfile.TarFile(fileobj=headers, encoding="utf-8")
    except _DAMAGE as error:
        raise InputError(
            f"{uri}: not a tar ({error}); a compressed one has to be unpacked, another renamed"
        ) from None
    at = members = 0
    while at < end:
        file.seek(at)
        # Its end may be cut off, too: nothing is lost with that.
        if not any(file.read(tarfile.BLOCKSIZE)):
            return
        file.seek(at)
        try:
            member = tarfile.TarInfo.fromtarfile(tar)
        except _DAMAGE as error:
            if file.tell() >= end:
                raise InputError(_describe_end(uri, members)) from None
            raise InputError(_describe_damage(uri, at, members, str(error))) from None
        # Python reads sizes below zero, and would go round for ever.
        if member.size < 0 or tar.offset <= at:
            reason = f"a size of {member.size} bytes"
            raise InputError(_describe_damage(uri, at, members, reason))
        yield member
        at, members = tar.offset, members + 1
        # The size of a sparse file is not that of its bytes in the tar.
        if member.isreg() and not member.issparse() and member.offset_data + member.size > end:
            raise InputError(_describe_end(uri, members))


def _describe_end(uri: str, members: int) -> str:
    return (
        f"{uri}: ends in the middle, after {members} members; what follows is missing: write the "
        "tar anew, or leave it out"
    )


def _describe_damage(uri: str, at: int, members: int, reason: str) -> str:
    return (
        f"{uri}: no header of a tar at byte {at}, after {members} members ({reason}); what follows "
        "cannot be found: write the tar anew, or leave it out"
    )


class _Headers:
    """What `tarfile` reads from: no header makes it read, and keep, a large part of the tar."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.seek = file.seek
        self.tell = file.tell

    def read(self, size: int) -> bytes:
        """Read the next bytes of a header.

        Raises:
            ReadError: If they are too many.
        """
        if not 0 <= size <= _HEADER_BYTES:
            raise tarfile.ReadError(f"a header of {size} bytes, at most {_HEADER_BYTES} are read")
        return self._file.read(size)


def _open_tar(uri: str) -> BinaryIO:
    """Open a tar for seeking.

    Raises:
        InputError: If it has gone since it was looked up, or its server gives no ranges.
    """
    block = _LOCAL_BLOCK_BYTES if storage.is_local(uri) else _REMOTE_BLOCK_BYTES
    try:
        file = storage.open_range_reader(uri, buffer_bytes=block)
    except FileNotFoundError:
        raise InputError(f"{uri}: no such object; name tars that exist") from None
    if not file.seekable():
        file.close()
        raise InputError(f"{uri}: its server gives no ranges of bytes; copy it to another store")
    return file


def _is_plain(member: tarfile.TarInfo, uri: str) -> bool:
    """Say whether a member is a file whose bytes stand in the tar as they are."""
    if member.issparse():
        logger.warning("%s: %r is skipped: sparse files are not read", uri, member.name)
    return member.isreg() and not member.issparse()
