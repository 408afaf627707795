"""What does decoding one file take? Runs in a child process, whose own memory it measures."""

from __future__ import annotations

import ctypes
import time
from dataclasses import dataclass
from pathlib import Path

from pipelines.images import ImageLimits
from tests.hostile.verdict import judge

_STATUS = Path("/proc/self/status")


@dataclass(frozen=True, kw_only=True, slots=True)
class Cost:
    """One decoding."""

    verdict: str
    """`ok` or the reason."""
    seconds: float
    """Of the processor: a busy machine makes no difference."""
    peak_bytes: int
    """Resident memory at its peak beyond what was there before, the encoded file left out."""


def _read_status(field: str) -> int:
    return int(_STATUS.read_text("ascii").partition(f"{field}:")[2].split()[0]) * 1024


def decode_and_measure(data: bytes, limits: ImageLimits) -> Cost:
    """Decode a file and say what that took."""
    ctypes.CDLL(None).malloc_trim(0)  # what the last file left would hide what this one takes
    Path("/proc/self/clear_refs").write_text("5", "ascii")  # forget the peak
    before = _read_status("VmRSS")
    started = time.process_time()
    verdict = judge(data, limits)
    return Cost(
        verdict=verdict,
        seconds=time.process_time() - started,
        peak_bytes=max(0, _read_status("VmHWM") - before),
    )
