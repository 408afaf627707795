"""How does the decoder take the full corpus? `python -m tests.torture --only hostile` asks.

Every file is decoded in a child process, in which it is measured. A fault is a verdict that is not
right for a file, a killed process, or more than the share of any file.
"""

from __future__ import annotations

from pipelines.images import ImageLimits
from pipelines.isolation import ChildDiedError, ChildTimeoutError, Isolated
from tests.hostile.corpus import HostileFile
from tests.hostile.measure import Cost, decode_and_measure

MAX_SECONDS = 30.0
"""Of the processor, for any file within the default limits."""
MAX_PEAK_BYTES = 3 * 2**30
"""For any file within the default limits; 150 megapixels of WebP take 2.3 GB."""
LIMITS = ImageLimits()


def find_fault(file: HostileFile, cost: Cost) -> str | None:
    """Say what is wrong with a decoding, if anything is."""
    if cost.verdict not in file.verdicts:
        return f"gave {cost.verdict}, expected {' or '.join(sorted(file.verdicts))}"
    if cost.seconds > MAX_SECONDS:
        return f"took {cost.seconds:.1f} s, expected at most {MAX_SECONDS:g}"
    if cost.peak_bytes > MAX_PEAK_BYTES:
        return f"took {cost.peak_bytes / 2**20:.0f} MB, expected at most {MAX_PEAK_BYTES / 2**20:g}"
    return None


def decode_all(files: list[HostileFile]) -> tuple[dict[str, Cost], dict[str, str]]:
    """Decode every file: what each cost, and the faults that were found."""
    costs: dict[str, Cost] = {}
    faults: dict[str, str] = {}
    with Isolated(decode_and_measure, memory_bytes=6 * 2**30, seconds=300) as child:
        for file in files:
            try:
                costs[file.name] = child(file.write(), LIMITS)
            except (ChildDiedError, ChildTimeoutError) as error:
                faults[file.name] = str(error)
                continue
            if fault := find_fault(file, costs[file.name]):
                faults[file.name] = fault
    return costs, faults


def describe(costs: dict[str, Cost]) -> tuple[str, str]:
    """Name the slowest and the hungriest."""
    slow, hungry = (
        max(costs.items(), key=lambda item, cost=cost: getattr(item[1], cost))
        for cost in ("seconds", "peak_bytes")
    )
    return (
        f"the slowest took {slow[1].seconds:.1f} s of the processor ({slow[0]})",
        f"the hungriest took {hungry[1].peak_bytes / 2**20:.0f} MiB ({hungry[0]})",
    )
