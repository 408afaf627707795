"""Drivers that hold a run, for the tests of the lease."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

from pipelines import storage
from pipelines.lease import Lease, LeaseTimes

ROOT = Path(__file__).parents[2]
QUICK = LeaseTimes(heartbeat=0.05, lease=0.5)
"""Of a driver that soon takes over."""
PATIENT = LeaseTimes(heartbeat=0.2, lease=60)
"""Of a driver that would wait for longer than any test: it must not have to."""
SILENT = LeaseTimes(heartbeat=1000, lease=2000)
"""Of a driver whose heartbeat stands still."""


def uri_of(output):
    return storage.join_uri(output, "lease.json")


def put_holder(output, **changes):
    values = {"id": "f00d", "host": "elsewhere", "process": "", "heartbeat": 7} | changes
    storage.write_bytes(uri_of(output), json.dumps(values).encode())


def enter(output, times):
    """Hold a run for a moment; returns the seconds that it took to get it."""
    started = time.monotonic()
    with Lease(output, times=times) as lease:
        lease.confirm()
        return time.monotonic() - started


def wait_until(condition, seconds=30):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


HOLDER = """
import sys, time
from pipelines.lease import Lease, LeaseLostError, LeaseTimes
with Lease(sys.argv[1], times=LeaseTimes(heartbeat=1, lease=60)) as lease:
    print(lease.id, flush=True)
    while True:
        time.sleep(0.02)
        lease.check()
"""


@contextmanager
def start_holder(output):
    """Another process that holds a run, and its lease's id; it is killed at the end.

    Its heartbeat is slow, so that it is not paused in the middle of one: it would write on waking.
    """
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, output],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as holder:
        try:
            yield holder, holder.stdout.readline().strip()
        finally:
            holder.kill()
