"""Functions in processes of their own: with a Ray of their own, and memory that is theirs alone.

What such a process and its libraries say goes to a file, and is shown only if it fails; what it is
to be heard with goes through `tell`, also from a process within a process.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

_Args = ParamSpec("_Args")
_Result = TypeVar("_Result")
_LEAVE_S = 60.0
"""Until a process whose function has ended must be gone, and its Ray with it."""
_LOG_CHARACTERS = 3000
"""Of the end of what it said, shown if it fails."""
_TOLD, _RESULT, _FAILURE = "told", "result", "failure"


class ApartError(Exception):
    """A function failed in a process of its own, ended it, or took too long."""


class _Voice:
    """Where this process is heard: by who started it, else on stderr."""

    def __init__(self) -> None:
        self.sender: Connection | None = None
        self._lock = threading.Lock()

    def send(self, kind: str, value: object) -> None:
        with self._lock:
            if self.sender is not None:
                self.sender.send((kind, value))
            elif kind == _TOLD:
                sys.stderr.write(f"{time.strftime('%H:%M:%S')} {value}\n")
                sys.stderr.flush()


_voice = _Voice()


def tell(line: str) -> None:
    """Say what is being done."""
    _voice.send(_TOLD, line)


def run_apart(
    function: Callable[_Args, _Result], *args: _Args.args, **options: _Args.kwargs
) -> _Result:
    """Call a function in a fresh process, as long as it takes."""
    return run_limited(function, None, *args, **options)


def run_limited(
    function: Callable[_Args, _Result],
    limit_s: float | None,
    *args: _Args.args,
    **options: _Args.kwargs,
) -> _Result:
    """Call a function in a fresh process, which leaves nothing running whatever happens.

    Args:
        function: What to call, as it can be imported.
        limit_s: Seconds after which it is killed with all that it started; None for no limit.
        args: Its arguments.
        options: Its named arguments.

    Returns:
        What it returns.

    Raises:
        ApartError: If it failed; the words are those of its traceback and the end of its log.
    """
    processes = multiprocessing.get_context("spawn")
    receiver, sender = processes.Pipe(duplex=False)
    with tempfile.NamedTemporaryFile(prefix="torture-", suffix=".log") as log:
        call = (function, args, options)
        process = processes.Process(target=_call, args=(sender, log.name, call))
        process.start()
        sender.close()
        leave_s = 0.0
        try:
            result: _Result = _receive(receiver, Path(log.name), limit_s)
            leave_s = _LEAVE_S
        finally:
            _end(process, leave_s)
    return result


def _call(sender: Connection, log: str, call: tuple[Callable[..., object], Any, Any]) -> None:
    _voice.sender = sender
    with Path(log).open("ab") as file:
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)
    function, args, options = call
    try:
        _voice.send(_RESULT, function(*args, **options))
    except BaseException:  # noqa: BLE001 (it is raised where the function was called)
        _voice.send(_FAILURE, traceback.format_exc())


def _receive(receiver: Connection, log: Path, limit_s: float | None) -> Any:
    deadline = None if limit_s is None else time.monotonic() + limit_s
    while receiver.poll(None if deadline is None else max(0, deadline - time.monotonic())):
        try:
            kind, value = receiver.recv()
        except EOFError:
            raise ApartError(f"its process died; it said:\n{_tail(log)}") from None
        if kind == _RESULT:
            return value
        if kind == _FAILURE:
            raise ApartError(f"{value}\nit said:\n{_tail(log)}")
        tell(value)
    raise ApartError(f"not done after {limit_s:g} s; it said:\n{_tail(log)}")


def _tail(log: Path) -> str:
    return log.read_text(errors="replace")[-_LOG_CHARACTERS:]


def _end(process: SpawnProcess, leave_s: float) -> None:
    """Let a process leave with all that it started, and kill what is left of them."""
    # Not above: what is started here would import Ray before it has begun.
    from tests.pipelines.annotate.processes import find_family, kill_all

    others = find_family(process.pid)[1:]
    process.join(leave_s)
    process.kill()
    process.join()
    kill_all(others)
