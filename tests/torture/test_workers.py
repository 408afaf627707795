"""Does a run get over the death of its workers? `python -m tests.torture` kills many more."""

from __future__ import annotations

from functools import partial

import pytest

from tests.torture import killer
from tests.torture.scenarios import RETRY, UPDATE
from tests.torture.workers import kill_worker, prepare_bucket, torture_rounds

# An actor at work or between two slices: this run is too short to wait for the former.
TITLES = {"detect actor": "(DetectActor)", "read task": "(read)"}


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
@pytest.mark.parametrize("kind", [UPDATE, RETRY])
def test_a_later_run_whose_workers_are_killed_ends_well_with_the_same_rows(
    tmp_path, monkeypatch, kind
):
    monkeypatch.setattr(killer, "_PAUSE_S", 0.1)
    config = prepare_bucket(str(tmp_path), 30, workers=1)
    strikes = {victim: partial(kill_worker, title) for victim, title in TITLES.items()}
    record = torture_rounds(config, strikes, seed=1, kills=1, kinds=(kind,))
    assert sorted(record.faults.values()) == [1, 1]
    assert record.rows > 30
    assert (record.lost, record.doubled, record.reread) == (0, 0, 0)
