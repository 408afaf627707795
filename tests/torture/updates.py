"""Do the tables of a bucket that changes stay right, whatever is killed on the way?"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import hypothesis
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.builders import encode_picture, make_checkpoint, make_config, make_picture
from tests.pipelines.annotate.killed import count_moments, torture_update
from tests.pipelines.annotate.update_machine import UpdateMachine
from tests.torture.apart import tell
from tests.torture.comparison import Comparison, compare_runs
from tests.torture.record import Record

_KILLS_EACH = 5
_STEPS = 20


def torture_updates(seed: int, *, kills: int) -> Record:
    """Update one run again and again, with commands that are killed by -9 between two writes."""
    total, struck, updates = Comparison(), 0, 0
    with TemporaryDirectory() as folder:
        Path(folder, "in").mkdir()
        for number in range(30):
            data = encode_picture(make_picture(number, height=8, width=8))
            Path(folder, "in", f"{number:06d}.jpg").write_bytes(data)
        weights = make_checkpoint(Path(folder, "weights"))
        config = make_config(folder, weights, slice_size=3)
        count_moments(config)
        while struck < kills:
            struck += torture_update(config, kills=_KILLS_EACH, seed=1000 * seed + updates)
            total += compare_runs(config.output, f"{config.output}-undisturbed")
            updates += 1
            tell(f"update {updates} ended well; {struck} kills so far")
    return Record(
        faults={"updating driver killed at an fsync": struck},
        rows=total.rows,
        lost=total.lost,
        doubled=total.doubled,
        # Each command is watched, and stops the part if it reads what is committed.
        reread=0,
        notes=(f"{updates} updates with retries, each finished by the same command",),
    )


class _Counted(UpdateMachine):
    """The machine, which counts what it sees."""

    kills = 0
    commands = 0
    rows = 0

    def _check_tables_are_whole(self) -> None:
        super()._check_tables_are_whole()
        type(self).kills += 1

    def _check_finished(self) -> None:
        super()._check_finished()
        type(self).commands += 1
        type(self).rows += len(self.model.rows)


def torture_histories(seed: int, *, histories: int) -> Record:
    """Live through histories of a bucket, of up to twenty steps, that hypothesis makes up."""
    with TemporaryDirectory() as folder:
        checkpoint = make_checkpoint(Path(folder, "weights"))
        machine: Any = type("Machine", (_Counted,), {"checkpoint": checkpoint})
        many = settings(
            max_examples=histories,
            stateful_step_count=_STEPS,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        )
        run_state_machine_as_test(hypothesis.seed(seed)(machine), settings=many)
    return Record(
        faults={"command killed before or after a write": machine.kills},
        rows=machine.rows,
        # The model stops the part at the first such read.
        reread=0,
        notes=(
            f"{histories} histories; after each of {machine.commands:,} commands that ended, every "
            "row was compared with a model of plain dictionaries",
        ),
    )
