"""Has each worker a GPU of its own?"""

from __future__ import annotations

import pytest

from tests.pipelines.training.logical_gpus import find_seats
from tests.torture.apart import run_apart


@pytest.mark.ray
def test_each_of_two_workers_has_a_gpu_of_its_own(tmp_path):
    placement = run_apart(find_seats, tmp_path, gpus=2)
    assert (placement.workers, placement.gpus_per_worker) == (2, 1)
    seats = {path.name: path.read_text().split() for path in tmp_path.iterdir()}
    assert sorted(seats) == ["0", "1"]
    assert {gpus for gpus, _ in seats.values()} == {"0", "1"}
    assert len({process for _, process in seats.values()}) == 2
