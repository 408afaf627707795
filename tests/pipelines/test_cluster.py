"""Where do the detect actors fit, and what does a user hear of a cluster that fails?"""

from __future__ import annotations

import logging
import socket
import time
from pathlib import Path

import pytest
import ray
from ray.exceptions import RayTaskError, WorkerCrashedError

from pipelines import cluster
from pipelines.cluster import Placement, join_cluster, place_workers
from pipelines.errors import InputError, PipelineError, ResourceError, StorageError


@pytest.fixture
def offer(monkeypatch):
    """Let the nodes of the cluster offer this, one offer after another, the last for ever."""

    def offer(*offers):
        rest = [one if isinstance(one, list) else [one] for one in offers]

        def list_nodes():
            nodes = rest.pop(0) if len(rest) > 1 else rest[0]
            dead = {"Alive": False, "Resources": {"CPU": 99.0, "GPU": 9.0}}
            return [dead, *({"Alive": True, "Resources": node} for node in nodes)]

        monkeypatch.setattr(ray, "nodes", list_nodes)
        monkeypatch.setattr(cluster, "_POLL_SECONDS", 0.01)

    return offer


def place(**asked):
    usual = {"workers": None, "threads": 1, "cpus_per_read": 0.5, "wait_seconds": 0.0}
    return place_workers(**usual | asked)


@pytest.mark.parametrize(
    ("resources", "asked", "expected"),
    [
        ({"CPU": 2.0}, {}, (1, 0, 1)),
        ({"CPU": 8.0}, {}, (7, 0, 1)),
        ({"CPU": 8.0}, {"workers": 2}, (2, 0, 1)),
        ({"CPU": 8.0}, {"threads": 3}, (2, 0, 3)),
        ({"CPU": 8.0}, {"cpus_per_read": 4.5}, (3, 0, 1)),
        ({"CPU": 64.0, "GPU": 4.0}, {}, (4, 1, 1)),
        ({"CPU": 64.0, "GPU": 4.0}, {"workers": 3, "threads": 8}, (3, 1, 1)),
        ({"CPU": 3.0, "GPU": 8.0}, {}, (2, 1, 1)),
        ([{"CPU": 2.0}, {"CPU": 2.0}], {}, (3, 0, 1)),
        ([{"CPU": 4.0}, {"CPU": 5.0}], {"threads": 3}, (2, 0, 3)),
        ([{"CPU": 3.0}, {"CPU": 1.0}], {"threads": 3}, (1, 0, 3)),
        ([{"CPU": 8.0, "GPU": 1.0}, {"CPU": 8.0}], {}, (1, 1, 1)),
        ({"CPU": 8.0, "GPU": 2.0}, {"gpus_per_worker": 0, "threads": 3}, (2, 0, 3)),
        ({"CPU": 8.0, "GPU": 2.0}, {"gpus_per_worker": 1}, (2, 1, 1)),
    ],
)
def test_actors_take_the_gpus_or_what_reading_leaves_of_the_cpus(offer, resources, asked, expected):
    offer(resources)
    workers, gpus, cpus = expected
    assert place(**asked) == Placement(workers=workers, gpus_per_worker=gpus, cpus_per_worker=cpus)


@pytest.mark.parametrize(
    ("resources", "asked", "words"),
    [
        ({"CPU": 1.0}, {}, "1 CPUs and 0 GPUs on 1 nodes fit 0 workers"),
        ({}, {}, "0 CPUs and 0 GPUs on 1 nodes fit 0 workers"),
        ([], {}, "on 0 nodes fit 0 workers"),
        (
            [{"CPU": 2.0}, {"CPU": 2.0}],
            {"threads": 3},
            "4 CPUs and 0 GPUs on 2 nodes fit 0 w",
        ),
        ([{"CPU": 3.0}, {"CPU": 3.0}], {"threads": 3, "workers": 2}, "fit 1 workers"),
        ({"CPU": 4.0}, {"workers": 9}, "expected 9"),
        ({"CPU": 4.0}, {"threads": 8}, "workers of 8 CPUs"),
        ({"CPU": 64.0, "GPU": 2.0}, {"workers": 3}, "fit 2 workers"),
        ({"CPU": 8.0}, {"gpus_per_worker": 1}, "fit 0 workers of 1 CPUs and 1 GPUs"),
    ],
)
def test_a_cluster_that_is_too_small_is_refused_naming_what_is_missing(
    offer, resources, asked, words
):
    offer(resources)
    with pytest.raises(ResourceError, match="add nodes, or lower") as error:
        place(**asked)
    assert words in str(error.value)
    assert error.value.exit_code == 1


def test_nodes_that_join_in_time_are_used(offer, caplog):
    offer({}, {"CPU": 1.0}, {"CPU": 4.0})
    with caplog.at_level(logging.INFO):
        assert place(wait_seconds=30).workers == 3
    assert "waiting for resources" in caplog.text


def test_waiting_ends(offer):
    offer({})
    started = time.monotonic()
    with pytest.raises(ResourceError):
        place(wait_seconds=0.05)
    assert 0.05 <= time.monotonic() - started < 5


def find_closed_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.mark.parametrize("address", ["127.0.0.1:{port}", "ray://127.0.0.1:{port}", "nonsense"])
def test_an_address_without_a_cluster_is_refused_at_once(monkeypatch, address):
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    address = address.format(port=find_closed_port())
    started = time.monotonic()
    with pytest.raises(ResourceError) as error, join_cluster(address):
        pytest.fail("there is no cluster")
    assert str(error.value).startswith(f"--address {address}: no Ray cluster answers")
    assert "\n" not in str(error.value)
    assert time.monotonic() - started < 5


@pytest.fixture
def joined(monkeypatch):
    """A cluster that was joined before; nothing here asks it for anything."""
    monkeypatch.setattr(ray, "is_initialized", lambda: True)


def raise_in_worker(cause):
    """What `ray.get` raises; Ray adds advice to the message of the cause."""
    raise RayTaskError("f", f"Traceback: 1\n{cause}", cause, proctitle="f", pid=1, ip="127.0.0.1")


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (StorageError, StorageError),
        (ResourceError, ResourceError),
        # Exit code 2 would say that nothing was started.
        (InputError, PipelineError),
    ],
)
def test_our_errors_leave_a_worker_as_they_were(joined, kind, expected):
    with pytest.raises(PipelineError) as error, join_cluster(None):
        raise_in_worker(kind("s3://b/x: closed\nFailed to apply UDF transform\nTo change it,"))
    assert type(error.value) is expected
    assert str(error.value) == "s3://b/x: closed"
    assert error.value.exit_code == 1


def test_other_errors_leave_a_worker_as_one_sentence(joined):
    with pytest.raises(PipelineError) as error, join_cluster(None):
        raise_in_worker(KeyError("x"))
    assert type(error.value) is PipelineError
    assert str(error.value) == "a worker failed: KeyError: 'x'"


def test_a_failure_of_ray_itself_is_one_sentence(joined):
    with pytest.raises(ResourceError) as error, join_cluster(None):
        raise WorkerCrashedError
    assert str(error.value).startswith("Ray failed: WorkerCrashedError: ")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("slow", [1, 2])
def test_a_ray_that_does_not_come_up_in_time_is_started_once_more(monkeypatch, slow):
    starts = []

    def start(**_):
        starts.append(Path.cwd())
        if len(starts) <= slow:
            raise Exception("The current node timed out during startup.")  # noqa: TRY002 (as Ray does)

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", start)
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    before = Path.cwd()
    if slow == 1:
        with join_cluster(None) as is_ours:
            assert is_ours
    else:
        with pytest.raises(ResourceError, match="timed out during startup"), join_cluster(None):
            pass
    assert len(starts) == 2
    assert Path.cwd() == before


def test_our_own_errors_pass_through(joined):
    with pytest.raises(InputError, match="as it was"), join_cluster(None):
        raise InputError("as it was")


@pytest.mark.ray
def test_an_error_survives_the_real_way_from_a_worker(ray_cluster):
    def fail():
        raise StorageError("the disk is full")

    with pytest.raises(StorageError) as error, join_cluster(None):
        ray.get(ray.remote(fail).remote())
    assert str(error.value) == "the disk is full"
    assert ray.is_initialized()


@pytest.mark.parametrize(
    ("left", "fitting"),
    [({"CPU": 2.5}, 2), ({"CPU": 2.0}, 1), ([{"CPU": 1.0}] * 2, 1), ([], 0)],
)
def test_a_cluster_that_has_become_too_small_is_told(offer, caplog, left, fitting):
    """Two actors of one CPU, and half a CPU for reading: without that, nothing would go on."""
    offer(left)
    placement = Placement(workers=2, gpus_per_worker=0, cpus_per_worker=1)
    with cluster.watch_cluster(placement, cpus_per_read=0.5, seconds=0.01):
        time.sleep(0.1)
    assert (f"fits {fitting} of the 2 detect workers" in caplog.text) == (fitting < 2)
