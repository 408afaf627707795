"""Functions that a child process may not survive. It imports them from here, by name.

NumPy is imported where it is used: most children do without, and start in a third of the time.
"""

from __future__ import annotations

import ctypes
import os
import re
import signal
import time
from pathlib import Path

from pipelines.errors import ImageError, ImageReason

TIMES = {"warmed up": 0}


def give_back(value):
    return value


def tell_pid():
    return os.getpid()


def print_and_give_back(text):
    os.write(1, text.encode())
    os.write(2, text.encode())
    return text


def segfault():
    ctypes.string_at(0)


def leave(code):
    os._exit(code)


def abort_with_a_message():
    os.write(2, b"first line\nfree(): invalid pointer\n")
    os.abort()


def allocate_python_objects():
    hoard = []
    while True:
        hoard.append([0] * 100_000)


def allocate_untouched_pages():
    import numpy as np

    return [np.empty(2**24, np.uint8) for _ in range(10_000)]


def allocate_by_malloc():
    """As a C library that does not look whether it got its memory."""
    libc = ctypes.CDLL(None)
    libc.malloc.restype = ctypes.c_void_p
    while True:
        ctypes.memset(libc.malloc(ctypes.c_size_t(2**24)), 1, 2**24)


def fill_bytes(n_bytes):
    import numpy as np

    return int(np.ones(n_bytes, np.uint8)[::4096].sum())


def sleep(seconds):
    time.sleep(seconds)
    return seconds


def loop_in_python():
    while True:
        pass


def loop_in_c():
    """Without ever letting go of the interpreter's lock."""
    re.match(r"(a+)+b", "a" * 64)


def loop_deaf():
    """With every signal ignored that can be."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    loop_in_python()


def refuse(message):
    raise ImageError(ImageReason.CORRUPT, message)


def raise_value_error():
    raise ValueError("nobody thought of this")


def die_until(path, times):
    """Die as many times, counted by the bytes of a file, then live."""
    with Path(path).open("ab") as file:
        file.write(b"x")
    if Path(path).stat().st_size <= times:
        os._exit(1)
    return "lived"


def count_then_loop(path):
    with Path(path).open("ab") as file:
        file.write(b"x")
    loop_in_python()


def warm_up():
    TIMES["warmed up"] += 1


def fail_to_warm_up():
    raise FileNotFoundError("no such model")


def count_warm_ups():
    return TIMES["warmed up"]


def call(name, *args):
    """Call one of these functions: for one child that does several."""
    return globals()[name](*args)


def warm_up_slowly():
    time.sleep(0.6)
    TIMES["warmed up"] += 1


def hold_more_than_the_limit():
    import numpy as np

    HELD.append(np.ones(150 * 2**20, np.uint8))


HELD = []


def import_numpy():
    import numpy  # noqa: F401
