"""What is refused before a training writes anything?"""

from __future__ import annotations

from contextlib import nullcontext

import pytest

from pipelines.cluster import Placement
from pipelines.errors import InputError
from pipelines.training import run
from tests.builders import list_all, write_scenes
from tests.pipelines.training.tiny_training import make_train_config


@pytest.fixture
def sixteen_gpus(monkeypatch):
    """A cluster without Ray."""
    placement = Placement(workers=16, gpus_per_worker=1, cpus_per_worker=1)
    monkeypatch.setattr(run, "join_cluster", lambda address: nullcontext(True))
    monkeypatch.setattr(run, "count_gpus", lambda: 16)
    monkeypatch.setattr(run, "place_workers", lambda **_: placement)


@pytest.mark.usefixtures("sixteen_gpus")
def test_more_gpus_than_streams_leave_no_settings_behind(tmp_path):
    """The remedy, another number of streams, would be refused as another training."""
    config = make_train_config(write_scenes(tmp_path / "scenes", 4), tmp_path / "out")
    with pytest.raises(InputError, match="--streams: received 2, expected at least the 16 workers"):
        run.train(config, lambda moment: None)
    assert list_all(config.output) == []
