"""What stands in for stdin, stdout and stderr where they were closed before the start?"""

from __future__ import annotations

import os
import sys
from typing import Final

_STDERR: Final = 2


def fill_closed_streams() -> None:
    """Put nothing in the place of closed streams, as by `2>&-`.

    The next files that are opened would get their numbers, and whatever libraries print there.
    """
    for number in range(_STDERR + 1):
        try:
            os.fstat(number)
        except OSError:
            _fill(number)
    if sys.stderr is None:
        sys.stderr = open(_STDERR, "w", encoding="utf-8", closefd=False)  # noqa: SIM115


def _fill(number: int) -> None:
    # The lowest number that is free, which is this one unless another thread was faster.
    nowhere = os.open(os.devnull, os.O_RDWR)
    if nowhere != number:
        os.dup2(nowhere, number)
        os.close(nowhere)
    # As streams are: whoever is started here has the same fault.
    os.set_inheritable(number, True)
