"""A child of a worker of Ray: it does its work there, and ends with the worker."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from pipelines.images import ImageLimits, decode_image
from pipelines.isolation import Isolated
from tests.pipelines.images.image_files import every_kind_of_file
from tests.pipelines.isolation import victims

pytestmark = pytest.mark.ray


class Decoder:
    """An actor with two children."""

    def __init__(self):
        self.decoder = Isolated(decode_image, memory_bytes=2**30, seconds=30)
        self.victim = Isolated(victims.call, memory_bytes=2**28, seconds=60)

    def decode(self, data):
        return self.decoder(data, ImageLimits())

    def name_processes(self):
        return os.getpid(), self.decoder.pid, self.victim("tell_pid")

    def loop(self):
        self.victim("loop_in_c")


def runs(pid):
    try:
        state = Path(f"/proc/{pid}/stat").read_text("ascii").rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


def test_a_worker_decodes_in_a_child_that_ends_with_it(ray_cluster):
    import ray

    data = every_kind_of_file()["webp"]
    actor = ray.remote(num_cpus=0)(Decoder).remote()
    assert (ray.get(actor.decode.remote(data)) == decode_image(data, ImageLimits())).all()
    worker, *children = ray.get(actor.name_processes.remote())
    assert all(map(runs, children))
    actor.loop.remote()
    os.kill(worker, 9)
    deadline = time.monotonic() + 10
    while any(map(runs, children)):
        assert time.monotonic() < deadline
        time.sleep(0.05)
