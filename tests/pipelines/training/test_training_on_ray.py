"""Does a training on Ray Train give what one worker gives, whatever is killed?"""

from __future__ import annotations

import logging
import os
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
import ray

from pipelines.errors import PipelineError, RunMismatchError, TransientStorageError
from pipelines.training import graph
from pipelines.training.checkpoints import list_states
from pipelines.training.run import train
from pipelines.training.worker import train_worker
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


def train_while_the_store_answers_seldom(job, tell, *, on_gpu):
    """Train, but for the first two times."""
    failures = Path(job.output) / "failures"
    failures.mkdir(exist_ok=True)
    failed = len(list(failures.iterdir()))
    if failed < 2:
        (failures / str(failed)).touch()
        raise TransientStorageError("s3://bucket/train-000000.tar: did not answer")
    return train_worker(job, tell, on_gpu=on_gpu)


def test_a_store_that_did_not_answer_is_asked_again(scenes, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(graph, "train_worker", train_while_the_store_answers_seldom)
    config = make_train_config(scenes, tmp_path, task="classify")
    assert train(config, tell_nobody).steps == 6
    told = [record.getMessage() for record in caplog.records if "a worker ended" in record.msg]
    assert len(told) == 2


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (TransientStorageError("s3://b/x.tar:\n no answer"), "s3://b/x.tar: no answer"),
        (RuntimeError("no memory"), "RuntimeError: no memory"),
        (PipelineError("would come again"), ""),
    ],
)
def test_what_may_pass_is_kept_for_the_case_that_it_does_not(error, words):
    board = graph._open_board()
    with pytest.raises(type(error)), graph._LastWords(board):
        raise error
    assert ray.get(board.read.remote()).words == words


def test_a_start_whose_states_cannot_be_listed_counts_as_one_without_progress(monkeypatch):
    def list_nothing(output):
        raise TransientStorageError(f"{output}: did not answer")

    board = graph._Board()
    assert [board.count_start(states) for states in (set(), {500}, {500})] == [1, 1, 2]
    monkeypatch.setattr(graph, "list_states", list_nothing)
    states, unheard = graph._find_states("s3://bucket/out")
    assert str(unheard) == "s3://bucket/out: did not answer"
    assert [board.count_start(states), board.count_start({500})] == [3, 4]
    assert board.count_start({500, 1000}) == 1
    assert board.read().newest == 1000


def test_states_before_a_damaged_one_are_progress():
    """It is passed over, and stays the newest until it is saved again."""
    board = graph._Board()
    starts = [board.count_start(states) for states in ({4, 8}, {4, 8}, {4, 5, 8}, {6, 8}, {6, 8})]
    assert starts == [1, 2, 1, 1, 2]


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
