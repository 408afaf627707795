"""The Ray cluster: joining or starting one, and where in it the detect actors fit."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import ray

from pipelines.errors import ResourceError

logger = logging.getLogger(__name__)

_POLL_SECONDS = 1.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Placement:
    """Where the detect actors run."""

    workers: int
    """How many actors."""
    gpus_per_worker: int
    """1 on a cluster with GPUs, else 0."""
    cpus_per_worker: int
    """CPUs reserved for each."""


@contextmanager
def join_cluster(address: str | None) -> Iterator[None]:
    """Use a Ray cluster for the length of a block: the given one, the job's, or one started here.

    Args:
        address: Of a cluster; None for the job's or `RAY_ADDRESS`, or else an instance of our own.

    Yields:
        Nothing; Ray is ready inside the block.

    Raises:
        ResourceError: If there is no cluster at that address.
    """
    if ray.is_initialized():
        yield
        return
    known = address or os.environ.get("RAY_ADDRESS")
    try:
        if known:
            ray.init(address=known, log_to_driver=False, logging_level=logging.ERROR)
        else:
            ray.init(
                address="local",
                include_dashboard=False,
                log_to_driver=False,
                logging_level=logging.ERROR,
            )
    except ConnectionError as error:
        raise ResourceError(f"--address {known}: no Ray cluster answers there ({error})") from error
    try:
        yield
    finally:
        ray.shutdown()


def place_workers(
    *, workers: int | None, threads: int, cpus_per_read: float, wait_seconds: float
) -> Placement:
    """Decide how many detect actors run, and on what; wait for resources to join.

    Args:
        workers: Wanted actors; None for as many as there are GPUs, or as the CPUs allow.
        threads: CPU threads of an actor.
        cpus_per_read: CPUs that one reading task reserves: at least that is left for reading.
        wait_seconds: How long to wait for what is missing.

    Returns:
        The placement.

    Raises:
        ResourceError: If the cluster stays too small, naming what is missing.
    """
    deadline = time.monotonic() + wait_seconds
    while True:
        offered = ray.cluster_resources()  # type: ignore[no-untyped-call]  # Ray's own
        gpus, cpus = int(offered.get("GPU", 0)), offered.get("CPU", 0.0)
        per_worker = threads if not gpus else 1
        room = int((cpus - cpus_per_read) // per_worker)
        fitting = min(room, gpus) if gpus else room
        if fitting >= (workers or 1):
            # One actor a GPU; on CPUs what reading leaves over.
            return Placement(
                workers=workers or fitting,
                gpus_per_worker=1 if gpus else 0,
                cpus_per_worker=per_worker,
            )
        if time.monotonic() >= deadline:
            raise ResourceError(
                f"cluster: {cpus:g} CPUs and {gpus} GPUs fit {max(0, fitting)} detect workers of "
                f"{per_worker} CPUs beside {cpus_per_read:g} CPUs for reading; expected "
                f"{workers or 1}: add nodes, or lower --workers, --threads or --cpus-per-read"
            )
        logger.info("waiting for resources: %g CPUs and %d GPUs so far", cpus, gpus)
        time.sleep(_POLL_SECONDS)
