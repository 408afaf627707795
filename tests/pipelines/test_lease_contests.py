"""Of drivers that want a run at the same moment, does one get it?"""

from __future__ import annotations

import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest

from pipelines import lease as lease_module
from pipelines import storage
from pipelines.errors import PipelineError
from pipelines.lease import Lease, LeaseHeldError, LeaseLostError, LeaseTimes, read_holder
from tests.pipelines.drivers import PATIENT, QUICK, SILENT, enter, put_holder, uri_of, wait_until

OTHERS = json.dumps({"id": "f00d", "host": "elsewhere", "process": "", "heartbeat": 7}).encode()


def contend(output, times, *, contenders, is_held):
    """Start drivers at the same moment; each that gets the run keeps it until `is_held` is set.

    Yields:
        What each is going to answer; then the answers: its lease's id, or why it gave way.
    """
    barrier = threading.Barrier(contenders)

    def drive(_):
        lease = Lease(output, times=times)
        barrier.wait()
        try:
            with lease:
                while not is_held.wait(0.01):
                    lease.check()
        except PipelineError as error:
            return error
        return lease.id

    with ThreadPoolExecutor(contenders) as drivers:
        answers = [drivers.submit(drive, number) for number in range(contenders)]
        yield answers
        is_held.set()
    yield [answer.result() for answer in answers]


def run_contest(output, *, contenders=4):
    """All start at once, and the winners end once all the others have."""
    is_held = threading.Event()
    steps = contend(output, PATIENT, contenders=contenders, is_held=is_held)
    answers = next(steps)
    wait_until(lambda: sum(answer.done() for answer in answers) >= contenders - 1)
    return next(steps)


@pytest.mark.parametrize("store", ["local", pytest.param("moto", marks=pytest.mark.s3)])
def test_of_drivers_that_start_at_the_same_moment_exactly_one_gets_the_run(
    request, tmp_path, store
):
    root = str(tmp_path) if store == "local" else f"s3://{request.getfixturevalue('moto_bucket')}/o"
    assert storage.supports_create_if_absent(root)
    results = run_contest(root)
    (winner,) = [result for result in results if isinstance(result, str)]
    losers = [result for result in results if not isinstance(result, str)]
    assert all(isinstance(error, LeaseHeldError) and winner in str(error) for error in losers)


@pytest.mark.s3
def test_where_creation_is_not_atomic_all_but_one_find_out_by_the_heartbeat(s3_bucket):
    root = f"s3://{s3_bucket}/out"
    assert not storage.supports_create_if_absent(root)
    results = run_contest(root)
    (winner,) = [result for result in results if isinstance(result, str)]
    for error in results:
        if error is not winner:
            assert isinstance(error, LeaseHeldError | LeaseLostError)


@pytest.mark.parametrize("store", ["local", pytest.param("moto", marks=pytest.mark.s3)])
def test_of_drivers_that_wait_for_a_run_to_be_given_back_one_gets_it(request, tmp_path, store):
    root = str(tmp_path) if store == "local" else f"s3://{request.getfixturevalue('moto_bucket')}/o"
    is_held = threading.Event()
    with Lease(root, times=SILENT):
        steps = contend(root, LeaseTimes(heartbeat=0.05, lease=20), contenders=3, is_held=is_held)
        answers = next(steps)
        time.sleep(0.3)
        assert not any(answer.done() for answer in answers)
    wait_until(lambda: sum(answer.done() for answer in answers) >= 2)
    results = next(steps)
    assert [type(result) for result in results if isinstance(result, str)] == [str]
    assert sum(isinstance(result, LeaseHeldError) for result in results) == 2


def test_of_two_that_take_over_at_once_the_earlier_one_gives_way(tmp_path, monkeypatch):
    output = str(tmp_path)
    storage.write_bytes(uri_of(output), b"garbage")
    monkeypatch.setattr(lease_module, "time", SimpleNamespace(sleep=lambda _: put_holder(output)))
    with pytest.raises(LeaseHeldError, match="driver f00d on elsewhere"):
        enter(output, PATIENT)
    assert read_holder(uri_of(output)).id == "f00d"


@pytest.mark.parametrize("store", ["local", pytest.param("moto", marks=pytest.mark.s3)])
def test_who_was_paused_before_its_take_over_takes_nothing_from_who_came_first(
    request, tmp_path, monkeypatch, store
):
    root = str(tmp_path) if store == "local" else f"s3://{request.getfixturevalue('moto_bucket')}/o"
    write_bytes = storage.write_bytes
    write_bytes(uri_of(root), b"garbage")

    def sleep_then_write(*args, **options):
        write_bytes(uri_of(root), OTHERS)
        write_bytes(*args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(storage, "write_bytes", sleep_then_write)
        with pytest.raises(LeaseHeldError, match="driver f00d on elsewhere"):
            enter(root, PATIENT)
    assert read_holder(uri_of(root)).id == "f00d"


def test_a_run_that_is_given_back_in_the_moment_of_the_take_over_is_created_anew(
    tmp_path, monkeypatch
):
    output = str(tmp_path)
    storage.write_bytes(uri_of(output), b"garbage")
    delete = SimpleNamespace(sleep=lambda _: Path(uri_of(output)).unlink())
    monkeypatch.setattr(lease_module, "time", delete)
    with Lease(output, times=SILENT) as lease:
        assert read_holder(uri_of(output)).id == lease.id


@pytest.mark.parametrize("store", ["local", pytest.param("moto", marks=pytest.mark.s3)])
def test_a_heartbeat_that_was_paused_takes_back_no_lease(request, tmp_path, monkeypatch, store):
    """Between its look and its put it sleeps, and another driver takes over."""
    root = str(tmp_path) if store == "local" else f"s3://{request.getfixturevalue('moto_bucket')}/o"
    write_bytes = storage.write_bytes

    def sleep_then_write(*args, **options):
        write_bytes(uri_of(root), OTHERS)
        write_bytes(*args, **options)

    with Lease(root, times=QUICK) as lease:
        with monkeypatch.context() as patch:
            patch.setattr(storage, "write_bytes", sleep_then_write)
            wait_until(lambda: not lease._renewer.is_alive())
        with pytest.raises(LeaseLostError, match="driver f00d on elsewhere"):
            lease.check()
