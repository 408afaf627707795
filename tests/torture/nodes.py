"""Does a run get over the death of whole machines? Each node here is a raylet with all its workers.

The node with the driver and Ray's control service (GCS) stays: without that one there is no run to
go on with, and the same command starts it again.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from tempfile import TemporaryDirectory
from typing import Any

from tests.pipelines.annotate.processes import find_family, find_workers, kill_all
from tests.torture.own_ray import own_folder
from tests.torture.record import Record
from tests.torture.scenarios import KINDS
from tests.torture.workers import NODE, TITLES, prepare_bucket, torture_rounds

_STORE_BYTES = 256 * 2**20
"""Object store of a node."""
_NODES = 2
_CPUS = 3
"""Of a node: enough for both detect actors and for reading, should it be the only one."""
_HEALTH = {
    "health_check_initial_delay_ms": 1000,
    "health_check_period_ms": 1000,
    "health_check_timeout_ms": 10_000,
    "health_check_failure_threshold": 3,
}
"""A lost node is noticed after three seconds instead of fifteen, sixty times."""


class MortalCluster:
    """A head without CPUs, and nodes that are killed and replaced by fresh ones, soon or late."""

    def __init__(self, *, is_replaced: bool) -> None:
        from ray.cluster_utils import Cluster

        self._cluster = Cluster(
            initialize_head=True,
            head_node_args={
                "num_cpus": 0,
                "num_gpus": 0,
                "include_dashboard": False,
                "object_store_memory": _STORE_BYTES,
                "_system_config": _HEALTH,
            },
        )
        self._is_replaced = is_replaced
        self._nodes: list[Any] = [self._add() for _ in range(_NODES)]

    @property
    def address(self) -> str:
        """What a driver joins."""
        return str(self._cluster.address)

    def kill_one(self, source: random.Random, mark: Callable[[], None]) -> bool:
        """SIGKILL a node with all its processes, if one has work.

        A fresh one joins at once if so wanted, else right before the next one is killed.
        """
        if len(self._nodes) < _NODES:
            self._nodes.append(self._add())
        at_work = [node for node in self._nodes if has_work(_raylet_of(node))]
        if not at_work:
            return False
        node = source.choice(at_work)
        self._nodes.remove(node)
        kill_all(find_family(_raylet_of(node)))
        mark()
        self._cluster.remove_node(node, allow_graceful=False)
        if self._is_replaced:
            self._nodes.append(self._add())
        return True

    def shutdown(self) -> None:
        """End all nodes."""
        self._cluster.shutdown()

    def _add(self) -> Any:
        return self._cluster.add_node(
            num_cpus=_CPUS, num_gpus=0, object_store_memory=_STORE_BYTES, include_dashboard=False
        )


def has_work(raylet: int) -> bool:
    """Whether a process of a node reads, detects or writes a slice at this moment."""
    return any(find_workers(raylet, title) for title in (*TITLES.values(), "(write)"))


def _raylet_of(node: Any) -> int:
    (info,) = node.all_processes["raylet"]
    return int(info.process.pid)


@contextmanager
def join_mortal(*, is_replaced: bool = True) -> Iterator[MortalCluster]:
    """Be the driver of a cluster whose nodes may be killed."""
    import ray

    with own_folder():
        cluster = MortalCluster(is_replaced=is_replaced)
        try:
            ray.init(address=cluster.address, log_to_driver=False, logging_level=logging.ERROR)
            yield cluster
        finally:
            ray.shutdown()
            cluster.shutdown()


def torture_nodes(
    seed: int,
    *,
    kills: int,
    images: int = 240,
    kinds: Sequence[str] = KINDS,
    is_replaced: bool = True,
) -> Record:
    """Kill nodes that have work, so many, in runs of each kind; each is replaced, soon or late."""
    with TemporaryDirectory() as folder, join_mortal(is_replaced=is_replaced) as cluster:
        config = prepare_bucket(folder, images)
        strikes = {NODE: cluster.kill_one}
        return torture_rounds(config, strikes, seed=seed, kills=kills, kinds=kinds)
