"""What is a child told when it starts?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True, kw_only=True, slots=True)
class Work:
    """A function and its limits."""

    function: Callable[..., Any]
    """What the child calls."""
    warm_up: Callable[[], object] | None
    """What it calls once, before its limits hold."""
    memory_bytes: int
    """What it may allocate beyond what it has after `warm_up`."""
    seconds: float
    """What a call may take, on the clock."""
    errors: tuple[type[Exception], ...]
    """What the function raises that is an answer, not a death."""
