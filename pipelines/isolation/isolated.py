"""How is a function called so that neither its memory, its time nor its crash harm the caller?

In a child process that is started afresh, not forked: threads of torch or Ray do not survive a
fork. It serves many calls; after a death the next call starts another. A child costs about 0.2 s
to start and 34 MB to keep with the image decoder, 1.5 s and 230 MB with torch (*measured*).
It guards against accidents. It is no prison: the child runs as the same user.
"""

from __future__ import annotations

import contextlib
import math
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import weakref
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar

from pipelines.errors import ImageError, InputError, PipelineError
from pipelines.isolation.channel import Channel, open_memory
from pipelines.isolation.work import Work

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

P = ParamSpec("P")
R = TypeVar("R")

_PROGRAM = "pipelines.isolation.child"
_EXIT_SECONDS = 5.0
"""What an interpreter may take to exit once it has hung up (assumed)."""
_HEAP_BYTES = 64 * 2**20
_LAST_BYTES = 4096
_MESSAGE_CHARACTERS = 300


class ChildTimeoutError(PipelineError):
    """A call took longer than its limit, and its process was killed."""


class ChildDiedError(PipelineError):
    """A call ended its process: by a signal, an exit, too much memory or an unexpected error."""


class ChildStartError(PipelineError):
    """A child did not get ready: no call is to blame."""


class Isolated(Generic[P, R]):
    """A function that runs in a child process. Threads may share it: they wait for each other.

    Both the function and what it is given and gives back must be known to pickle; the function, and
    `warm_up`, by the name of their module, which the child imports.
    """

    def __init__(
        self,
        function: Callable[P, R],
        *,
        memory_bytes: int,
        seconds: float,
        warm_up: Callable[[], object] | None = None,
        start_seconds: float = 120.0,
        errors: tuple[type[Exception], ...] = (ImageError,),
    ) -> None:
        """Set the limits; the first call starts the child.

        Args:
            function: What to call there.
            memory_bytes: What the child may allocate beyond what it holds once it is ready; what it
                is given and gives back is part of that.
            seconds: What a call may take on the clock, starting the child left out.
            warm_up: What the child calls before it is ready, say to load a model.
            start_seconds: What getting ready may take.
            errors: What the function may raise that reaches the caller as itself. Any other
                exception ends the child: nobody knows what state it leaves behind.

        Raises:
            InputError: A limit is not positive.
        """
        limits = {"memory_bytes": memory_bytes, "seconds": seconds, "start_seconds": start_seconds}
        for name, value in limits.items():
            if not 0 < value < math.inf:
                raise InputError(f"Isolated: {name} is {value}, expected a number above 0")
        self._work = Work(
            function=function,
            warm_up=warm_up,
            memory_bytes=memory_bytes,
            seconds=seconds,
            errors=errors,
        )
        self._start_seconds = start_seconds
        self._child: _Child | None = None
        self._end_child: weakref.finalize[..., Isolated[P, R]] | None = None
        self._lock = threading.Lock()

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the function.

        Args:
            *args: As for the function.
            **kwargs: As for the function.

        Returns:
            What the function returns.

        Raises:
            ChildTimeoutError: It took too long.
            ChildDiedError: It took its process down.
            ChildStartError: There is no process to call it in.
        """
        with self._lock:
            child = self._open()
            answered = False
            try:
                value, error = child.ask((args, kwargs), self._work.seconds)
                answered = True
            finally:
                if not answered:  # dead, or in the middle of something: say, of Ctrl-C
                    self._close()
        if error is not None:
            raise error
        result: R = value
        return result

    def close(self) -> None:
        """End the child; a later call starts another."""
        with self._lock:
            self._close()

    def __enter__(self) -> Isolated[P, R]:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def pid(self) -> int | None:
        """The process id of the child, if there is one."""
        return None if self._child is None else self._child.process.pid

    def _open(self) -> _Child:
        if self._child is not None and not self._child.is_usable():
            self._close()
        if self._child is not None:
            return self._child
        self._child = _Child()
        self._end_child = weakref.finalize(self, self._child.end)
        ready = False
        try:
            self._child.get_ready(self._work, self._start_seconds)
            ready = True
        finally:
            if not ready:
                self._close()
        return self._child

    def _close(self) -> None:
        if self._end_child is not None:
            self._end_child()
        self._child = self._end_child = None


def _environment() -> dict[str, str]:
    """What the child finds its modules by, and keeps its freed memory by.

    By default glibc gives large blocks back at once, and the kernel clears them anew: a WebP of 0.2
    megapixels took 9 ms in a child instead of 3 (*measured*).
    """
    return {
        "MALLOC_MMAP_THRESHOLD_": str(_HEAP_BYTES),
        "MALLOC_TRIM_THRESHOLD_": str(_HEAP_BYTES),
        **os.environ,
        "PYTHONPATH": os.pathsep.join(path or "." for path in sys.path),
    }


class _Child:
    """A process that runs, and the channel to it."""

    def __init__(self) -> None:
        self.parent_pid = os.getpid()
        with contextlib.ExitStack() as undo:
            try:
                ours, theirs = socket.socketpair()
                undo.enter_context(theirs)
                memory = open_memory()
                self.channel = Channel(Connection(ours.detach()), memory)
                undo.callback(self.channel.close)
                self.printed = undo.enter_context(tempfile.TemporaryFile("a+b"))
                self.process = self._spawn(theirs.fileno(), memory)
            except OSError as error:  # no memory, too many processes, no disk
                raise ChildStartError(f"child process: {error}; {_ADVICE}") from error
            undo.pop_all()
        theirs.close()

    def _spawn(self, connection: int, memory: int) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-P", "-m", _PROGRAM, str(connection), str(memory)],
            stdin=subprocess.PIPE,  # closed by the kernel when this process ends
            stdout=self.printed,
            stderr=self.printed,
            pass_fds=(connection, memory),
            env=_environment(),
            process_group=0,  # Ctrl-C is for the parent
        )

    def is_usable(self) -> bool:
        """Whether it runs, and belongs to this process rather than to one that forked it."""
        return self.parent_pid == os.getpid() and self.process.poll() is None

    # Tells it what it is for and waits until it is ready, or raises ChildStartError.
    def get_ready(self, work: Work, seconds: float) -> None:
        try:
            self.channel.send(work)
            if not self.channel.poll(seconds):
                raise ChildStartError(f"child process: not ready after {seconds:g} s; {_ADVICE}")
            self.channel.receive()
        except (EOFError, ConnectionError) as error:
            self._reap(_EXIT_SECONDS)
            message = f"child process: {self._describe_end()} before it was ready; {_ADVICE}"
            raise ChildStartError(message) from error

    # Sends a call and waits for its answer, or raises ChildDiedError or ChildTimeoutError.
    def ask(self, call: tuple[Any, Any], seconds: float) -> tuple[Any, Exception | None]:
        try:
            self.channel.send(call)
            if self.channel.poll(seconds):
                answer: tuple[Any, Exception | None] = self.channel.receive()
                return answer
        except (EOFError, ConnectionError) as error:
            # By SIGALRM it ends when its own clock runs out, because ours was stopped.
            if self._reap(_EXIT_SECONDS) != -signal.SIGALRM:
                raise ChildDiedError(f"child process: {self._describe_end()}") from error
        raise ChildTimeoutError(f"child process: took longer than {seconds:g} s")

    def end(self) -> None:
        """Kill it if it runs, and leave no zombie."""
        if self.parent_pid != os.getpid():
            return
        self._reap()
        if self.process.stdin is not None:
            self.process.stdin.close()
        self.channel.close()
        self.printed.close()

    def _reap(self, patience_seconds: float = 0.0) -> int:
        """Wait for its end, and after a while make it end: a zombie is nobody's."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self.process.wait(patience_seconds)
        self.process.kill()
        return self.process.wait()

    def _describe_end(self) -> str:
        code = self.process.returncode
        how = f"exit code {code}"
        if code < 0:
            how = f"signal {-code}"
            with contextlib.suppress(ValueError):
                how = signal.Signals(-code).name
        size = self.printed.seek(0, os.SEEK_END)
        self.printed.seek(max(0, size - _LAST_BYTES))
        lines = self.printed.read().decode("utf-8", "replace").splitlines()
        said = next((line.strip() for line in reversed(lines) if line.strip()), "")
        return f"ended by {how}" + (f": {said[:_MESSAGE_CHARACTERS]}" if said else "")


_ADVICE = "look for a missing module or model, or a machine without memory"
