"""Which fault strikes which request? A function of the seed and the request, not of the timing.

The n-th request for the same thing meets the same fault with the same seed, in whatever order many
threads or processes make their requests: a failure that was seen once can be seen again.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, fields
from enum import StrEnum


class Fault(StrEnum):
    """What can happen to a request."""

    SLOW_DOWN = "slow_down"
    """503 with the XML of S3's throttling."""

    INTERNAL_ERROR = "internal_error"
    """500 with the XML of S3's own failures."""

    RESET = "reset"
    """The connection is reset (RST) where the answer should begin."""

    RESET_MIDWAY = "reset_midway"
    """The connection is reset in the middle of the object, sent or received."""

    CUT_BODY = "cut_body"
    """Less is sent than Content-Length says, then the connection is closed in good order."""

    STALL = "stall"
    """Nothing moves for `FaultRates.stall_s`, then it goes on as if nothing had been."""

    EXPIRED_TOKEN = "expired_token"
    """400 with the XML for temporary credentials that are past their time."""


class Operation(StrEnum):
    """What a request is for."""

    GET = "get"
    PUT = "put"
    HEAD = "head"
    LIST = "list"
    DELETE = "delete"
    MULTIPART = "multipart"
    OTHER = "other"
    """Making buckets and the like, which never meet a fault."""


WRITES = frozenset({Operation.PUT, Operation.DELETE, Operation.MULTIPART})
"""What changes the store, so that it matters whether a fault comes before or after."""

_WITHOUT_BODY = frozenset({Operation.HEAD, Operation.DELETE})
_ONLY_BEFORE = frozenset({Fault.EXPIRED_TOKEN})
_ONLY_AFTER = frozenset({Fault.CUT_BODY})


@dataclass(frozen=True, kw_only=True, slots=True)
class FaultRates:
    """The share of the requests that each fault strikes; no request meets two."""

    slow_down: float = 0.0
    """Share answered 503, in [0, 1]."""

    internal_error: float = 0.0
    """Share answered 500, in [0, 1]."""

    reset: float = 0.0
    """Share whose connection is reset before an answer, in [0, 1]."""

    reset_midway: float = 0.0
    """Share whose connection is reset in the middle of a body, in [0, 1]."""

    cut_body: float = 0.0
    """Share whose answer is shorter than announced, in [0, 1]; HEAD and DELETE have no body."""

    stall: float = 0.0
    """Share that stalls, in [0, 1]."""

    stall_s: float = 1.0
    """Seconds that a stall takes, at least 0."""

    after: float = 0.5
    """Share of the faults on a write that come after it was carried out: the answer is lost."""

    def __post_init__(self) -> None:
        shares = [getattr(self, field.name) for field in fields(self) if field.name != "stall_s"]
        total = sum(self.of(fault) for fault in _BY_RATE)
        if min(*shares, self.stall_s) < 0 or self.after > 1 or total > 1:
            raise ValueError(f"{self}: expected shares in [0, 1] that add up to at most 1")

    def of(self, fault: Fault) -> float:
        """Give the share of one fault."""
        return float(getattr(self, fault.value))


_BY_RATE = tuple(fault for fault in Fault if fault is not Fault.EXPIRED_TOKEN)

PLAN_RATES = FaultRates(slow_down=0.05, reset=0.01, reset_midway=0.01, cut_body=0.02, stall=0.01)
"""A bad day: 5 % throttled, 2 % reset, 2 % cut short, 1 % stalled. Assumed, worse than a day that
AWS would call available."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Injection:
    """One fault, and where in the request it strikes."""

    fault: Fault
    """What happens."""

    after: bool = False
    """Of a write: once it was carried out. Of a read: when the answer has begun."""

    share: float = 0.5
    """The share of the body that passes before a fault in its middle, in [0, 1)."""


def choose_injection(
    rates: FaultRates, operation: Operation, identity: str, seed: int
) -> Injection | None:
    """Draw what happens to a request.

    Args:
        rates: the shares to draw with.
        operation: what the request is for.
        identity: what it asks for, and for the how many-th time.
        seed: another one gives other faults.

    Returns:
        The fault, None if the request passes.
    """
    generator = random.Random(f"{seed} {identity}")
    draw, after, share = (generator.random() for _ in range(3))
    if operation is Operation.OTHER:
        return None
    for fault in _BY_RATE:
        draw -= rates.of(fault)
        if draw < 0:
            return place_fault(fault, operation, after=after < rates.after, share=share)
    return None


def place_fault(
    fault: Fault, operation: Operation, *, after: bool, share: float = 0.5
) -> Injection | None:
    """Say where a fault strikes, None where it cannot."""
    if fault is Fault.CUT_BODY and operation in _WITHOUT_BODY:
        return None
    after = (after or fault in _ONLY_AFTER) and fault not in _ONLY_BEFORE
    return Injection(fault=fault, after=after, share=share)
