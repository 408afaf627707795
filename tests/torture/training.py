"""Does a training end with the same weights, bit for bit, whenever its processes are killed?

Whole processes without Ray, and drivers of Ray, started again by the same call or command; workers
of Ray Train, which must be replaced without anybody's help; and their decoding processes, which
their workers must replace. Moments are drawn from the seed, from the start to the last write.
"""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import count, cycle
from pathlib import Path
from tempfile import TemporaryDirectory

import safetensors.torch
import torch

from pipelines.training.config import TrainConfig, ValidationConfig
from pipelines.training.journal import read_journal
from pipelines.training.run import train
from tests.builders import write_scenes
from tests.pipelines.annotate.processes import NoSuchProcess, Process, find_workers
from tests.pipelines.training.drivers import kill_anywhere, kill_at_work, start_driver
from tests.pipelines.training.side_by_side import processes
from tests.pipelines.training.tiny_training import make_train_config, train_here
from tests.torture.apart import tell
from tests.torture.comparison import Comparison
from tests.torture.own_ray import own_ray
from tests.torture.record import Record

PROCESS, WORKER = "training process killed", "training worker killed"
DRIVER, DECODER = "training driver killed", "decoding process killed"
_CPUS = 2
_KILLS_EACH = 3
"""In one training."""
_PAUSE_S = 3.0
"""Longest time from a worker's start to its death."""
_START_S = 10.0
"""Assumed: until a driver has started and its worker learns."""
_WORK_S = 1.0
"""Longest time from a state that a driver's worker has saved to the driver's death."""
_EARLY = 0.3
"""Part of the drivers that are killed at any moment of their start."""
_PATIENCE_S = 120.0


def torture_trainings(seed: int, *, kills: int) -> Record:
    """Kill a quarter each of whole processes, workers of Ray Train, their decoders, and drivers."""
    source = random.Random(seed)
    with TemporaryDirectory() as name:
        trainings = cycle([_prepare(config) for config in make_configs(Path(name))])
        numbers, total = count(), Comparison()
        struck = {PROCESS: 0, WORKER: 0, DECODER: 0, DRIVER: 0}
        for place, kind in enumerate(struck):
            wanted = (kills + len(struck) - 1 - place) // len(struck)
            while struck[kind] < wanted:
                training = next(trainings)
                several = min(_KILLS_EACH, wanted - struck[kind])
                output = f"{training.config.output}-{next(numbers)}"
                disturbed = replace(training.config, output=output)
                struck[kind] += _STRIKES[kind](disturbed, several, source, longest=training.seconds)
                total += compare_trainings(output, training.config.output)
                tell(f"{struck[kind]} of {wanted} x {kind}; so far: {total}")
    return Record(
        faults=struck,
        rows=total.rows,
        lost=total.lost,
        doubled=total.doubled,
        notes=("rows are tensors of the checkpoint, and steps that are written down",),
    )


@dataclass(frozen=True, slots=True)
class Undisturbed:
    """A training that ran through."""

    config: TrainConfig
    """What it was."""
    seconds: float
    """Wall time."""


def _prepare(config: TrainConfig) -> Undisturbed:
    started = time.monotonic()
    train_here(config)
    return Undisturbed(config, time.monotonic() - started)


def make_configs(folder: Path) -> tuple[TrainConfig, ...]:
    """Trainings of some seconds that save all the time.

    One measures, one draws dropout masks, and the windows of one are told by the lower scale.
    """
    scenes = write_scenes(folder / "scenes", 10)
    held_out = write_scenes(folder / "held-out", 4, split="validation")
    settings = {"checkpoint_steps": 2, "log_steps": 1}
    return (
        make_train_config(
            scenes,
            folder / "classify",
            task="classify",
            recipe={"epochs": 12},
            held_out=ValidationConfig(validation=held_out),
            **settings,
        ),
        make_train_config(
            scenes,
            folder / "joint",
            recipe={"epochs": 8, "dropout": 0.5},
            decoders=1,
            **settings,
        ),
        make_train_config(
            scenes,
            folder / "detect",
            task="detect",
            context=True,
            recipe={"epochs": 8},
            **settings,
        ),
    )


def kill_processes(
    config: TrainConfig, kills: int, source: random.Random, *, longest: float
) -> int:
    """Kill a training again and again, and let it end; says how often it was still at work."""
    struck = 0
    for _ in range(kills):
        process = processes.Process(target=train_here, args=(config,))
        process.start()
        # From run to run less is left.
        process.join(source.uniform(0, longest / kills))
        struck += process.is_alive()
        process.kill()
        process.join()
    train_here(config)
    return struck


def kill_workers(config: TrainConfig, kills: int, source: random.Random, *, longest: float) -> int:
    """Kill Ray's workers while a training runs; says how often one was there."""
    del longest  # in which no time for Ray's own start is counted
    return _train_and_kill(config, kills, source, _list_workers)


def kill_decoders(config: TrainConfig, kills: int, source: random.Random, *, longest: float) -> int:
    """Kill what decodes for Ray's workers, which then stay; says how often one was there."""
    del longest  # as above
    # A third death at one step would be taken for no accident.
    kills, config = min(kills, 2), replace(config, decoders=2)
    workers: set[int] = set()

    def find() -> list[Process]:
        workers.update(one.pid for one in _list_workers())
        return _list_decoders()

    struck = _train_and_kill(config, kills, source, find)
    assert len(workers) == 1, f"{len(workers)} workers where one had to go on"
    return struck


def _train_and_kill(
    config: TrainConfig, kills: int, source: random.Random, find: Callable[[], list[Process]]
) -> int:
    killed: list[int] = []
    ended = threading.Event()
    with own_ray(_CPUS):
        killer = threading.Thread(target=_kill, args=(kills, source, killed, ended, find))
        killer.start()
        try:
            train(config, lambda moment: None)
        finally:
            ended.set()
            killer.join()
    return len(killed)


def _kill(
    kills: int,
    source: random.Random,
    killed: list[int],
    ended: threading.Event,
    find: Callable[[], list[Process]],
) -> None:
    def find_new() -> list[Process]:
        return [one for one in find() if one.pid not in killed]

    while len(killed) < kills and not ended.is_set():
        if not _wait(find_new, ended):
            return
        ended.wait(source.uniform(0, _PAUSE_S))
        for process in find_new()[:1]:
            try:
                process.kill()
            except NoSuchProcess:
                continue
            killed.append(process.pid)


def _list_workers() -> list[Process]:
    return find_workers(os.getpid(), "TrainWorker")


def _list_decoders() -> list[Process]:
    decoders = []
    for worker in _list_workers():
        with suppress(NoSuchProcess):
            children = worker.children()
            decoders += [one for one in children if "spawn_main" in " ".join(one.cmdline())]
    return decoders


def _wait(is_there: Callable[[], object], ended: threading.Event) -> bool:
    deadline = time.monotonic() + _PATIENCE_S
    while time.monotonic() < deadline and not ended.is_set():
        if is_there():
            return True
        ended.wait(0.02)
    return False


def kill_drivers(config: TrainConfig, kills: int, source: random.Random, *, longest: float) -> int:
    """Kill the whole command again and again, and let it end; says how often it was at work."""
    del longest  # as above
    log = Path(f"{config.output}.log")
    struck = 0
    with own_ray(_CPUS):
        for _ in range(kills):
            if source.random() < _EARLY:
                struck += kill_anywhere(config, log, source, pause_s=_START_S)
            else:
                struck += kill_at_work(config, log, source, pause_s=_WORK_S)
        with start_driver(config, log) as driver:
            assert driver.wait() == 0, log.read_text()
    return struck


_STRIKES = {
    PROCESS: kill_processes,
    WORKER: kill_workers,
    DECODER: kill_decoders,
    DRIVER: kill_drivers,
}


def compare_trainings(output: str, undisturbed: str) -> Comparison:
    """Compare the weights bit for bit, and which steps are written down how often."""
    found, wanted = (
        safetensors.torch.load_file(Path(folder, "model.safetensors"))
        for folder in (output, undisturbed)
    )
    different = [
        name
        for name in found.keys() | wanted.keys()
        if name not in found or name not in wanted or not torch.equal(found[name], wanted[name])
    ]
    noted, known = (_list_steps(folder) for folder in (output, undisturbed))
    lost = [line for line in known if line not in noted]
    return Comparison(
        rows=len(wanted) + len(known),
        lost=len(different) + len(lost),
        doubled=len(noted) - len(set(map(str, noted))),
    )


def _list_steps(output: str) -> list[dict[str, object]]:
    """What was written down, but for times."""
    lines = read_journal(output)
    return [
        {name: value for name, value in line.items() if name not in {"time", "samples_per_second"}}
        for line in lines
    ]
