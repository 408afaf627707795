"""Has each worker a GPU of its own?"""

from __future__ import annotations

import pytest
import torch

from pipelines.training import worker
from tests.pipelines.training.logical_gpus import find_seats
from tests.torture.apart import run_apart


@pytest.mark.ray
def test_each_of_two_workers_has_a_gpu_of_its_own(tmp_path):
    placement = run_apart(find_seats, tmp_path, gpus=2)
    assert (placement.workers, placement.gpus_per_worker) == (2, 1)
    seats = {path.name: path.read_text().split() for path in tmp_path.iterdir()}
    assert sorted(seats) == ["0", "1"]
    assert {gpus for gpus, _, _ in seats.values()} == {"0", "1"}
    assert len({process for _, process, _ in seats.values()}) == 2
    assert {on_gpu for _, _, on_gpu in seats.values()} == {"True"}


def test_a_worker_computes_on_the_gpu_that_ray_has_made_its_current_one(monkeypatch):
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
    assert worker._find_device(on_gpu=True) == torch.device("cuda", 1)


def test_a_worker_without_a_gpu_leaves_those_in_sight_alone(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    assert worker._find_device(on_gpu=False) == torch.device("cpu")
