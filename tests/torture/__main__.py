"""What does annotation hold against everything at once? `python -m tests.torture`, two hours.

Each part has a process of its own and kills only what it started. The exit code is 1 if any failed;
what failed is shown with the seed that shows it again.
"""

from __future__ import annotations

import math
import os
import shlex
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import tyro

from tests.torture.apart import ApartError, run_limited, tell
from tests.torture.big_pictures import torture_big_pictures
from tests.torture.contests import torture_contests
from tests.torture.deadly import torture_deadly
from tests.torture.drivers import torture_all_drivers
from tests.torture.fuzz import torture_decoder
from tests.torture.hostile import torture_files
from tests.torture.keys import torture_keys
from tests.torture.nodes import torture_nodes
from tests.torture.outages import torture_outages
from tests.torture.record import Outcome, Record
from tests.torture.report import align, name_commit, tabulate, write_page
from tests.torture.scale import torture_scale
from tests.torture.secrets import torture_secrets
from tests.torture.storage import torture_store
from tests.torture.tars import torture_tars
from tests.torture.training import torture_trainings
from tests.torture.updates import torture_histories, torture_updates
from tests.torture.workers import torture_workers

_LIMIT_S = 3600
"""Until a part counts as hanging; `scale` may take as long as its largest size."""


@dataclass(frozen=True, slots=True)
class Part:
    """One kind of torture."""

    function: Callable[..., Record]
    """Takes the seed, and the sizes by name."""
    sizes: Mapping[str, int] = field(default_factory=dict)
    """How many faults, or what they are injected into, at `--share 1`."""


PARTS: dict[str, Part] = {
    "storage": Part(torture_store, {"objects": 3200, "images": 100}),
    "contests": Part(torture_contests, {"contests": 12}),
    "outages": Part(torture_outages, {"outages": 40}),
    "keys": Part(torture_keys, {"names": 120}),
    "updates": Part(torture_updates, {"kills": 30}),
    "histories": Part(torture_histories, {"histories": 80}),
    "drivers": Part(torture_all_drivers, {"kills_each": 20}),
    "workers": Part(torture_workers, {"kills": 60}),
    "nodes": Part(torture_nodes, {"kills": 60}),
    "tars": Part(torture_tars, {"kills": 40}),
    "secrets": Part(torture_secrets, {"rounds": 2}),
    "deadly": Part(torture_deadly, {"each": 6}),
    "hostile": Part(torture_files),
    "decoder": Part(torture_decoder, {"inputs": 20_000}),
    "big-pictures": Part(torture_big_pictures, {"images": 256}),
    "scale": Part(torture_scale),
    "training": Part(torture_trainings, {"kills": 28}),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class TortureConfig:
    """What to torture, and how."""

    seed: int = 1
    """Of the faults and of the moments."""
    only: tuple[str, ...] = ()
    """Names of parts: storage contests outages keys updates histories drivers workers nodes tars
    secrets deadly hostile decoder big-pictures scale training; all if none."""
    share: float = 1.0
    """Part of the usual faults to inject, above 0; `hostile` and `scale` are always whole."""
    largest: int = 1_000_000
    """Largest size of the part `scale`, in images; 10000000 takes half an hour more."""
    write: Path | None = None
    """Page to bring up to date with what came of each part."""

    def __post_init__(self) -> None:
        if unknown := set(self.only) - PARTS.keys():
            raise ValueError(f"--only: received {sorted(unknown)}, expected some of {list(PARTS)}")
        if not 0 < self.share < math.inf:
            raise ValueError(f"--share: received {self.share}, expected a number above 0")


def torture(name: str, config: TortureConfig) -> Outcome:
    """Do one part in a process of its own.

    Args:
        name: A key of `PARTS`.
        config: Seed and largest size.

    Returns:
        How it ended.
    """
    part, limit_s = PARTS[name], _LIMIT_S * max(1, config.share)
    sizes = {size: max(1, round(count * config.share)) for size, count in part.sizes.items()}
    if part.function is torture_scale:
        sizes, limit_s = {"largest": config.largest}, None
    tell(f"{name}, seed {config.seed}{''.join(f', {n:,} {size}' for size, n in sizes.items())}")
    started = time.monotonic()
    record, failure = None, ""
    try:
        record = run_limited(part.function, limit_s, config.seed, **sizes)
        failure = "" if record.is_well else f"rows or images are wrong: {record}"
    except ApartError as error:
        failure = str(error)
    outcome = Outcome(
        part=name,
        seed=config.seed,
        seconds=time.monotonic() - started,
        record=record,
        failure=failure,
    )
    tell(f"{name} {'FAILED' if failure else 'ended well'} after {outcome.seconds:,.0f} s")
    return outcome


def forget_environment() -> None:
    """Let nothing lead to another cluster or to a store outside this machine."""
    for name in [name for name in os.environ if name.startswith(("AWS_", "FSSPEC_", "RAY_"))]:
        del os.environ[name]
    os.environ |= {
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
        "NO_PROXY": "127.0.0.1,localhost",
        "RAY_AUTH_MODE": "disabled",
        "RAY_ENABLE_AUTO_CONNECT": "0",
        "RAY_USAGE_STATS_ENABLED": "0",
    }
    # Ray Data warns of a lost driver at each start of an actor pool.
    os.environ["RAY_BACKEND_LOG_LEVEL"] = "fatal"


def show_failures(outcomes: Sequence[Outcome]) -> None:
    """Say on stderr what went wrong, with the command that shows it again.

    Args:
        outcomes: Of all parts.
    """
    for outcome in outcomes:
        if outcome.failure:
            command = f"python -m tests.torture --only {outcome.part} --seed {outcome.seed}"
            sys.stderr.write(f"\n{outcome.part} FAILED ({command}):\n{outcome.failure}\n")


def describe_command(config: TortureConfig) -> str:
    """Write the command that does the same again, without the page's own path.

    Args:
        config: What was asked for.

    Returns:
        A line for a shell.
    """
    words = ["python", "-m", "tests.torture", "--seed", str(config.seed)]
    words += ["--only", *config.only] if config.only else []
    words += ["--share", f"{config.share:g}"] if config.share != 1 else []
    return shlex.join([*words, "--largest", str(config.largest)])


def main() -> int:
    """Torture.

    Returns:
        The exit code.
    """
    config = tyro.cli(TortureConfig, description=__doc__)
    forget_environment()
    # Now: the page that is written would make its own commit another one.
    name_commit()
    outcomes = []
    for name in config.only or PARTS:
        outcomes.append(torture(name, config))
        # After each part: what has been found out outlives a program that is stopped.
        if config.write:
            write_page(config.write, outcomes[-1:], describe_command(config))
    sys.stdout.write(align(tabulate(outcomes)))
    show_failures(outcomes)
    return any(outcome.failure for outcome in outcomes)


if __name__ == "__main__":
    sys.exit(main())
