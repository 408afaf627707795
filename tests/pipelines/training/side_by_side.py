"""Several workers of one training in processes of their own, without Ray."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import torch
from torch import distributed

from pipelines.training import checkpoints
from pipelines.training.learner import Learner
from pipelines.training.validation import Validator
from tests.pipelines.training.tiny_training import train_here

# A server that has imported all this and forks: a start costs milliseconds, not seconds. The second
# one is what an optimizer imports at its first step (measured: 8 s of 13); the third one's own wish
# would otherwise be forgotten, for there is one server for all.
processes = multiprocessing.get_context("forkserver")
processes.set_forkserver_preload([__name__, "torch._dynamo", "tests.pipelines.annotate.killed"])


def train_side_by_side(
    config, workers, *, log=None, dies_at=None, misses=None, graphs=None, differs=False
):
    """Train with so many workers; returns their exit codes.

    With a log each writes down what it learns from, step by step, into a file of that folder. The
    first one may die at one of its writes; the others may miss a state. With a file for graphs
    torch.compile changes nothing, for that takes a minute, and writes down each graph it gets. All
    but the first one may have other weights to show than those that they learn.
    """
    meeting = Path(f"{config.output}-{workers}-meeting")
    meeting.parent.mkdir(parents=True, exist_ok=True)
    started = [
        processes.Process(
            target=_train,
            args=(config, rank, workers, meeting, log),
            kwargs={
                "dies_at": None if rank else dies_at,
                "misses": misses if rank else None,
                "graphs": graphs,
                "differs": differs and rank > 0,
            },
        )
        for rank in range(workers)
    ]
    for process in started:
        process.start()
    for process in started:
        process.join()
    meeting.unlink(missing_ok=True)
    return [process.exitcode for process in started]


def _train(config, rank, workers, meeting, log, *, dies_at, misses, graphs, differs):
    if graphs is not None:
        _write_down_graphs(graphs)
    if log is not None:
        _write_down(Path(log, f"{workers}-{rank}.jsonl"))
        _write_down_measured(Path(log, f"measured-{workers}-{rank}.txt"))
    if differs:
        weights = Learner.weights
        Learner.weights = lambda self: {name: 1.5 * value for name, value in weights(self).items()}
    if dies_at is not None:
        die_at_write(dies_at)
    if misses is not None:
        list_states = checkpoints.list_states
        checkpoints.list_states = lambda output: list_states(output) - {misses}
    if workers > 1:
        distributed.init_process_group(
            "gloo",
            init_method=f"file://{meeting}",
            rank=rank,
            world_size=workers,
            timeout=timedelta(seconds=60),
        )
    # Whose fellow has died cannot go on; who started it knows.
    with suppress(RuntimeError):
        train_here(config)
        return
    os._exit(1)


def die_at_write(calls):
    """End this process at one of its writes: an object is there, or it is not."""
    write_bytes, left = checkpoints.storage.write_bytes, calls

    def write_or_die(*args, **options):
        nonlocal left
        left -= 1
        if not left:
            os.kill(os.getpid(), signal.SIGKILL)
        write_bytes(*args, **options)

    checkpoints.storage.write_bytes = write_or_die


def _write_down_graphs(path):
    compile_ = torch.nn.Module.compile

    def note_graph(graph, inputs):
        del inputs
        with path.open("a") as file:
            file.write(f"{graph.graph}\n")
        return graph.forward

    torch.nn.Module.compile = lambda self: compile_(self, backend=note_graph)


def _write_down(path):
    take_step = Learner.take_step

    def note_step(self, batch, turn):
        # An example's seed is a function of seed, epoch and sample; a blank one's is 0.
        seeds = [seed for seed in batch.seeds if seed]
        with path.open("a") as file:
            file.write(json.dumps([turn.steps, seeds]) + "\n")
        return take_step(self, batch, turn)

    Learner.take_step = note_step


def _write_down_measured(path):
    decode = Validator._decode

    def note_decoded(self, number, encoded):
        with path.open("a") as file:
            file.write(f"{number}\n")
        return decode(self, number, encoded)

    Validator._decode = note_decoded


def read_measured(folder, workers):
    """Read which held-out samples each of some workers has measured."""
    paths = [Path(folder, f"measured-{workers}-{rank}.txt") for rank in range(workers)]
    return [sorted(map(int, path.read_text().split())) for path in paths]


def read_log(folder, workers, *, steps):
    """Read what some workers have learnt from in these steps: sorted seeds by step."""
    found = {step: [] for step in steps}
    for path in sorted(Path(folder).glob(f"{workers}-*.jsonl")):
        for line in path.read_text().splitlines():
            step, seeds = json.loads(line)
            if step in found:
                found[step] += seeds
    return {step: sorted(seeds) for step, seeds in found.items()}
