"""What do updates hold against hours of kills? `python -m tests.pipelines.annotate.torture [MINUTES
[SEED]]`; ten minutes and seed 1 unless told.

A third of the time each: histories of a bucket against the model, updates killed at any write, and
drivers killed and paused on a real Ray. The first error ends it, with the seed that shows it again.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import hypothesis
import ray
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.builders import (
    annotate_without_ray,
    encode_picture,
    make_checkpoint,
    make_config,
    make_picture,
    write_pictures,
)
from tests.pipelines.annotate.drivers import torture_drivers
from tests.pipelines.annotate.killed import count_moments, torture_update
from tests.pipelines.annotate.update_machine import UpdateMachine

EXAMPLES = 50
"""Histories in a round."""
CPUS = 4
"""Of the Ray: a paused driver keeps one, and another one has to go on beside it."""


def torture_histories(folder: Path, seed: int) -> None:
    """Fifty histories of twenty steps: changes of the bucket, commands, kills."""
    checkpoint = make_checkpoint(folder / "weights")
    machine = type("Machine", (UpdateMachine,), {"checkpoint": checkpoint})
    many = settings(
        max_examples=EXAMPLES,
        stateful_step_count=20,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(hypothesis.seed(seed)(machine), settings=many)


def torture_updates(folder: Path, seed: int) -> None:
    """Three updates one after the other, each killed five times."""
    (folder / "in").mkdir()
    for number in range(30):
        data = encode_picture(make_picture(number, height=8, width=8))
        (folder / "in" / f"{number:06d}.jpg").write_bytes(data)
    config = make_config(str(folder), make_checkpoint(folder / "weights"), slice_size=3)
    count_moments(config)
    for update in range(3):
        torture_update(config, kills=5, seed=1000 * seed + update)


def torture_cluster(folder: Path, seed: int) -> None:
    """One update on Ray, whose driver is killed three times, paused once, and relieved."""
    write_pictures(str(folder / "in"), 24)
    config = make_config(str(folder), make_checkpoint(folder / "weights"), slice_size=2)
    stages = annotate_without_ray(config, config.output)
    write_pictures(str(folder / "in"), 20, start=50)
    for number in (1, 2):
        (folder / "in" / f"photo-{number:03d}.jpg").unlink()
    torture_drivers(config, stages, folder / "log", kills=3, seed=seed, pause=True)


def repeat(torture: Callable[[Path, int], None], *, minutes: float, seed: int) -> int:
    """Do rounds of one kind until the time is up; returns how many."""
    rounds, deadline = 0, time.monotonic() + 60 * minutes
    while time.monotonic() < deadline:
        with tempfile.TemporaryDirectory() as folder:
            try:
                torture(Path(folder), seed + rounds)
            except BaseException:
                sys.stderr.write(f"{torture.__name__} failed with seed {seed + rounds}\n")
                raise
        rounds += 1
    return rounds


def main() -> None:
    """Torture for some minutes."""
    minutes, seed = (*map(float, sys.argv[1:]), *(10.0, 1.0)[len(sys.argv) - 1 :])
    os.environ |= {"RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"}
    ray.init(num_cpus=CPUS, num_gpus=0, include_dashboard=False, log_to_driver=False)
    for torture in (torture_histories, torture_updates, torture_cluster):
        rounds = repeat(torture, minutes=minutes / 3, seed=int(seed))
        sys.stdout.write(f"{torture.__name__}: {rounds} rounds, all well\n")


if __name__ == "__main__":
    main()
