"""How does the decoder take the full corpus? `python -m tests.hostile.torture [SEED]`, a minute.

Every file is decoded in a child process, in which it is measured. The exit code is 1 if any gave a
verdict that is not right for it, killed its process, or took more than its share.
"""

from __future__ import annotations

import sys
from collections import Counter

from pipelines.images import ImageLimits
from pipelines.isolation import ChildDiedError, ChildTimeoutError, Isolated
from tests.hostile.corpus import HostileFile, list_all
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


def describe(costs: dict[str, Cost], faults: dict[str, str]) -> str:
    """Write the report: counts per verdict, the slowest, the hungriest, the faults."""
    counts = Counter(cost.verdict for cost in costs.values())
    lines = [f"{len(costs)} files decoded", ""]
    lines += [f"{count:6} {verdict}" for verdict, count in counts.most_common()]
    lines += ["", "slowest, seconds of the processor"]
    slowest = sorted(costs.items(), key=lambda item: -item[1].seconds)[:5]
    lines += [f"{cost.seconds:6.2f} {name}" for name, cost in slowest]
    lines += ["", "hungriest, MB at the peak"]
    hungriest = sorted(costs.items(), key=lambda item: -item[1].peak_bytes)[:5]
    lines += [f"{cost.peak_bytes / 2**20:6.0f} {name}" for name, cost in hungriest]
    lines += ["", f"{len(faults)} faults", *(f"{name}: {fault}" for name, fault in faults.items())]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Torture the decoder with the corpus of one seed."""
    seed = int(sys.argv[1]) if len(sys.argv) > 1 else 1
    costs, faults = decode_all(list_all(seed))
    sys.stdout.write(describe(costs, faults))
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
