"""Does a training end with the same weights, bit for bit, whenever its processes are killed?

Whole processes without Ray, started again by the same call; and workers of Ray Train, which must be
replaced without anybody's help. Moments are drawn from the seed, from the start to the last write.
"""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import safetensors.torch
import torch

from pipelines.training.config import TrainConfig, ValidationConfig
from pipelines.training.journal import read_journal
from pipelines.training.run import train
from tests.builders import write_scenes
from tests.pipelines.annotate.processes import NoSuchProcess, find_workers
from tests.pipelines.training.side_by_side import processes
from tests.pipelines.training.tiny_training import make_train_config, train_here
from tests.torture.apart import tell
from tests.torture.comparison import Comparison
from tests.torture.own_ray import own_ray
from tests.torture.record import Record

PROCESS, WORKER = "training process killed", "training worker killed"
_CPUS = 2
_KILLS_EACH = 5
"""In one training."""
_PAUSE_S = 3.0
"""Longest time from a worker's start to its death."""
_PATIENCE_S = 120.0


def torture_trainings(seed: int, *, kills: int) -> Record:
    """Kill half as often whole processes, half as often workers of Ray Train."""
    source = random.Random(seed)
    with TemporaryDirectory() as name:
        config = make_config(Path(name))
        undisturbed = replace(config, output=f"{name}/undisturbed")
        started = time.monotonic()
        train_here(undisturbed)
        longest = time.monotonic() - started
        total = Comparison()
        struck = {PROCESS: 0, WORKER: 0}
        for kind, wanted in ((PROCESS, kills - kills // 2), (WORKER, kills // 2)):
            while struck[kind] < wanted:
                count = min(_KILLS_EACH, wanted - struck[kind])
                output = f"{name}/{kind.split()[1]}-{struck[kind]}"
                disturbed = replace(config, output=output)
                if kind == PROCESS:
                    struck[kind] += kill_processes(disturbed, count, source, longest)
                else:
                    struck[kind] += kill_workers(disturbed, count, source)
                total += compare_trainings(output, undisturbed.output)
                tell(f"{struck[kind]} of {wanted} x {kind}; so far: {total}")
    return Record(
        faults=struck,
        rows=total.rows,
        lost=total.lost,
        doubled=total.doubled,
        notes=("rows are tensors of the checkpoint, and steps that are written down",),
    )


def make_config(folder: Path) -> TrainConfig:
    """A training of some seconds that measures and saves all the time."""
    scenes = write_scenes(folder / "scenes", 10)
    held_out = write_scenes(folder / "held-out", 4, split="validation")
    return make_train_config(
        scenes,
        folder / "out",
        task="classify",
        recipe={"epochs": 12},
        checkpoint_steps=2,
        log_steps=1,
        held_out=ValidationConfig(validation=held_out),
    )


def kill_processes(config: TrainConfig, kills: int, source: random.Random, longest: float) -> int:
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


def kill_workers(config: TrainConfig, kills: int, source: random.Random) -> int:
    """Kill Ray's workers while a training runs; says how often one was there."""
    killed: list[int] = []
    ended = threading.Event()
    with own_ray(_CPUS):
        killer = threading.Thread(target=_kill, args=(kills, source, killed, ended))
        killer.start()
        try:
            train(config, lambda moment: None)
        finally:
            ended.set()
            killer.join()
    return len(killed)


def _kill(kills: int, source: random.Random, killed: list[int], ended: threading.Event) -> None:
    while len(killed) < kills and not ended.is_set():
        if not _wait(lambda: _find_new(killed), ended):
            return
        ended.wait(source.uniform(0, _PAUSE_S))
        for worker in _find_new(killed):
            try:
                worker.kill()
            except NoSuchProcess:
                continue
            killed.append(worker.pid)


def _find_new(killed: list[int]) -> list:
    return [one for one in find_workers(os.getpid(), "TrainWorker") if one.pid not in killed]


def _wait(is_there: Callable[[], object], ended: threading.Event) -> bool:
    deadline = time.monotonic() + _PATIENCE_S
    while time.monotonic() < deadline and not ended.is_set():
        if is_there():
            return True
        ended.wait(0.02)
    return False


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
