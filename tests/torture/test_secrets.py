"""Is a secret found where it may not stand, and does a run leave none there?"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import ray

from pipelines.annotate.run import annotate
from tests.builders import make_checkpoint, make_config, write_pictures
from tests.torture.secrets import keep_lookout, search_files

SECRET = "s3cr3t-of-nobody"


def look_at_a_careless_program():
    with (
        keep_lookout([SECRET]) as lookout,
        subprocess.Popen([sys.executable, "-c", "input()", SECRET], stdin=subprocess.PIPE),
    ):
        looks = lookout.looks
        while lookout.looks < looks + 2:
            time.sleep(0.01)


def test_a_secret_in_a_command_line_is_found():
    with pytest.raises(AssertionError, match=r"a secret in the command line of .*python"):
        look_at_a_careless_program()


def test_a_secret_in_a_file_is_found_also_if_it_is_packed(tmp_path):
    (tmp_path / "plain.log").write_text("nothing\n")
    assert search_files([tmp_path], [SECRET]) == 1
    # Enough of it that compression leaves no whole copy in the bytes.
    pq.write_table(pa.table({"a": [SECRET[:8] * 9 + SECRET]}), tmp_path / "packed.parquet")
    with pytest.raises(AssertionError, match=r"a secret in .*packed\.parquet"):
        search_files([tmp_path], [SECRET])


@pytest.mark.ray
@pytest.mark.s3
@pytest.mark.usefixtures("ray_cluster")
def test_a_run_on_ray_leaves_no_secret_in_a_command_line_a_table_or_a_log(
    s3_bucket, s3_server, tmp_path
):
    root, secrets = f"s3://{s3_bucket}", [os.environ["AWS_SECRET_ACCESS_KEY"]]
    write_pictures(f"{root}/in", 4)
    with keep_lookout(secrets) as lookout:
        annotate(make_config(root, make_checkpoint(tmp_path / "weights")))
    assert any(b"DetectActor" in line for line in lookout.seen)
    logs = Path(ray._private.worker._global_node.get_session_dir_path())
    assert search_files([s3_server.folder / s3_bucket, logs], secrets) > 10
