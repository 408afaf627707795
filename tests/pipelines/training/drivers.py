"""`overfeat train` as a process of its own on a Ray that is there, to be killed by -9 at work."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import ray

from jobs.train import choose_default
from pipelines.training.checkpoints import list_states
from pipelines.training.config import TrainConfig
from pipelines.training.worker import RESULT_FILE

ROOT = Path(__file__).parents[3]
_POLL_S = 0.005
_PATIENCE_S = 240.0
"""Ray took more than 75 s to start a worker on two cores that 20 processes shared (measured)."""


def train_flags(config: TrainConfig) -> list[str]:
    """Write a configuration as a command: what is not as it would be anyway."""
    named = ["--output", config.output, "--task", config.task]
    named += ["--shards", str(config.shards)]
    usual = choose_default(named)
    return ["train", *named, *_write_changes(config, usual, but={"output", "task", "shards"})]


def _write_changes(one: Any, usual: Any, *, but: AbstractSet[str] = frozenset()) -> Iterator[str]:
    for name in [field.name for field in fields(one) if field.name not in but]:
        value, before = getattr(one, name), getattr(usual, name)
        flag = name.replace("_", "-")
        if is_dataclass(value):
            yield from _write_changes(value, before)
        elif value != before and isinstance(value, bool):
            yield f"--{flag}" if value else f"--no-{flag}"
        elif value != before:
            words = value if isinstance(value, tuple) else [value]
            yield from [f"--{flag}", *map(str, words)]


@contextmanager
def start_driver(config: TrainConfig, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The command in a process of its own, on the cluster of this one; it is killed at the end."""
    address = ray.get_runtime_context().gcs_address
    name, *flags = train_flags(config)
    command = [sys.executable, "-m", f"jobs.{name}", *flags, "--address", address]
    with (
        log.open("ab") as output,
        subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=output) as driver,
    ):
        try:
            yield driver
        finally:
            driver.kill()


def kill_at_work(config: TrainConfig, log: Path, source: random.Random, *, pause_s: float) -> bool:
    """Start the command, and kill it by -9 at a random moment after it has saved a state.

    Args:
        config: Of a training on local disk.
        log: File for what the command says.
        source: Of the moment.
        pause_s: Longest time from the state to the kill.

    Returns:
        Whether it was still at work; if not, the training has ended.
    """
    before = list_states(config.output)
    with start_driver(config, log) as driver:
        deadline = time.monotonic() + _PATIENCE_S
        while driver.poll() is None and list_states(config.output) <= before:
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(_POLL_S)
        time.sleep(source.uniform(0, pause_s))
        return _kill(driver, config, log)


def kill_anywhere(config: TrainConfig, log: Path, source: random.Random, *, pause_s: float) -> bool:
    """Start the command, and kill it by -9 at a random moment, its own start included.

    Args:
        config: Of a training on local disk.
        log: File for what the command says.
        source: Of the moment.
        pause_s: Longest time from its start to the kill.

    Returns:
        Whether it was still at work; if not, the training has ended.
    """
    with start_driver(config, log) as driver:
        time.sleep(source.uniform(0, pause_s))
        return _kill(driver, config, log)


def _kill(driver: subprocess.Popen[bytes], config: TrainConfig, log: Path) -> bool:
    driver.kill()
    has_ended = driver.wait() != -signal.SIGKILL
    is_done = Path(config.output, RESULT_FILE).exists()
    assert is_done or not has_ended, log.read_text()
    return not is_done
