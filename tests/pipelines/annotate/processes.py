"""Processes that a test started, and theirs: psutil comes with Ray."""

from __future__ import annotations

import contextlib

import ray  # noqa: F401 (it puts psutil on the path)
from psutil import NoSuchProcess, Process, wait_procs


def find_family(pid):
    """A process and all below it, as far as they run at the moment."""
    try:
        first = Process(pid)
        return [first, *first.children(recursive=True)]
    except NoSuchProcess:
        return []


def find_workers(pid, title):
    """Ray's workers below a process that do this now: Ray names them after what they run.

    Their own children, which may have kept the name, are left out.
    """
    workers = {}
    for process in find_family(pid):
        with contextlib.suppress(NoSuchProcess):
            name = " ".join(process.cmdline())
            if name.startswith("ray::") and title in name and process.ppid() not in workers:
                workers[process.pid] = process
    return list(workers.values())


def find_detect_actors(pid):
    """Detect actors below a process."""
    return find_workers(pid, "DetectActor")


def kill_all(processes):
    """SIGKILL them and wait; a pid that was given away since is told by its start time."""
    for process in processes:
        with contextlib.suppress(NoSuchProcess):
            process.kill()
    _, alive = wait_procs(processes, timeout=60)
    assert not alive
