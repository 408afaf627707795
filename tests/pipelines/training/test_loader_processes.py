"""Do decoding processes give the same examples, end with their consumer, and say what is wrong?"""

from __future__ import annotations

import multiprocessing
import random
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from pipelines import storage
from pipelines.errors import PipelineError, StorageError
from pipelines.images import ImageLimits
from pipelines.training import stream_loader
from pipelines.training.order import OrderConfig
from pipelines.training.stream_loader import Loader
from pipelines.training.transport import pack_arrays
from tests.pipelines.training.seen import Death, see, see_long, stamp
from tests.pipelines.training.tiny_shards import write_shards

SIZES = (1, 17, 2, 1, 9)
ROOT = Path(__file__).parents[3]


def make_loader(shards, processes, make_example=see):
    return Loader(
        shards,
        OrderConfig(seed=3, streams=5, batch_size=5, shuffle_block=4),
        make_example,
        rank=0,
        world_size=1,
        processes=processes,
        limits=ImageLimits(),
    )


def tell(step):
    examples = [(one.number, one.pixels.tolist(), one.draw) for one in step.examples]
    return step.epoch, step.step, step.samples, step.damaged, step.n_global, examples


def list_decoders():
    """This process's children that end with it, as decoding processes do."""
    return [child for child in multiprocessing.active_children() if child.daemon]


def test_processes_give_what_one_gives_and_draw_no_number_of_others(tmp_path):
    shards = write_shards(tmp_path, SIZES, damage={8})
    here = [tell(step) for step in make_loader(shards, 0).iter_epochs(0, 2, first_step=2)]
    states = read_random_states()
    apart = [tell(step) for step in make_loader(shards, 2).iter_epochs(0, 2, first_step=2)]
    assert apart == here
    assert read_random_states() == states
    assert list_decoders() == []


def read_random_states():
    legacy = np.random.get_state()  # noqa: NPY002 (whether it was touched is the question)
    return random.getstate(), legacy[1].tolist(), torch.get_rng_state().tolist()


def test_a_process_decodes_two_steps_ahead_until_the_iterator_is_closed(tmp_path):
    steps = make_loader(write_shards(tmp_path, SIZES), 1, stamp).iter_epoch(0)
    next(steps)
    time.sleep(1)
    waited_until = time.monotonic()
    made_at = [max(next(steps).examples) for _ in range(4)]
    assert [moment < waited_until for moment in made_at] == [True, True, False, False]
    assert len(list_decoders()) == 1
    steps.close()
    assert list_decoders() == []


def test_a_bad_shard_is_the_same_sentence_from_a_process(tmp_path):
    shards = write_shards(tmp_path, SIZES)
    storage.delete([storage.join_uri(shards.folder, "train-000004.tar")])
    sentences = []
    for processes in (0, 1):
        with pytest.raises(
            StorageError, match=r"train-000004\.tar: index\.json names it"
        ) as caught:
            list(make_loader(shards, processes).iter_epoch(0))
        sentences.append(str(caught.value))
    assert sentences[0] == sentences[1]
    assert list_decoders() == []


def read_in_thread(loader):
    """Read as on Ray: in a thread that is not the main one, to which signals do not go."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(lambda: [tell(step) for step in loader.iter_epochs(0, 2)]).result()


@pytest.mark.parametrize(("processes", "number"), [(1, 0), (2, 11)])
def test_others_go_on_where_a_process_has_died(tmp_path, caplog, processes, number):
    shards = write_shards(tmp_path / "shards", SIZES)
    whole = [tell(step) for step in make_loader(shards, 0).iter_epochs(0, 2)]
    death = Death(number=number, folder=make_folder(tmp_path / "deaths"), most=1)
    assert read_in_thread(make_loader(shards, processes, death)) == whole
    assert len(list(death.folder.iterdir())) == 1
    told = [one.getMessage() for one in caplog.records if "a decoding process died" in one.msg]
    assert len(told) == 1
    # The part made before may still be on its way, and then it is that which does not come.
    assert "exited unexpectedly" in told[0] or "while it handed a part over: " in told[0]
    assert list_decoders() == []


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed."),
        EOFError(),
        ConnectionResetError(104, "Connection reset by peer"),
    ],
)
def test_others_go_on_whatever_torch_says_of_the_death(tmp_path, caplog, monkeypatch, error):
    """A process that dies while it hands over a part is missed by whoever receives it."""
    shards = write_shards(tmp_path / "shards", SIZES)
    whole = [tell(step) for step in make_loader(shards, 0).iter_epochs(0, 2)]
    monkeypatch.setattr(stream_loader, "DataLoader", partial(BreakingLoader, breaks=[error]))
    assert [tell(step) for step in make_loader(shards, 1).iter_epochs(0, 2)] == whole
    assert sum("a decoding process died" in one.msg for one in caplog.records) == 1


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("out of memory"),
        OSError("Caught OSError in DataLoader worker process 0.\nOriginal Traceback ..."),
    ],
)
def test_another_error_is_no_death(tmp_path, monkeypatch, error):
    monkeypatch.setattr(stream_loader, "DataLoader", partial(BreakingLoader, breaks=[error]))
    with pytest.raises(type(error), match=r"out of memory|Caught OSError"):
        list(make_loader(write_shards(tmp_path, SIZES), 1).iter_epoch(0))


def test_a_process_that_is_killed_before_a_full_pipe_is_replaced_too(tmp_path):
    """What it has made does not fit into the pipe, so that it waits there with a part in hand."""
    shards = write_shards(tmp_path / "shards", SIZES)
    whole = [tell(step) for step in make_loader(shards, 0, see_long).iter_epoch(0)]

    def read():
        steps = make_loader(shards, 1, see_long).iter_epoch(0)
        read = [tell(next(steps))]
        time.sleep(2)
        for child in list_decoders():
            child.kill()
        return read + [tell(step) for step in steps]

    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(read).result() == whole
    assert list_decoders() == []


class BreakingLoader:
    """A DataLoader whose one process is this one, and which breaks at its third part, once."""

    def __init__(self, parts, *, breaks, **options):
        del options
        self.parts, self.breaks = parts, breaks

    def __iter__(self):
        decoding = self.parts.decoding
        for place, part in enumerate(decoding.iter_parts(self.parts.streams)):
            if place == 2 and self.breaks:
                raise self.breaks.pop()
            yield pack_arrays(part)


def make_folder(path):
    path.mkdir()
    return path


def test_processes_that_die_at_one_step_again_and_again_end_the_training(tmp_path):
    shards = write_shards(tmp_path / "shards", SIZES)
    death = Death(number=11, folder=make_folder(tmp_path / "deaths"), most=99)
    with pytest.raises(PipelineError, match="3 times a decoding process died near step"):
        read_in_thread(make_loader(shards, 1, death))
    assert len(list(death.folder.iterdir())) == 3
    assert list_decoders() == []


def test_a_killed_consumer_leaves_no_process_behind(tmp_path):
    write_shards(tmp_path, [40])
    command = [sys.executable, "-m", "tests.pipelines.training.consumer", str(tmp_path)]
    with (
        (tmp_path / "stderr").open("w") as errors,
        subprocess.Popen(
            command, cwd=ROOT, stdout=subprocess.PIPE, stderr=errors, text=True
        ) as consumer,
    ):
        assert consumer.stdout is not None
        children = [int(pid) for pid in consumer.stdout.readline().split()]
        assert len(children) == 2
        assert all(is_alive(pid) for pid in children)
        time.sleep(0.5)  # until the queues are full
        consumer.kill()
    deadline = time.monotonic() + 20
    while any(is_alive(pid) for pid in children):
        assert time.monotonic() < deadline, "a decoding process outlived its consumer"
        time.sleep(0.1)


def is_alive(pid):
    """Whether a process is there and not just waiting for somebody to notice its end."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text("ascii")
    except FileNotFoundError:
        return False
    return status.rpartition(")")[2].split()[0] != "Z"
