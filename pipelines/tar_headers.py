"""Which members does a tar have, and is it whole?

Headers are read by the standard library, within bounds: whatever they say, no tar takes much
memory, and none ends early without a word.
"""

from __future__ import annotations

import io
import logging
import tarfile
from collections.abc import Iterator
from typing import IO, BinaryIO, Final, cast

from pipelines.errors import InputError
from pipelines.wording import tell_count

logger = logging.getLogger(__name__)

_HEADER_BYTES: Final = 256 * 2**10
"""Most that one header may have in its extensions. Assumed: names end at 4 KiB elsewhere."""
_MEMBER_BYTES: Final = 2**20
"""Most that all headers of a member may have (assumed): maps of sparse files have the most."""
_GLOBAL_BYTES: Final = 64 * 2**10
"""Most that is kept of what is said of all members that follow (assumed; git writes 52 bytes)."""
_ENTRY_BYTES: Final = 100
"""Of that, what an entry takes beside its letters (assumed)."""
_END_BYTES: Final = 16 * 2**20
"""Most zeros that are the end of a tar. Assumed: the records that these fill up have 10 KiB, for
tapes a mebibyte and more."""
_END_BLOCK_BYTES: Final = 64 * 2**10
"""Of these, what is read at a time (assumed)."""

# What `tarfile` raises for bytes that are no tar: found with random damage, beside its own errors.
_DAMAGE: Final = (
    tarfile.TarError,
    ValueError,
    IndexError,
    KeyError,
    OverflowError,
    RecursionError,
)


def iter_members(file: BinaryIO, uri: str) -> Iterator[tarfile.TarInfo]:
    """Read the headers of a tar.

    Args:
        file: The tar, open for seeking.
        uri: Its name, for messages.

    Yields:
        Every member, of any type. The last one may go beyond the end of the tar.

    Raises:
        InputError: If it is no tar, has something else where a header should be, ends in the
            middle, or goes on where it should end.
    """
    end = file.seek(0, io.SEEK_END)
    headers = _Headers(file)
    tar = _open_headers(headers, uri)
    at = members = 0
    while at < end:
        headers.begin(at)
        # Its end may be cut off, too: nothing is lost with that.
        if not any(file.read(tarfile.BLOCKSIZE)):
            _check_end(file, uri, at, members)
            return
        headers.begin(at)
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
        if _is_cut_off(member, at, end):
            raise InputError(_describe_end(uri, members))
    logger.warning(
        "%s: ends after %s without the mark of an end: if it was cut off there, write it anew",
        uri,
        tell_count(members, "member"),
    )


def _open_headers(headers: _Headers, uri: str) -> tarfile.TarFile:
    """Let the standard library read the first header.

    Its own iteration would keep every member, and end without a word at a damaged header.

    Raises:
        InputError: If there is none.
    """
    headers.begin(0)
    try:
        return tarfile.TarFile(
            fileobj=cast("IO[bytes]", headers),
            format=tarfile.PAX_FORMAT,
            encoding="utf-8",
            # Of this format alone these are taken.
            pax_headers=_GlobalHeaders(),
        )
    except _DAMAGE as error:
        raise InputError(
            f"{uri}: not a tar ({error}); a compressed one has to be unpacked, another renamed"
        ) from None


def _is_cut_off(member: tarfile.TarInfo, following: int, end: int) -> bool:
    """Say whether a tar ends within a member's bytes; the zeros that fill its last block may lack.

    The size of a sparse file is not that of its bytes in the tar.
    """
    is_whole = member.issparse() or not member.isreg() or member.offset_data + member.size <= end
    return not is_whole or following - end >= tarfile.BLOCKSIZE


def _check_end(file: BinaryIO, uri: str, at: int, members: int) -> None:
    """Make sure that a tar ends at a block of zeros: behind a hole there would be more images.

    Raises:
        InputError: If other bytes follow, or more zeros than any end has.
    """
    zeros = file.seek(at) - at
    while zeros <= _END_BYTES and (block := file.read(_END_BLOCK_BYTES)):
        rest = block.lstrip(b"\0")
        zeros += len(block) - len(rest)
        if rest:
            raise InputError(
                f"{uri}: byte {at + zeros} is not zero, though the zeros at byte {at}, after "
                f"{members} members, end a tar; expected zeros alone from there on, so this is a "
                "hole, or tars that were joined: write it anew, or join them by tar --concatenate"
            )
    if zeros > _END_BYTES:
        raise InputError(
            f"{uri}: more than {_END_BYTES} zeros from byte {at} on, after {members} members; "
            "expected at most as many at the end of a tar, so this is a hole, or a download that "
            "has not ended: fetch it again, or leave it out"
        )


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
    """What `tarfile` reads from: no member makes it read, and keep, a large part of the tar."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._left = 0
        self.seek = file.seek
        self.tell = file.tell

    def begin(self, at: int) -> None:
        """Go to where the headers of a member begin."""
        self._left = _MEMBER_BYTES
        self._file.seek(at)

    def read(self, size: int) -> bytes:
        """Read the next bytes of a header.

        Raises:
            ReadError: If they are too many.
        """
        if not 0 <= size <= _HEADER_BYTES:
            raise tarfile.ReadError(f"a header of {size} bytes, at most {_HEADER_BYTES} are read")
        self._left -= size
        if self._left < 0:
            raise tarfile.ReadError(f"headers of more than {_MEMBER_BYTES} bytes for one member")
        return self._file.read(size)


class _GlobalHeaders(dict[str, str]):
    """What is said of all members that follow: `tarfile` keeps it, and copies it for each."""

    def __init__(self) -> None:
        super().__init__()
        self._size = 0

    def __setitem__(self, key: str, value: str) -> None:
        self._size += len(value)
        self._size -= len(self[key]) if key in self else -len(key) - _ENTRY_BYTES
        if self._size > _GLOBAL_BYTES:
            raise tarfile.ReadError(f"global headers of more than {_GLOBAL_BYTES} bytes")
        super().__setitem__(key, value)
