"""Does a run get over the death of its workers? `python -m tests.torture` kills many more."""

from __future__ import annotations

from functools import partial

import pytest

from tests.builders import make_checkpoint, make_config
from tests.torture.workers import TITLES, kill_worker, torture_rounds, write_large_pictures


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_a_run_whose_actors_and_read_tasks_are_killed_ends_well_with_the_same_rows(tmp_path):
    write_large_pictures(str(tmp_path / "in"), 32)
    config = make_config(str(tmp_path), make_checkpoint(tmp_path / "weights"), slice_size=2)
    strikes = {kind: partial(kill_worker, title) for kind, title in TITLES.items()}
    record = torture_rounds(config, strikes, seed=1, kills=2)
    assert record.faults == dict.fromkeys(TITLES, 2)
    assert record.rows > 32
    assert (record.lost, record.doubled, record.reread) == (0, 0, 0)
