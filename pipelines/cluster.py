"""The Ray cluster: joining or starting one, and where in it the detect actors fit."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

import ray
from ray.exceptions import RayError, RayTaskError

from pipelines.errors import InputError, PipelineError, ResourceError

logger = logging.getLogger(__name__)

_POLL_SECONDS = 1.0
_WATCH_SECONDS = 30.0
"""Assumed: short beside the time in which a cluster replaces a node."""
_STARTS = 2
_OUR_FOLDER = Path(__file__).parents[1]
"""Where `pipelines`, `overfeat` and `jobs` are imported from."""
_CONNECT_SECONDS = 10.0
"""Ray itself tries an address that nobody listens at for minutes (measured: more than two)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Placement:
    """Where the workers run: detect actors, or training processes."""

    workers: int
    """How many."""
    gpus_per_worker: int
    """1 on a cluster with GPUs, unless they are not wanted; else 0."""
    cpus_per_worker: int
    """CPUs reserved for each."""


@contextmanager
def join_cluster(address: str | None) -> Iterator[bool]:
    """Use a Ray cluster for the length of a block: the given one, the job's, or one started here.

    Args:
        address: Of a cluster; None for the job's or `RAY_ADDRESS`, or else an instance of our own.

    Yields:
        Whether the instance was started here, so that nothing can join it. Ray is ready inside the
        block, and what workers raise leaves it as our errors.

    Raises:
        ResourceError: If there is no cluster at that address.
    """
    if ray.is_initialized():
        with _worker_errors_explained():
            yield False
        return
    known = address or os.environ.get("RAY_ADDRESS")
    on_termination = signal.getsignal(signal.SIGTERM)
    try:
        if known:
            _check_address(known)
            ray.init(address=known, log_to_driver=False, logging_level=logging.ERROR)
        else:
            _start_here()
        # Ray's own handler ends the process with a dump of its C++ stack.
        signal.signal(signal.SIGTERM, on_termination)
    except (OSError, ValueError, RuntimeError) as error:
        words = _lines(error)[0]
        if not known:
            raise ResourceError(f"Ray did not start on this machine ({words})") from error
        raise ResourceError(
            f"--address {known}: no Ray cluster answers ({words}); if it is up and asks for a "
            "token, set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN"
        ) from error
    try:
        with _worker_errors_explained():
            yield not known
    finally:
        ray.shutdown()


class _StartTime:
    """Catches that Ray was not up within 30 s: an `Exception`, and no kind of it."""

    late: BaseException | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool:
        self.late = error if kind is Exception else None
        return self.late is not None


def _start_here() -> None:
    """Start Ray on this machine, once more if the machine is too busy for that.

    Raises:
        ResourceError: If it does not start in time then either.
    """
    logger.info("starting Ray on this machine")
    # Each actor pool of Ray Data logs an "error" that warns of a lost driver (2.60).
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    for left in reversed(range(_STARTS)):
        # Ray's workers look for modules in the folder where it was started, before all others: a
        # user's folder named `pipelines` would be taken for ours.
        with _StartTime() as start, contextlib.chdir(_OUR_FOLDER):
            ray.init(
                address="local",
                include_dashboard=False,
                log_to_driver=False,
                logging_level=logging.ERROR,
            )
        if start.late is None:
            return
        ray.shutdown()
        if not left:
            words = f"Ray did not start on this machine ({_lines(start.late)[0]})"
            raise ResourceError(f"{words}; is it very busy? Try again later") from start.late
        logger.warning("Ray did not start in time; it is started once more")


def _check_address(address: str) -> None:
    """Connect once; `auto` and the like have no port of their own and are left to Ray."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if colon and port.isdecimal():
        with socket.create_connection((host, int(port)), timeout=_CONNECT_SECONDS):
            return


# What a worker raised is raised as what it was, not as Ray's copy of the worker's traceback.
@contextmanager
def _worker_errors_explained() -> Iterator[None]:
    try:
        yield
    except RayTaskError as error:
        # Ray adds lines of advice below the message.
        kind, words = type(error.cause), _lines(error.cause)[0]
        # Exit code 2 means that nothing was started, and here something was.
        if issubclass(kind, PipelineError) and not issubclass(kind, InputError):
            raise kind(words) from error
        if issubclass(kind, InputError):
            raise PipelineError(words) from error
        raise PipelineError(f"a worker failed: {kind.__name__}: {words}") from error
    except RayError as error:
        # Of an actor that could not start, the last line names the cause.
        kind, words = type(error), _lines(error)[-1]
        message = f"Ray failed: {kind.__name__}: {words}; run the same command again"
        raise ResourceError(message) from error


def _lines(error: BaseException) -> list[str]:
    return [line.strip() for line in str(error).splitlines() if line.strip()] or ["no message"]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Offer:
    """What the living nodes of a cluster have."""

    nodes: tuple[dict[str, float], ...]

    def count(self, resource: str) -> float:
        return sum(node.get(resource, 0.0) for node in self.nodes)

    def fit_workers(self, *, cpus: int, gpus: int, spare_cpus: float) -> int:
        """Count the actors that fit, each on one node, if one node keeps CPUs to spare."""
        rooms = [_fit_node(node, cpus=cpus, gpus=gpus, spare_cpus=0.0) for node in self.nodes]
        most = 0
        for node, room in zip(self.nodes, rooms, strict=True):
            if node.get("CPU", 0.0) >= spare_cpus:
                beside = _fit_node(node, cpus=cpus, gpus=gpus, spare_cpus=spare_cpus)
                most = max(most, sum(rooms) - room + beside)
        return most


def _fit_node(node: dict[str, float], *, cpus: int, gpus: int, spare_cpus: float) -> int:
    room = int((node.get("CPU", 0.0) - spare_cpus) // cpus)
    return min(room, int(node.get("GPU", 0.0)) // gpus) if gpus else room


def _look_at_nodes() -> _Offer:
    nodes = ray.nodes()  # type: ignore[no-untyped-call]  # Ray's own
    return _Offer(nodes=tuple(node["Resources"] for node in nodes if node["Alive"]))


def count_gpus() -> int:
    """Count the GPUs that the nodes of the cluster offer now.

    Returns:
        How many there are.
    """
    return int(_look_at_nodes().count("GPU"))


def place_workers(
    *,
    workers: int | None,
    threads: int,
    cpus_per_read: float,
    wait_seconds: float,
    gpus_per_worker: Literal[0, 1] | None = None,
) -> Placement:
    """Decide how many workers run, and on what; wait for resources to join.

    Args:
        workers: Wanted ones; None for as many as there are GPUs, or as the CPUs allow.
        threads: CPU threads of a worker without a GPU.
        cpus_per_read: CPUs that one reading task reserves: at least that is left for reading.
        wait_seconds: How long to wait for what is missing.
        gpus_per_worker: None for 1 if the cluster has any.

    Returns:
        The placement.

    Raises:
        ResourceError: If the cluster stays too small, naming what is missing.
    """
    deadline = time.monotonic() + wait_seconds
    while True:
        offer = _look_at_nodes()
        gpus, cpus = int(offer.count("GPU")), offer.count("CPU")
        gpus_each = (1 if gpus else 0) if gpus_per_worker is None else gpus_per_worker
        per_worker = 1 if gpus_each else threads
        fitting = offer.fit_workers(cpus=per_worker, gpus=gpus_each, spare_cpus=cpus_per_read)
        if fitting >= (workers or 1):
            # One worker a GPU; on CPUs what reading leaves over.
            return Placement(
                workers=workers or fitting,
                gpus_per_worker=gpus_each,
                cpus_per_worker=per_worker,
            )
        if time.monotonic() >= deadline:
            raise ResourceError(
                f"cluster: {cpus:g} CPUs and {gpus} GPUs on {len(offer.nodes)} nodes fit "
                f"{fitting} workers of {per_worker} CPUs and {gpus_each} GPUs beside "
                f"{cpus_per_read:g} CPUs for reading; expected {workers or 1}: add nodes, or lower "
                f"--workers, --threads{', --cpus-per-read' if cpus_per_read else ''}"
                f"{' or --gpus-per-worker' if gpus_per_worker else ''}"
            )
        logger.info("waiting for resources: %g CPUs and %d GPUs so far", cpus, gpus)
        time.sleep(_POLL_SECONDS)


@contextmanager
def watch_cluster(
    placement: Placement, *, cpus_per_read: float, seconds: float = _WATCH_SECONDS
) -> Iterator[None]:
    """Say so while the cluster has become too small for the work: Ray would wait without a word.

    Args:
        placement: Where the detect actors run.
        cpus_per_read: CPUs that one reading task reserves.
        seconds: Between two looks, and two words.

    Yields:
        Nothing.
    """
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(seconds):
            _warn_of_size(placement, cpus_per_read)

    watcher = threading.Thread(target=watch, name="cluster", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        ended.set()
        watcher.join()


def _warn_of_size(placement: Placement, cpus_per_read: float) -> None:
    try:
        offer = _look_at_nodes()
    except RayError:
        return  # the run itself will tell
    fitting = offer.fit_workers(
        cpus=placement.cpus_per_worker,
        gpus=placement.gpus_per_worker,
        spare_cpus=cpus_per_read,
    )
    if fitting < placement.workers:
        logger.warning(
            "cluster: what is left, %g CPUs and %d GPUs on %d nodes, fits %d of the %d detect "
            "workers beside reading; the run may wait until nodes join: add some, or end this "
            "command and start it again with fewer --workers (it goes on where it stood)",
            offer.count("CPU"),
            int(offer.count("GPU")),
            len(offer.nodes),
            fitting,
            placement.workers,
        )
