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

    Returns, by rank, the worker's GPUs as Ray names them, and whether it had asked for one.
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
                # NCCL wants real ones.
                mock.patch.dict(graph._BACKENDS, {True: "gloo"}),
            ):
                graph.run_workers((meeting, gpus), placement, lambda moment: None)
        finally:
            ray.shutdown()
    return placement


def sit_down(job, tell):
    """Stand in for a training: stay until all workers are there."""
    import ray

    meeting, workers = job
    rank = ray.train.get_context().get_world_rank()
    gpus = ",".join(map(str, ray.get_gpu_ids()))
    (meeting / f"{rank}").write_text(f"{gpus} {os.getpid()}")
    deadline = time.monotonic() + _PATIENCE_S
    while len(list(meeting.iterdir())) < workers and time.monotonic() < deadline:
        time.sleep(0.05)
    moment = Moment(position=Position(), total_samples=0, loss={}, rate=0.0)
    tell(moment)
    return Position(steps=workers)
