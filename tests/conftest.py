"""Which settings, servers and stores do all tests share? Nothing here leaves this machine."""

from __future__ import annotations

import gc
import logging
import os
import signal
import uuid
import warnings
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

from infra.local.s3_server import S3Server
from tests.architecture.source_tree import ROOT

# Before anything imports an SDK: no test may find the credentials of who runs it.
for _name in [name for name in os.environ if name.startswith(("AWS_", "FSSPEC_", "RAY_"))]:
    del os.environ[_name]
os.environ.update(
    {
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
        "NO_PROXY": "127.0.0.1,localhost",
        "RAY_AUTH_MODE": "disabled",
        "RAY_ENABLE_AUTO_CONNECT": "0",
        "RAY_USAGE_STATS_ENABLED": "0",
    }
)


def pytest_configure():
    # A shell lets its background jobs ignore SIGINT, and what tests start would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)


class _OneRay(LoadScopeScheduling):
    """Keeps a file's tests in one process, and the files that share a Ray: two would not fit."""

    def _split_scope(self, nodeid: str) -> str:
        path = nodeid.partition("::")[0]
        return "ray" if "ray_cluster" in (ROOT / path).read_text("utf-8") else path


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer):
    return _OneRay(config, log)


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """A real S3 server (rclone), started once; `s3_bucket` is what a test asks for."""
    with S3Server(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture
def s3_bucket(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a fresh bucket; the environment leads this process and its children to it."""
    for name, value in s3_server.environment().items():
        monkeypatch.setenv(name, value)
    bucket = f"bucket-{uuid.uuid4().hex}"
    s3_server.make_bucket(bucket)
    return bucket


@pytest.fixture(scope="session")
def moto_port() -> Iterator[int]:
    """An S3 server that honours If-None-Match and takes every key, slower than rclone."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    yield server.get_host_and_port()[1]
    server.stop()


@pytest.fixture
def moto_bucket(moto_port: int, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a fresh bucket on moto; the environment leads to it."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{moto_port}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "moto-takes-any-key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "moto-takes-any-secret")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    bucket = f"bucket-{uuid.uuid4().hex}"
    connection = HTTPConnection("127.0.0.1", moto_port, timeout=10)
    connection.request("PUT", f"/{bucket}")
    assert connection.getresponse().status == 200
    connection.close()
    return bucket


@pytest.fixture(params=["local", pytest.param("s3", marks=pytest.mark.s3)])
def store_root(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URI of an empty folder, on local disk and on S3: what holds on one holds on the other."""
    if request.param == "s3":
        return f"s3://{request.getfixturevalue('s3_bucket')}/prefix"
    root = tmp_path / "store"
    root.mkdir()
    return str(root)


@pytest.fixture(autouse=True)
def _let_actors_go(request: pytest.FixtureRequest) -> Iterator[None]:
    """An actor of a run that failed lives, and holds its CPU, until the error is collected."""
    yield
    if "ray_cluster" in request.fixturenames:
        gc.collect()
        # What the finalizers of the first collection have let go.
        gc.collect()


@pytest.fixture(scope="session")
def ray_cluster(s3_server: S3Server) -> Iterator[None]:
    """One Ray for the whole session, in whose workers the S3 server is known too."""
    import ray
    from ray.data import DataContext

    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Ray warns of its own settings
        for name, value in s3_server.environment().items():
            patch.setenv(name, value)
        ray.init(
            address="local",
            num_cpus=3,
            num_gpus=0,
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
        DataContext.get_current()
    yield
    ray.shutdown()
