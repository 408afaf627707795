"""Does a run on Ray get over the death of any of its processes, without being started again?"""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from pipelines.annotate.config import AnnotateConfig
from tests.builders import (
    annotate_without_ray,
    encode_picture,
    make_checkpoint,
    make_config,
    make_picture,
)
from tests.pipelines.annotate.processes import NoSuchProcess, Process, find_workers
from tests.torture.apart import tell
from tests.torture.comparison import Comparison, compare_runs
from tests.torture.killer import Killer, Strike
from tests.torture.own_ray import own_ray
from tests.torture.record import Record

DETECT, READ, NODE = "detect actor killed", "read task killed", "node killed"
TITLES = {DETECT: "DetectActor", READ: "(read)"}
"""What Ray calls a process while it does this."""
_CPUS = 4
_PICTURES = 4
"""That are not alike; the bucket holds each many times, as one file with many names."""
WHEN = {DETECT: (0.05, 0.9), NODE: (0.05, 0.9), READ: (0.0, 0.1)}
"""Part of the slices that are committed when a thing is killed first and last: reading is ahead."""
_ROUNDS, _MOST_ROUNDS = 3, 12
"""Runs that share the kills, and the most that it may take."""
_LEAST_EACH = 2
"""Kills of a kind in a run."""


def write_large_pictures(folder: str, count: int) -> None:
    """Fill a folder with three megapixels a picture: to read a slice of them takes its time."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    for number in range(count):
        path = Path(folder, f"photo-{number:05d}.jpg")
        if number < _PICTURES:
            path.write_bytes(encode_picture(make_picture(number, height=1500, width=2000)))
        else:
            path.hardlink_to(Path(folder, f"photo-{number % _PICTURES:05d}.jpg"))


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
    """Kill detect actors and read tasks, so many of each, in as many runs as it takes."""
    with own_ray(_CPUS), TemporaryDirectory() as folder:
        write_large_pictures(str(Path(folder, "in")), images)
        weights = make_checkpoint(Path(folder, "weights"))
        config = make_config(folder, weights, slice_size=3, workers=2)
        strikes = {kind: partial(kill_worker, title) for kind, title in TITLES.items()}
        return torture_rounds(config, strikes, seed=seed, kills=kills)


def torture_rounds(
    config: AnnotateConfig,
    strikes: Mapping[str, Strike],
    *,
    seed: int,
    kills: int,
) -> Record:
    """Do the same run again and again, disturbed, until each kind of thing was killed so often."""
    undisturbed = f"{config.output}-undisturbed"
    annotate_without_ray(config, undisturbed)
    source, struck = random.Random(seed), Counter[str]()
    total, reread, rounds = Comparison(), 0, 0
    each = max(_LEAST_EACH, -(-kills // _ROUNDS))
    while any(struck[kind] < kills for kind in strikes):
        rounds += 1
        assert rounds <= _MOST_ROUNDS, f"only {dict(struck)} in {rounds - 1} runs"
        plan = [
            (source.uniform(*WHEN[kind]), kind)
            for kind in strikes
            for _ in range(min(kills - struck[kind], each))
        ]
        killer = Killer(strikes, plan, source)
        output = f"{config.output}-{rounds}"
        report, again = killer.disturb(replace(config, output=output))
        assert report.slices_done == report.slices
        total += compare_runs(output, undisturbed)
        reread += len(again)
        struck += killer.struck
        tell(f"run {rounds} ended well; so far: {dict(struck)}, {total}, {reread} read again")
    return Record(
        faults=dict(struck),
        rows=total.rows,
        lost=total.lost,
        doubled=total.doubled,
        reread=reread,
        notes=(f"{rounds} runs, none of them started again",),
    )
