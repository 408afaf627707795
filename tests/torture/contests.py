"""What do two or three drivers come to that want one run at the same moment, some of them killed?

On a store that creates atomically one of them works and reads each image once. On one that does not
more may work; the rows must be right even so.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from pipelines import lease, storage
from pipelines.annotate.config import AnnotateConfig
from pipelines.annotate.run import AnnotateReport, annotate
from pipelines.lease import LeaseHeldError, LeaseLostError, LeaseTimes
from tests.builders import encode_picture, make_checkpoint, make_config, make_picture
from tests.pipelines.annotate.fake_model import FakeModel
from tests.pipelines.annotate.plain_engine import install_plain_engine
from tests.torture.apart import tell
from tests.torture.comparison import Comparison, compare_runs
from tests.torture.record import Record
from tests.torture.stores import LOCAL, MOTO, RCLONE, open_store

_TIMES = LeaseTimes(heartbeat=0.2, lease=20)
"""One that lives is never taken for dead; one that was killed on this machine is at once."""
_LONGEST_WAIT_S = 0.03
"""Before a write, so that the drivers overtake each other."""
_LAST_WRITE = 15
"""At which a driver is killed at the latest."""
_LIMIT_S = 120.0
_NEW = 5
"""Images that come before each contest."""
KILLED, REFUSED, RELIEVED = "killed", "refused", "relieved"

_processes = multiprocessing.get_context("forkserver")
_processes.set_forkserver_preload(["tests.pipelines.annotate.killed", __name__])


@dataclass(frozen=True, kw_only=True, slots=True)
class Contestant:
    """One of several drivers."""

    seed: int
    """Of its waits."""
    last_write: int | None
    """Write before which it is killed; None to let it live."""
    environment: Mapping[str, str]
    """That leads to the store."""


def torture_contests(
    seed: int, *, contests: int, kinds: tuple[str, ...] = (LOCAL, MOTO, RCLONE)
) -> Record:
    """Hold so many contests on each store: for a first run, and then for updates of it."""
    total, faults, answers = Comparison(), Counter[str](), Counter[str]()
    with TemporaryDirectory() as name:
        weights = make_checkpoint(Path(name, "weights"))
        for kind in kinds:
            source = random.Random(f"{seed} {kind}")
            with open_store(kind, Path(name, kind)) as root:
                for number in range(contests):
                    drivers = draw_contestants(source)
                    config = make_config(root, weights, slice_size=2)
                    asked = replace(config, update=number > 0, retry_failed=number > 0)
                    twin = str(Path(name, f"{kind}-twin"))
                    came = hold(asked, twin, drivers, source, is_atomic=kind != RCLONE)
                    total += compare_runs(config.output, twin)
                    faults["driver beside another one"] += len(drivers) - 1
                    faults["driver of several killed"] += came[KILLED]
                    answers += came
            tell(f"{contests} contests on {kind}: {total}, {dict(answers)}")
    return Record(
        faults=dict(faults),
        rows=total.rows,
        lost=total.lost,
        doubled=total.doubled,
        notes=(
            f"{contests} contests on each of {', '.join(kinds)}",
            "drivers: "
            + ", ".join(f"{count} {answer}" for answer, count in sorted(answers.items())),
        ),
    )


def draw_contestants(source: random.Random) -> list[Contestant]:
    """Two or three; in every other contest the first one is to be killed."""
    first_dies = source.random() < 0.5
    names = [name for name in os.environ if name.startswith("AWS_")]
    return [
        Contestant(
            seed=source.randrange(10**6),
            last_write=source.randint(1, _LAST_WRITE) if first_dies and number == 0 else None,
            environment={name: os.environ[name] for name in names},
        )
        for number in range(source.choice((2, 2, 3)))
    ]


def hold(
    asked: AnnotateConfig,
    twin: str,
    drivers: list[Contestant],
    source: random.Random,
    *,
    is_atomic: bool,
) -> Counter[str]:
    """Change the bucket, let all drivers want the run at once, and one more finish it.

    Returns:
        How many of them came to what end.
    """
    change_images(asked.images, source)
    with pytest.MonkeyPatch.context() as patch:
        install_plain_engine(patch, FakeModel())
        report = annotate(replace(asked, output=twin))
        came = contend(asked, drivers)
        if is_atomic and KILLED not in came:
            assert RELIEVED not in came, came
            check_reads([n for n in came if isinstance(n, int)], report)
        annotate(asked)
    return Counter("ended well" if isinstance(answer, int) else answer for answer in came)


def check_reads(reads: Sequence[int], report: AnnotateReport) -> None:
    """One of the drivers that ended well did all; who came after its end tried the failed again."""
    assert reads, "all were refused"
    *later, first = sorted(reads)
    assert first == report.images_read, reads
    assert set(later) <= {0, report.failed}, reads


def contend(config: AnnotateConfig, drivers: list[Contestant]) -> list[int | str]:
    """Start all at the same moment; each gives the number of images it read, or why it gave up."""
    barrier = _processes.Barrier(len(drivers))
    pipes = [_processes.Pipe(duplex=False) for _ in drivers]
    processes = [
        _processes.Process(target=_drive, args=(config, driver, barrier, sender))
        for driver, (_, sender) in zip(drivers, pipes, strict=True)
    ]
    for process, (_, sender) in zip(processes, pipes, strict=True):
        process.start()
        sender.close()
    answers: list[int | str] = []
    for process, (receiver, _) in zip(processes, pipes, strict=True):
        assert receiver.poll(_LIMIT_S), "a driver hangs"
        try:
            answers.append(receiver.recv())
        except EOFError:
            process.join()
            assert process.exitcode == -signal.SIGKILL, f"a driver ended with {process.exitcode}"
            answers.append(KILLED)
        process.join()
    return answers


def _drive(config: AnnotateConfig, driver: Contestant, barrier: Any, sender: Any) -> None:
    os.environ.update(driver.environment)
    with pytest.MonkeyPatch.context() as patch:
        install_plain_engine(patch, FakeModel())
        patch.setattr(lease, "DEFAULT_TIMES", _TIMES)
        _slow_down(patch, driver)
        barrier.wait()
        try:
            sender.send(annotate(config).images_read)
        except LeaseHeldError:
            sender.send(REFUSED)
        except LeaseLostError:
            sender.send(RELIEVED)


def _slow_down(patch: pytest.MonkeyPatch, driver: Contestant) -> None:
    """Wait a moment before each write, and die before one."""
    source, writes = random.Random(driver.seed), 0

    def wait() -> None:
        nonlocal writes
        writes += 1
        if writes == driver.last_write:
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(source.uniform(0, _LONGEST_WAIT_S))

    def delay(function: Any) -> Any:
        def write(*args: Any, **options: Any) -> Any:
            wait()
            return function(*args, **options)

        return write

    for name in ("write_bytes", "create_bytes"):
        patch.setattr(storage, name, delay(getattr(storage, name)))


def change_images(folder: str, source: random.Random) -> None:
    """Some come, one is another one; some are no pictures."""
    count = len(storage.list_names(folder))
    numbers = [*range(count, count + _NEW), *([source.randrange(count)] if count else [])]
    for number in numbers:
        picture = encode_picture(make_picture(source.randrange(10**6), height=8, width=8))
        data = picture if source.random() < 0.9 else b"bad"
        storage.write_bytes(storage.join_uri(folder, f"{number:04d}.jpg"), data)
