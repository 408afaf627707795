"""Does a driver that was killed with all its processes lose or double anything?"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipelines import storage
from pipelines.receipts import list_receipts
from tests.builders import (
    annotate_flags,
    annotate_without_ray,
    assert_same_rows,
    list_all,
    make_config,
    read_file,
    run_command,
    write_pictures,
)
from tests.pipelines.annotate.processes import find_family, kill_all

ROOT = Path(__file__).parents[3]
SLICES = 12


def kill_in_the_middle(config, log):
    """Start a driver with a Ray of its own; SIGKILL them all once two slices are committed."""
    name, *flags = annotate_flags(config)
    command = [sys.executable, "-m", f"jobs.{name}", *flags]
    with log.open("wb") as output:
        driver = subprocess.Popen(
            command, cwd=ROOT, stdout=output, stderr=output, start_new_session=True
        )
    family = []
    try:
        while len(committed := list_receipts(config.output)) < 2:
            assert driver.poll() is None, log.read_text()
            if committed or not family:
                family = find_family(driver.pid)
            time.sleep(0.01)
    finally:
        # Its group first, all at once; then what Ray put into groups of its own.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(driver.pid, signal.SIGKILL)
        kill_all([*family, *(child for one in family[1:] for child in find_family(one.pid)[1:])])
        driver.wait()
    return len(list_receipts(config.output))


@pytest.mark.ray
def test_a_run_killed_in_the_middle_is_finished_by_the_same_command(
    store_root, checkpoint, tmp_path, ray_cluster
):
    write_pictures(storage.join_uri(store_root, "in"), 2 * SLICES)
    config = make_config(store_root, checkpoint, slice_size=2, scales=("317x389",))
    plain = storage.join_uri(store_root, "plain")
    annotate_without_ray(config, plain)

    committed = kill_in_the_middle(config, tmp_path / "driver.log")
    assert 2 <= committed < SLICES
    for name in list_all(config.output):
        if name.endswith(".parquet"):
            read_file(storage.join_uri(config.output, name))

    ended = run_command(*annotate_flags(config), "--json")
    report = json.loads(ended.out)
    assert (report["images"], report["images_read"]) == (2 * SLICES, 2 * (SLICES - committed))
    assert "are not read again" in ended.err
    assert_same_rows(config.output, plain)
