"""Is there one driver at a time, and never none for longer than it takes to notice?"""

from __future__ import annotations

import json
import logging
import os
import platform
import signal
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines import lease as lease_module
from pipelines import storage
from pipelines.errors import InputError, StorageError
from pipelines.lease import (
    Lease,
    LeaseHeldError,
    LeaseLostError,
    LeaseTimes,
    check_holder,
    read_holder,
)
from tests.pipelines.drivers import (
    PATIENT,
    QUICK,
    SILENT,
    enter,
    put_holder,
    start_holder,
    uri_of,
    wait_until,
)


def test_a_second_driver_gives_way_to_a_heartbeat_that_moves(store_root):
    with Lease(store_root, times=PATIENT) as first:
        started = time.monotonic()
        with pytest.raises(LeaseHeldError) as error:
            enter(store_root, PATIENT)
        assert time.monotonic() - started < 30
        assert first.id in str(error.value)
        assert platform.node() in str(error.value)
        assert error.value.exit_code == 2
        assert "\n" not in str(error.value)
        first.confirm()


def test_the_heartbeat_moves_as_long_as_the_run_is_held(store_root):
    with Lease(store_root, times=PATIENT) as lease:
        first = read_holder(uri_of(store_root)).heartbeat
        wait_until(lambda: read_holder(uri_of(store_root)).heartbeat >= first + 2)
        assert read_holder(uri_of(store_root)).id == lease.id


def test_a_driver_takes_over_from_one_that_is_silent_for_a_lease_time(store_root):
    put_holder(store_root)
    assert enter(store_root, QUICK) >= QUICK.lease
    # rclone shows no lease in the moment in which its holder replaces it.
    refused = (LeaseHeldError, LeaseLostError)
    with pytest.raises(refused), Lease(store_root, times=PATIENT):
        enter(store_root, PATIENT)


def test_a_driver_of_another_machine_is_watched_although_no_process_has_its_number(tmp_path):
    process = "another-boot/pid:[4026531836]/999999999/5"
    put_holder(str(tmp_path), process=process)
    assert enter(str(tmp_path), QUICK) >= QUICK.lease


@pytest.mark.parametrize("is_reaped", [True, False])
def test_a_driver_that_was_killed_on_this_machine_is_relieved_at_once(tmp_path, is_reaped):
    """Killed by -9, and a zombie as long as nobody asks for its end."""
    with start_holder(str(tmp_path)) as (holder, lease_id):
        assert read_holder(uri_of(str(tmp_path))).id == lease_id
        holder.kill()
        if is_reaped:
            holder.wait()
        else:
            stat = Path(f"/proc/{holder.pid}/stat")
            wait_until(lambda: stat.read_text().rpartition(")")[2].split()[0] == "Z")
        assert enter(str(tmp_path), PATIENT) < 30


def test_another_process_with_the_number_of_a_killed_one_is_not_taken_for_it(tmp_path):
    """Numbers are given away again: the time of the start tells processes apart."""
    ours = lease_module._identify_process(os.getpid())
    machine, started = ours.rpartition("/")[0], int(ours.rpartition("/")[2])
    put_holder(str(tmp_path), process=f"{machine}/{started - 1}")
    assert enter(str(tmp_path), PATIENT) < 30


def test_another_users_driver_that_proc_hides_is_watched(tmp_path, monkeypatch):
    """So it is where /proc is mounted with `hidepid`."""
    ours, read_text = lease_module._identify_process(os.getpid()), Path.read_text

    def hide(path, *options):
        if path == Path("/proc/1/stat"):
            raise FileNotFoundError(path)
        return read_text(path, *options)

    monkeypatch.setattr(Path, "read_text", hide)
    machine = ours.rsplit("/", 2)[0]
    put_holder(str(tmp_path), process=f"{machine}/1/5")
    assert enter(str(tmp_path), QUICK) >= QUICK.lease


def test_who_holds_a_run_removes_what_killed_writes_left_for_a_lease_time(tmp_path):
    scratch = tmp_path / ".tmp"
    scratch.mkdir()
    for name, seconds in {"left": PATIENT.lease + 9, "young": 9}.items():
        path = scratch / f"{name}.{'0a' * 8}.tmp"
        path.touch()
        os.utime(path, 2 * (time.time() - seconds,))
    with Lease(str(tmp_path), times=PATIENT):
        assert [path.name[:5] for path in scratch.iterdir()] == ["young"]


def test_a_paused_driver_that_was_relieved_finds_out(tmp_path):
    output = str(tmp_path)
    with start_holder(output) as (holder, lease_id):
        holder.send_signal(signal.SIGSTOP)
        with Lease(output, times=QUICK) as lease:
            assert read_holder(uri_of(output)).id == lease.id
            check_holder(output, lease.id)
            with pytest.raises(LeaseLostError, match=lease.id):
                check_holder(output, lease_id)
            holder.send_signal(signal.SIGCONT)
            _, said = holder.communicate(timeout=60)
            assert f"LeaseLostError: {uri_of(output)}: driver {lease.id}" in said
            # It did not take away the other one's lease as it ended.
            assert read_holder(uri_of(output)).id == lease.id
            lease.confirm()


def test_a_driver_that_slept_while_another_one_ended_the_run_finds_out(tmp_path):
    """There may be a newer generation by now, of which it knows nothing."""
    output = str(tmp_path)
    with start_holder(output) as (holder, lease_id):
        holder.send_signal(signal.SIGSTOP)
        assert enter(output, QUICK) >= QUICK.lease
        with pytest.raises(LeaseLostError, match="gone"):
            check_holder(output, lease_id)
        holder.send_signal(signal.SIGCONT)
        _, said = holder.communicate(timeout=60)
        assert "LeaseLostError" in said
        assert not storage.exists(uri_of(output))


def test_confirm_looks_by_itself_and_check_knows_by_the_next_heartbeat(tmp_path):
    output = str(tmp_path)
    with Lease(output, times=SILENT) as lease:
        put_holder(output)
        lease.check()
        with pytest.raises(LeaseLostError, match="driver f00d on elsewhere"):
            lease.confirm()
    with Lease(output, times=QUICK) as lease:
        # A heartbeat that has begun would write over it once.
        wait_until(lambda: put_holder(output) or not lease._renewer.is_alive())
        with pytest.raises(LeaseLostError, match="driver f00d on elsewhere") as error:
            lease.check()
    assert error.value.exit_code == 1
    assert read_holder(uri_of(output)).id == "f00d"


@pytest.mark.parametrize("error", [None, StorageError("the store failed"), KeyboardInterrupt()])
def test_a_run_is_given_back_however_the_command_ends(store_root, error):
    def work():
        with Lease(store_root, times=QUICK):
            assert storage.exists(uri_of(store_root))
            if error is not None:
                raise error

    if error is None:
        work()
    else:
        with pytest.raises(type(error)):
            work()
    assert not storage.exists(uri_of(store_root))


OURS = {"id": "f00d", "host": "elsewhere", "process": "", "heartbeat": 7}
GARBAGE = {
    "nothing": b"",
    "half": json.dumps(OURS).encode()[:20],
    "not text": b"\xff\xfe\x00",
    "a list": b"[]",
    "null": b"null",
    "deep": b"[" * 100_000,
    "no id": json.dumps({**OURS, "id": None}).encode(),
    "a number for a process": json.dumps({**OURS, "process": 7}).encode(),
    "words for a heartbeat": json.dumps({**OURS, "heartbeat": "often"}).encode(),
    "another program's": b'{"lease": "of a flat"}',
}


@pytest.mark.parametrize("name", GARBAGE)
def test_a_lease_file_that_is_none_holds_nobody_up(tmp_path, name):
    output = str(tmp_path)
    storage.write_bytes(uri_of(output), GARBAGE[name])
    assert read_holder(uri_of(output)) is None
    check_holder(output, "any")
    assert enter(output, PATIENT) < 30
    with Lease(output, times=QUICK):
        storage.write_bytes(uri_of(output), GARBAGE[name])
        wait_until(lambda: read_holder(uri_of(output)) is not None)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    values=st.fixed_dictionaries(
        {}, optional={name: json_values | st.just(value) for name, value in OURS.items()}
    ),
    process=json_values | st.from_regex(r"\A[a-z/:\[\]0-9]*\Z"),
    is_of_this_machine=st.booleans(),
)
def test_whatever_a_lease_says_can_be_read(tmp_path_factory, values, process, is_of_this_machine):
    folder = tmp_path_factory.getbasetemp() / "lease-of-any-kind"
    folder.mkdir(exist_ok=True)
    if is_of_this_machine and isinstance(process, str):
        machine = "/".join(lease_module._identify_process(os.getpid()).split("/")[:2])
        process = f"{machine}/{process}"
    uri = uri_of(str(folder))
    storage.write_bytes(uri, json.dumps({**values, "process": process}).encode())
    holder = read_holder(uri)
    if holder is not None:
        assert (holder.process, type(holder.heartbeat) in {int, bool}) == (process, True)
        lease_module._has_ended(holder.process)


@pytest.mark.parametrize(
    "failure", [StorageError("the disk is full"), InputError("the bucket does not exist")]
)
def test_a_heartbeat_that_cannot_be_written_warns_and_the_driver_goes_on(
    tmp_path, monkeypatch, caplog, failure
):
    output = str(tmp_path)

    def fail(uri, *_, **__):
        raise failure

    with Lease(output, times=PATIENT) as lease:
        before = read_holder(uri_of(output)).heartbeat
        with caplog.at_level(logging.WARNING), monkeypatch.context() as patch:
            patch.setattr(storage, "write_bytes", fail)
            wait_until(lambda: caplog.text.count("the lease could not be renewed") >= 2)
            assert str(failure) in caplog.text
            lease.check()
            lease.confirm()
        wait_until(lambda: read_holder(uri_of(output)).heartbeat > before + 2)
    assert not storage.exists(uri_of(output))


def test_a_full_disk_keeps_the_old_lease(tmp_path, monkeypatch, caplog):
    output = str(tmp_path)

    def fail(_):
        raise OSError(28, "No space left on device")

    with Lease(output, times=QUICK) as lease, monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        wait_until(lambda: "full" in caplog.text)
        lease.confirm()


def test_a_lease_that_cannot_be_given_back_is_told_and_hides_no_other_error(
    tmp_path, monkeypatch, caplog
):
    def fail(_):
        raise StorageError("permission denied")

    monkeypatch.setattr(storage, "delete", fail)
    with pytest.raises(StorageError, match="the first error"), Lease(str(tmp_path), times=SILENT):
        raise StorageError("the first error")
    assert "could not be given back: permission denied" in caplog.text
    assert enter(str(tmp_path / "another"), SILENT) < 30


@pytest.mark.parametrize("heartbeat", [0.0, -1.0, 30.0, 31.0, float("nan")])
def test_a_heartbeat_slower_than_the_lease_time_is_refused(heartbeat):
    with pytest.raises(ValueError, match="heartbeat"):
        LeaseTimes(heartbeat=heartbeat, lease=30.0)


def test_every_command_has_the_times_of_the_contract():
    assert LeaseTimes(heartbeat=10.0, lease=30.0) == lease_module.DEFAULT_TIMES
