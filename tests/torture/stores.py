"""Stores of the three kinds there are: a disk, a server that creates atomically, and one that does
not. The environment leads this process, and what it starts, to the server."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from unittest import mock

from infra.local.s3_server import S3Server

LOCAL, MOTO, RCLONE = STORES = ("local", "moto", "rclone")
_BUCKET = "bucket"


@contextmanager
def open_store(kind: str, folder: Path) -> Iterator[str]:
    """Serve an empty store for the length of a block.

    Args:
        kind: One of `STORES`.
        folder: Where what it holds may lie.

    Yields:
        The URI of an empty folder.
    """
    if kind == LOCAL:
        folder.mkdir(parents=True, exist_ok=True)
        yield str(folder)
    elif kind == MOTO:
        with _serve_moto():
            yield f"s3://{_BUCKET}/run"
    else:
        with S3Server(folder) as server, mock.patch.dict(os.environ, server.environment()):
            server.make_bucket(_BUCKET)
            yield f"s3://{_BUCKET}/run"


@contextmanager
def _serve_moto() -> Iterator[None]:
    """It honours If-None-Match and takes every key."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        environment = {
            "AWS_ENDPOINT_URL": f"http://{host}:{port}",
            "AWS_ACCESS_KEY_ID": "moto-takes-any-key",
            "AWS_SECRET_ACCESS_KEY": "moto-takes-any-secret",
            "AWS_REGION": "us-east-1",
        }
        connection = HTTPConnection(host, port, timeout=10)
        connection.request("PUT", f"/{_BUCKET}")
        assert connection.getresponse().status == 200
        connection.close()
        with mock.patch.dict(os.environ, environment):
            yield
    finally:
        server.stop()
