"""Which images does a tar hold, and at which of its bytes?

It is read by seeking where that is cheaper than reading on. Nothing is ever extracted, so a
member's name is text alone, whatever it looks like.
"""

from __future__ import annotations

import itertools
import logging
import re
import tarfile
import threading
from collections import Counter, deque
from collections.abc import Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import BinaryIO, Final

from pipelines import storage
from pipelines.errors import InputError
from pipelines.storage import ObjectInfo
from pipelines.tar_headers import iter_members
from pipelines.wording import tell_count

logger = logging.getLogger(__name__)

TAR_SUFFIX: Final = ".tar"

_COMPRESSED: Final = re.compile(
    r"\.(tar\.(7z|br|bz2?|gz|gzip|lz|lz4|lzma|lzo|sz|xz|z|zip|zstd?)|t(az|bz2?|gz|lz|xz|z2|zst))\Z",
    re.IGNORECASE,
)
_REMOTE_BLOCK_BYTES: Final = 4 * 2**20
"""Read at a time from an object store. At 30 ms a request and 100 MB/s, skipping less than 3 MB
takes longer than reading it (assumed)."""
_LOCAL_BLOCK_BYTES: Final = 16 * 2**10
"""Read at a time from a disk, where skipping costs nothing (assumed): a few small members."""
_TARS_AHEAD: Final = 7
"""Tars that are read beside the one whose turn it is, for one connection is slow (assumed)."""
_IMAGES_AHEAD: Final = 8192
"""Images that are found ahead in each: the whole of a usual shard, and 4 MB of memory."""
_LARGEST: Final = 2**63 - 1
"""Of sizes in the manifest."""


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
        unread: Counter[str] = Counter()
        with _open_tar(tar.uri) as file:
            for member in iter_members(file, tar.uri):
                name = storage.escape_surrogates(member.name)
                is_named = name.lower().endswith(self._suffixes)
                if not (is_named and _is_plain(member)):
                    self.skipped += 1
                    unread[_name_kind(member)] += is_named
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
        _warn_of_unread(tar.uri, unread)

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


def _is_plain(member: tarfile.TarInfo) -> bool:
    """Say whether a member is a file whose bytes stand in the tar as they are."""
    return member.isreg() and not member.issparse()


def _name_kind(member: tarfile.TarInfo) -> str:
    """Name what may stand for a picture elsewhere in the tar, or with holes; "" for all else."""
    if member.issparse():
        return "sparse file"
    return "link" if member.islnk() or member.issym() else ""


def _warn_of_unread(uri: str, counts: Counter[str]) -> None:
    """Tell of members that are skipped though they have names of images."""
    told = [tell_count(counts[kind], kind) for kind in ("link", "sparse file") if counts[kind]]
    if told:
        logger.warning(
            "%s: members named like images are skipped, for their bytes do not stand under these "
            "names: %s",
            uri,
            " and ".join(told),
        )
