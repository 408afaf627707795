"""What does a child do? `python -m pipelines.isolation.child SOCKET MEMORY`, started by `Isolated`.

It calls one function again and again, under limits that the kernel enforces: no code of ours, and
no lock of Python's, has to be free for them to bite. It ends with its parent, however that ends:
the read end of a pipe is its stdin, and nobody ever writes to it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import resource
import select
import signal
import sys
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.isolation.channel import Channel

if TYPE_CHECKING:
    from pipelines.isolation.work import Work

_STDIN, _STDERR = 0, 2
_GRACE_SECONDS = 1.0
"""The parent, which has its own clock, goes first: it can tell a timeout from a death."""
_KIBIBYTE = 1024


def serve(channel: Channel) -> None:
    """Do the work that the parent sends first, then answer calls until it hangs up.

    Args:
        channel: To the parent.
    """
    with contextlib.suppress(EOFError):
        work: Work = channel.receive()
        if work.warm_up is not None:
            work.warm_up()
        _limit_memory(work.memory_bytes)
        channel.send("ready")
        while True:
            arguments, options = channel.receive()
            answer: tuple[Any, Exception | None]
            signal.setitimer(signal.ITIMER_REAL, work.seconds + _GRACE_SECONDS)
            _forget_output()
            try:
                answer = (work.function(*arguments, **options), None)
            except work.errors as error:
                answer = (None, error)
            channel.send(answer)
            signal.setitimer(signal.ITIMER_REAL, 0)
            del arguments, options, answer


def _forget_output() -> None:
    """Empty the file that is stderr: what earlier calls printed says nothing of the next."""
    if os.fstat(_STDERR).st_size:
        os.ftruncate(_STDERR, 0)


def _obey_signals() -> None:
    """Let those that end this process end it: what the parent ignored or blocked is inherited."""
    deadly = (signal.SIGALRM, signal.SIGIO, signal.SIGTERM)
    for number in deadly:
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, deadly)


def _end_with_parent() -> None:
    """Have the kernel end this process as soon as the other end of stdin is closed.

    PR_SET_PDEATHSIG would do so when the thread ends that started us, in a parent that lives on.
    """
    fcntl.fcntl(_STDIN, fcntl.F_SETOWN, os.getpid())
    flags = fcntl.fcntl(_STDIN, fcntl.F_GETFL)
    fcntl.fcntl(_STDIN, fcntl.F_SETFL, flags | os.O_ASYNC)
    if select.select([_STDIN], [], [], 0)[0]:
        sys.exit()  # it was closed before


def _limit_memory(n_bytes: int) -> None:
    """Bound what can be written to: heap, anonymous maps, stacks.

    Not the address space: torch maps hundreds of megabytes of code, and every thread reserves 64
    MB for its heap, all of which costs nothing.
    """
    with contextlib.suppress(FileNotFoundError):  # not on Linux: then time alone is limited
        status = Path("/proc/self/status").read_text("ascii")
        held = int(status.partition("VmData:")[2].split()[0]) * _KIBIBYTE
        _, hard = resource.getrlimit(resource.RLIMIT_DATA)
        allowed = held + n_bytes
        if hard != resource.RLIM_INFINITY:
            allowed = min(allowed, hard)
        resource.setrlimit(resource.RLIMIT_DATA, (allowed, allowed))


def _volunteer() -> None:
    """Be the first that a machine without memory kills, rather than the parent."""
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000", "ascii")


def _leave_no_core() -> None:
    """Keep a crash from filling the disk: what there is to say, stderr says."""
    _, hard = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (0, hard))


def main() -> None:
    """Serve the parent whose descriptors stand on the command line."""
    _obey_signals()
    _end_with_parent()
    _volunteer()
    _leave_no_core()
    connection, memory = (int(text) for text in sys.argv[1:])
    serve(Channel(Connection(connection), memory))


if __name__ == "__main__":
    main()
