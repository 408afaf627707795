"""How does one get a Ray cluster with an S3 server on this machine, to submit jobs to?

One head node with the job server, and `infra.local.s3_server` beside it. All listens on 127.0.0.1
alone, on free ports, with a token made at random for each start, and ends with the process that
started it. Other clusters of this machine are neither seen nor touched: `ray stop` would end them
too. By hand: `python -m infra.local.cluster FOLDER`.
"""

from __future__ import annotations

import os
import secrets
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import ray  # noqa: F401 (its import makes its own psutil importable)

# isort: split
import psutil  # type: ignore[import-not-found,import-untyped,unused-ignore]  # inside Ray, untyped

from infra.local.s3_server import S3Server

_START_TIMEOUT_S: Final = 120
"""Seconds until the cluster must be ready; 7 s is usual, measured on 2 busy cores."""

_STOP_TIMEOUT_S: Final = 20
"""Seconds until the head must have gone; 3 s is usual, measured with a job running."""

_STRAGGLERS_S: Final = 10
"""Seconds until the rest must have gone too; parts of the dashboard take 1 s more, measured."""

# The shell waits on a pipe that only the starting process holds open. When that process ends, even
# by SIGKILL, the pipe closes and the shell ends the head, which ends all processes of the node.
# Then it removes their folder, its $0.
_SUPERVISOR: Final = '"$@" & head=$!; read -r _; kill "$head"; wait "$head"; rm -rf -- "$0"'

_USAGE: Final = """
The cluster is up; Ctrl-C ends it. Dashboard: {url} (it asks for RAY_AUTH_TOKEN)

In another terminal, paste the export lines above, then:
  mkdir {folder}/photos {folder}/annotations    # a folder is a bucket
  cp PICTURES {folder}/photos/
  ray job submit --working-dir . -- \\
      python -m jobs.annotate --images s3://photos/ --output s3://annotations/run-1
or with the driver in that terminal, by the same flags:
  overfeat annotate --address {address} --images s3://photos/ --output s3://annotations/run-1
"""


class LocalCluster:
    """A one-node Ray cluster whose workers find an S3 server over a folder."""

    def __init__(
        self, folder: Path, *, cpus: int | None = None, temp_root: Path = Path("/tmp")
    ) -> None:
        """Describe a cluster; it starts on entering the context.

        Args:
            folder: What the S3 server serves, a subfolder a bucket; made if missing.
            cpus: CPUs that Ray may give out; None for as many as the machine has.
            temp_root: Where the cluster's temporary folder is made. Keep it short, at most 30
                characters: the path of a Unix socket ends at 107, and Ray's part takes 70.
        """
        self.s3 = S3Server(folder)
        self._cpus = cpus
        self._temp_root = temp_root
        self._temp = temp_root
        self._token = secrets.token_hex(16)
        self._port = 0
        self._stack = ExitStack()

    @property
    def job_server_url(self) -> str:
        """Of the job server and the dashboard: what `ray job submit --address` takes."""
        return f"http://127.0.0.1:{self._port}"

    @property
    def address(self) -> str:
        """Of the cluster: what the `--address` of our own commands takes, for a driver outside."""
        return self._address_path().read_text().strip()

    def environment(self) -> dict[str, str]:
        """Give the variables with which the `ray` command and S3 clients find this cluster.

        Returns:
            `AWS_*` variables of the S3 server, and `RAY_*`: job server, token, loopback only.
        """
        return {
            **self.s3.environment(),
            "RAY_API_SERVER_ADDRESS": self.job_server_url,
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": self._token,
            # Off means 127.0.0.1 on Linux too: by default Ray listens on the machine's address, and
            # a driver looks for the cluster there, for ever.
            "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        }

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            stack.enter_context(self.s3)
            temp = tempfile.TemporaryDirectory(
                prefix="ray-", dir=self._temp_root, ignore_cleanup_errors=True
            )
            self._temp = Path(stack.enter_context(temp))
            self._port, client_port = _find_free_ports(2)
            head = self._start_head(client_port)
            stack.callback(_stop_head, head)
            self._wait_until_ready(head)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stack.close()

    def _start_head(self, client_port: int) -> subprocess.Popen[bytes]:
        with self._log_path().open("wb") as log:
            return subprocess.Popen(
                ["/bin/sh", "-c", _SUPERVISOR, str(self._temp), *self._command(client_port)],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                env=self._head_environment(),
                # A job without a working directory runs here: it finds what is installed, and
                # nothing that lies about.
                cwd=self._temp,
                # Ctrl-C in a terminal reaches the whole group: the head must outlive the clean-up.
                start_new_session=True,
            )

    def _command(self, client_port: int) -> list[str]:
        cpus = [] if self._cpus is None else [f"--num-cpus={self._cpus}"]
        return [
            *[sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block"],
            *cpus,
            f"--temp-dir={self._temp}",
            "--disable-usage-stats",
            "--dashboard-host=127.0.0.1",
            f"--dashboard-port={self._port}",
            # Without these Ray takes fixed ports, which another cluster may hold; 0 is any port,
            # but not for the Ray client's, which cannot be left out.
            "--port=0",
            "--dashboard-agent-listen-port=0",
            "--min-worker-port=0",
            "--max-worker-port=0",
            f"--ray-client-server-port={client_port}",
        ]

    def _head_environment(self) -> dict[str, str]:
        """Take nothing over that could lead to another cluster or another store."""
        taken_over = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("AWS_", "RAY_"))
        }
        # The entrypoint of a job says `python`, and means this one.
        path = [str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]
        return {
            **taken_over,
            **self.environment(),
            "PATH": os.pathsep.join(path),
            "RAY_USAGE_STATS_ENABLED": "0",
            # No 30 s for another node to take over: there is none.
            "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0",
        }

    def _wait_until_ready(self, head: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + _START_TIMEOUT_S
        # The job server answers before there is a node; the address is written after both.
        while not (self._address_path().exists() and self._answers()):
            if time.monotonic() > deadline or _has_ended(head):
                log = self._log_path().read_text(errors="replace").strip()
                raise RuntimeError(f"Ray did not start in {self._temp}: {log}")
            time.sleep(0.1)

    def _answers(self) -> bool:
        connection = HTTPConnection("127.0.0.1", self._port, timeout=5)
        try:
            headers = {"Authorization": f"Bearer {self._token}"}
            connection.request("GET", "/api/jobs/", headers=headers)
            return connection.getresponse().status == HTTPStatus.OK
        except (OSError, HTTPException):
            return False
        finally:
            connection.close()

    def _address_path(self) -> Path:
        return self._temp / "ray_current_cluster"

    def _log_path(self) -> Path:
        return self._temp / "head.log"


def serve_until_interrupted(folder: Path) -> None:
    """Run a cluster until SIGINT or SIGTERM, having printed how to use it.

    The export lines for a shell go to stdout, the rest to stderr.

    Args:
        folder: What the S3 server serves, a subfolder a bucket.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with LocalCluster(folder) as cluster:
            for name, value in cluster.environment().items():
                sys.stdout.write(f"export {name}={shlex.quote(value)}\n")
            sys.stdout.flush()
            sys.stderr.write(
                _USAGE.format(
                    url=cluster.job_server_url,
                    address=cluster.address,
                    folder=shlex.quote(str(folder)),
                )
            )
            signal.pause()
    except KeyboardInterrupt:
        return


def _find_free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in probes]


def _has_ended(head: subprocess.Popen[bytes]) -> bool:
    # Its shell waits for the word to stop: a head that failed stays behind as a zombie.
    children = psutil.Process(head.pid).children()
    return any(child.status() == psutil.STATUS_ZOMBIE for child in children)


def _stop_head(head: subprocess.Popen[bytes]) -> None:
    """End the head, which ends its node; wait for every process of it, and kill what stays."""
    # A psutil process is a pid and its start time: no other process can be meant.
    processes = psutil.Process(head.pid).children(recursive=True)
    try:
        head.communicate(timeout=_STOP_TIMEOUT_S)  # closes the pipe on which the shell waits
    except subprocess.TimeoutExpired:
        head.kill()
        head.wait()
    _, alive = psutil.wait_procs(processes, timeout=_STRAGGLERS_S)
    for process in alive:
        process.kill()
    psutil.wait_procs(alive, timeout=_STRAGGLERS_S)


if __name__ == "__main__":
    try:
        _, chosen = sys.argv
    except ValueError:
        sys.exit("usage: python -m infra.local.cluster FOLDER")
    try:
        serve_until_interrupted(Path(chosen))
    except (OSError, RuntimeError) as problem:
        sys.exit(f"error: {problem}")
