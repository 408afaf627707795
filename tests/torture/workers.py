"""Does a run on Ray get over the death of any of its processes, without being started again?"""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from pipelines.annotate.config import AnnotateConfig
from tests.builders import make_checkpoint, make_config
from tests.pipelines.annotate.processes import NoSuchProcess, Process, find_workers
from tests.torture.apart import tell
from tests.torture.comparison import Comparison, compare_runs
from tests.torture.killer import Killer, Strike
from tests.torture.own_ray import own_ray
from tests.torture.record import Record
from tests.torture.scenarios import KINDS, UPDATE, live_through, write_large_pictures

DETECT, READ, NODE = "detect actor", "read task", "node"
TITLES = {DETECT: "DetectActor)).", READ: "(read)"}
"""What Ray calls a process while it does this; an idle detect actor has no dot."""
_CPUS = 4
WHEN = {DETECT: (0.05, 0.9), NODE: (0.05, 0.9), READ: (0.0, 0.1)}
"""Part of the slices that are committed when a thing is killed first and last: reading is ahead."""
_MOST_ROUNDS = 6
"""Runs of a kind that it may take."""


def kill_worker(title: str, source: random.Random, mark: Callable[[], None]) -> bool:
    """SIGKILL one process of this program's own Ray that does this now, if there is any."""
    found: list[Process] = find_workers(os.getpid(), title)
    if not found:
        return False
    try:
        source.choice(found).kill()
    except NoSuchProcess:
        return False
    mark()
    return True


def torture_workers(seed: int, *, kills: int, images: int = 240) -> Record:
    """Kill detect actors and read tasks, so many of each, in runs of each kind."""
    with own_ray(_CPUS), TemporaryDirectory() as folder:
        config = prepare_bucket(folder, images)
        strikes = {victim: partial(kill_worker, title) for victim, title in TITLES.items()}
        return torture_rounds(config, strikes, seed=seed, kills=kills)


def prepare_bucket(folder: str, images: int, *, workers: int = 2) -> AnnotateConfig:
    """Fill a bucket that takes its time; gives the command of a first run over it."""
    write_large_pictures(str(Path(folder, "in")), images)
    weights = make_checkpoint(Path(folder, "weights"))
    return make_config(folder, weights, slice_size=3, workers=workers)


def torture_rounds(
    config: AnnotateConfig,
    strikes: Mapping[str, Strike],
    *,
    seed: int,
    kills: int,
    kinds: Sequence[str] = KINDS,
) -> Record:
    """Disturb commands of each kind until each victim was killed so often, by a fair share each."""
    source, struck = random.Random(seed), Counter[str]()
    total, reread, rounds = Comparison(), 0, 0
    each = -(-kills // len(kinds))
    for scenario in live_through(config, kinds):
        of_kind = Counter[str]()
        for number in range(_MOST_ROUNDS):
            plan = _plan(strikes, source, {victim: each - of_kind[victim] for victim in strikes})
            if not plan:
                break
            killer = Killer(strikes, plan, source)
            output = f"{config.output}-{scenario.kind.replace(' ', '-')}-{number}"
            report, again = killer.disturb(scenario, output)
            assert report.slices_done > 1
            total += compare_runs(output, scenario.undisturbed)
            reread += len(again)
            of_kind += killer.struck
            rounds += 1
            tell(f"{scenario.kind}: {dict(of_kind)}, {total}, {reread} read again so far")
        assert min(of_kind[victim] for victim in strikes) >= each, f"only {dict(of_kind)}"
        struck += Counter(
            {f"{victim} killed in {_a(scenario.kind)}": count for victim, count in of_kind.items()}
        )
    return Record(
        faults=dict(struck),
        rows=total.rows,
        lost=total.lost,
        doubled=total.doubled,
        reread=reread,
        notes=(f"{rounds} commands, none of them started again",),
    )


def _plan(
    strikes: Mapping[str, Strike], source: random.Random, left: Mapping[str, int]
) -> list[tuple[float, str]]:
    """Draw the moments of a command's kills."""
    return [
        (source.uniform(*WHEN[victim]), victim) for victim in strikes for _ in range(left[victim])
    ]


def _a(kind: str) -> str:
    return f"{'an' if kind == UPDATE else 'a'} {kind}"
