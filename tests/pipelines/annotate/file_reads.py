"""Which files of a folder does anybody read? The kernel says so, of every process."""

from __future__ import annotations

import ctypes
import os
import struct
from types import TracebackType
from typing import Self

_IN_ACCESS = 0x1
_IN_Q_OVERFLOW = 0x4000
_EVENT = struct.Struct("iIII")
_BUFFER_BYTES = 1 << 20


class FileReads:
    """Names of the files of a folder that were read since the block began."""

    def __init__(self, folder):
        self._folder = folder
        self._names = []

    def __enter__(self) -> Self:
        libc = ctypes.CDLL(None, use_errno=True)
        self._file = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        watch = libc.inotify_add_watch(self._file, os.fsencode(self._folder), _IN_ACCESS)
        assert min(self._file, watch) >= 0, os.strerror(ctypes.get_errno())
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        os.close(self._file)

    def names(self) -> set[str]:
        """All so far."""
        while True:
            try:
                events = os.read(self._file, _BUFFER_BYTES)
            except BlockingIOError:
                # The folder itself has no name; it is read when it is listed.
                return set(self._names) - {""}
            while events:
                _, mask, _, length = _EVENT.unpack_from(events)
                # What the kernel could not keep may have been any name: nothing is known then.
                assert not mask & _IN_Q_OVERFLOW, "more reads than the kernel keeps in its queue"
                name = events[_EVENT.size : _EVENT.size + length]
                self._names.append(os.fsdecode(name.rstrip(b"\0")))
                events = events[_EVENT.size + length :]
