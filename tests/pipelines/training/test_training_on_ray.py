"""Does a training on Ray Train give what one worker gives, whatever is killed?"""

from __future__ import annotations

import logging
import os
import threading
import time
from dataclasses import replace

import pytest

from pipelines.errors import PipelineError, RunMismatchError
from pipelines.training import graph
from pipelines.training.checkpoints import list_states
from pipelines.training.run import train
from tests.builders import list_all, write_scenes
from tests.pipelines.annotate.processes import find_workers
from tests.pipelines.training.side_by_side import train_side_by_side
from tests.pipelines.training.tiny_training import make_train_config

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster")]


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    return write_scenes(tmp_path_factory.mktemp("scenes"), 10)


def tell_nobody(moment):
    del moment


def kill_after(output, states, killed):
    """Kill one of the workers once there are so many states."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not killed:
        trainers = find_workers(os.getpid(), "TrainWorker")
        if trainers and len(list_states(output)) >= states:
            trainers[-1].kill()
            killed.append(list_states(output))
        time.sleep(0.02)


def test_one_of_two_workers_is_killed_and_replaced_and_the_weights_are_the_same(
    scenes, tmp_path, caplog
):
    caplog.set_level(logging.INFO)
    config = make_train_config(
        scenes,
        tmp_path / "killed",
        task="classify",
        recipe={"epochs": 6},
        checkpoint_steps=1,
        workers=2,
    )
    undisturbed = replace(config, output=str(tmp_path / "undisturbed"))
    assert train_side_by_side(undisturbed, 2) == [0, 0]
    killed = []
    killer = threading.Thread(target=kill_after, args=(config.output, 2, killed))
    killer.start()
    report = train(config, tell_nobody)
    killer.join()
    assert len(killed) == 1
    assert max(killed[0]) < report.steps == 18
    words = [record.getMessage() for record in caplog.records if "a worker ended" in record.msg]
    assert [int(one.rpartition(" ")[2]) >= max(killed[0]) for one in words] == [True]
    contents = [
        (tmp_path / name / "model.safetensors").read_bytes() for name in ("killed", "undisturbed")
    ]
    assert contents[0] == contents[1]
    assert "lease.json" not in list_all(config.output)

    with pytest.raises(RunMismatchError, match="learning_rate"):
        train(replace(config, recipe=replace(config.recipe, learning_rate=0.5)), tell_nobody)


def test_an_error_that_would_come_again_ends_the_training(tmp_path):
    shards = write_scenes(tmp_path / "scenes", 8, objects=0)
    with pytest.raises(PipelineError, match="none of the 4 samples of step 0 could be used"):
        train(make_train_config(shards, tmp_path / "out", task="classify"), tell_nobody)


def run_out_of_memory(job, tell, *, on_gpu):
    """Stand in for a worker whose batch is too large."""
    del job, tell, on_gpu
    raise RuntimeError("out of memory:\n tried to allocate 20 GiB")


def test_workers_that_always_end_before_the_next_state_are_not_started_for_ever(
    scenes, tmp_path, monkeypatch
):
    monkeypatch.setattr(graph, "train_worker", run_out_of_memory)
    monkeypatch.setattr(graph, "_MOST_STARTS", 2)
    config = make_train_config(scenes, tmp_path, task="classify")
    with pytest.raises(PipelineError, match="2 times the workers ended") as error:
        train(config, tell_nobody)
    assert "after step 0" in str(error.value)
    assert "RuntimeError: out of memory: tried to allocate 20 GiB" in str(error.value)
