"""Workers on a Ray that gives out GPUs which this machine does not have."""

from __future__ import annotations

import logging
import os
import time
from unittest import mock

from pipelines.cluster import place_workers
from pipelines.training import graph
from pipelines.training.job import Moment
from pipelines.training.state import Position
from tests.torture.own_ray import own_folder

_PATIENCE_S = 60.0


def find_seats(meeting, *, gpus):
    """Start a worker a GPU, each of which waits for the others and writes down where it is.

    Each file is named after a rank and holds the worker's GPUs as Ray names them, its process, and
    whether it was told to compute on a GPU.
    """
    import ray

    with own_folder():
        ray.init(
            address="local",
            num_cpus=gpus,
            num_gpus=gpus,
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
        try:
            placement = place_workers(workers=None, threads=1, cpus_per_read=0.0, wait_seconds=0.0)
            with (
                mock.patch.object(graph, "train_worker", sit_down),
                mock.patch.object(graph, "_check_starts", count_nothing),
                # NCCL wants real ones.
                mock.patch.dict(graph._BACKENDS, {True: "gloo"}),
            ):
                graph.run_workers((meeting, gpus), placement, lambda moment: None)
        finally:
            ray.shutdown()
    return placement


def count_nothing(job, board, most):
    """Stand in for the count of starts: there is no output to find states in."""
    del job, board, most


def sit_down(job, tell, *, on_gpu):
    """Stand in for a training: stay until all workers are there."""
    import ray

    meeting, workers = job
    rank = ray.train.get_context().get_world_rank()
    gpus = ",".join(map(str, ray.get_gpu_ids()))
    (meeting / f"{rank}").write_text(f"{gpus} {os.getpid()} {on_gpu}")
    deadline = time.monotonic() + _PATIENCE_S
    while len(list(meeting.iterdir())) < workers and time.monotonic() < deadline:
        time.sleep(0.05)
    moment = Moment(position=Position(), total_samples=0, loss={}, rate=0.0)
    tell(moment)
    return Position(steps=workers)
