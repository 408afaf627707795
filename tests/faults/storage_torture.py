"""Is everything right that is written, listed, read and deleted through a faulty network?

One function for a test of seconds and for a run of hours: more objects, longer stalls.
"""

from __future__ import annotations

import random
import tempfile
import uuid
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from http.client import HTTPConnection
from pathlib import Path
from typing import TypeVar

import pytest

from infra.local.s3_server import S3Server
from pipelines import storage
from tests.faults.plan import PLAN_RATES, Fault, Operation
from tests.faults.proxy import FaultProxy

_FOLDERS = 30
_THREADS = 16
_CREATORS = 4
"""How many want to be the one that creates an object."""

_Item = TypeVar("_Item")


def torture_storage(*, objects: int, seed: int, stall_s: float) -> Counter[tuple[Fault, Operation]]:
    """Write, list, read, create and delete objects through proxies with the rates of a bad day.

    Everything is checked on the way, the written objects on the disk of the server too.

    Args:
        objects: how many, at least 40.
        seed: of the faults and of the contents.
        stall_s: seconds that a stall takes.

    Returns:
        How often each fault struck each operation.

    Raises:
        AssertionError: something is not as it was written.
    """
    rates = replace(PLAN_RATES, internal_error=0.01, stall_s=stall_s)
    contents = _make_contents(objects, seed)
    with ExitStack() as stack:
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        server = stack.enter_context(S3Server(folder))
        proxy = stack.enter_context(FaultProxy(server.endpoint_url, rates, seed=seed))
        for name, value in server.environment().items():
            patch.setenv(name, value)
        server.make_bucket("bucket")
        patch.setenv("AWS_ENDPOINT_URL", proxy.endpoint_url)
        proxy.fail_next(None, Fault.EXPIRED_TOKEN)
        _check_writes("s3://bucket/run", contents, folder / "bucket" / "run")
        _check_reads("s3://bucket/run", contents, proxy)
        _check_questions("s3://bucket/run", contents)
        _check_deletes("s3://bucket/run", contents)
        counts = proxy.counts
    return counts + _torture_creation(max(3, objects // 50), seed, stall_s)


def _make_contents(objects: int, seed: int) -> dict[str, bytes]:
    """Names in folders, and their bytes: most of some kilobytes, a few empty, a few large."""
    generator = random.Random(seed)
    contents = {}
    for number in range(objects):
        size = generator.choice([generator.randrange(30_000)] * 18 + [0, 300_000])
        name = f"{number % _FOLDERS}/object {number:06d}.bin"
        contents[name] = generator.randbytes(size)
    return contents


def _for_each(function: Callable[[_Item], None], items: Iterable[_Item]) -> None:
    with ThreadPoolExecutor(_THREADS) as pool:
        for _ in pool.map(function, items):
            pass


def _check_writes(root: str, contents: dict[str, bytes], folder: Path) -> None:
    """What was written stands on the disk of the server, whole, and nothing else does."""
    _for_each(lambda name: storage.write_bytes(f"{root}/{name}", contents[name]), contents)
    found = {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }
    assert found == contents


def _check_reads(root: str, contents: dict[str, bytes], proxy: FaultProxy) -> None:
    """All is listed once and comes as it was written, asked for once and again for each fault."""
    infos = list(storage.iter_objects(root))
    listed = [(info.uri, info.size) for info in infos]
    assert listed == sorted((f"{root}/{name}", len(data)) for name, data in contents.items())
    answers = storage.read_objects(infos)
    for info, answer in zip(infos, answers, strict=True):
        assert isinstance(answer, storage.ObjectBytes), answer
        assert answer.etag == info.etag
        assert answer.data == contents[storage.relative_to(info.uri, root)]
    gets = Counter(r.fault for r in proxy.requests if r.operation is Operation.GET)
    # A stall as long as the client's patience may cost a second request, or not.
    needed = len(contents) + gets.total() - gets[None] - gets[Fault.STALL]
    assert needed <= gets.total() <= needed + gets[Fault.STALL]


def _check_questions(root: str, contents: dict[str, bytes]) -> None:
    """Folders, single objects, absent ones and ranges, a tenth as many as there are objects."""
    checks: list[Callable[[], None]] = [
        partial(_check_names, root, str(folder), contents) for folder in range(_FOLDERS)
    ]
    for name in list(contents)[::20]:
        checks.append(partial(_check_presence, root, name))
        checks.append(partial(_check_ranges, f"{root}/{name}", contents[name]))
    _for_each(lambda check: check(), checks)


def _check_names(root: str, folder: str, contents: dict[str, bytes]) -> None:
    names = {f"{folder}/{name}" for name in storage.list_names(f"{root}/{folder}")}
    assert names == {name for name in contents if name.startswith(f"{folder}/")}


def _check_presence(root: str, name: str) -> None:
    assert storage.exists(f"{root}/{name}")
    assert not storage.exists(f"{root}/{name}.absent")
    assert storage.create_bytes(f"{root}/{name}", b"another") is False


def _check_ranges(uri: str, data: bytes) -> None:
    with storage.open_range_reader(uri, buffer_bytes=4096) as file:
        for start in (len(data) // 2, 0, max(0, len(data) - 100)):
            file.seek(start)
            assert file.read(100) == data[start : start + 100]
    assert storage.read_bytes(uri) == data


def _check_deletes(root: str, contents: dict[str, bytes]) -> None:
    """What is deleted is gone, and nothing else is."""
    doomed = [name for place, name in enumerate(contents) if place % 2]
    storage.delete([f"{root}/{name}" for name in [*doomed, "absent"]])
    left = {storage.relative_to(info.uri, root) for info in storage.iter_objects(root)}
    assert left == contents.keys() - set(doomed)


def _torture_creation(objects: int, seed: int, stall_s: float) -> Counter[tuple[Fault, Operation]]:
    """Of several creators at once exactly one is told that it was, and the object is its own."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    address = server.get_host_and_port()
    rates = replace(PLAN_RATES, internal_error=0.01, stall_s=stall_s)
    bucket = f"bucket-{uuid.uuid4().hex}"
    try:
        with (
            FaultProxy("http://{}:{}".format(*address), rates, seed=seed) as proxy,
            pytest.MonkeyPatch.context() as patch,
        ):
            patch.setenv("AWS_ENDPOINT_URL", proxy.endpoint_url)
            patch.setenv("AWS_ACCESS_KEY_ID", "any")
            patch.setenv("AWS_SECRET_ACCESS_KEY", "any")
            connection = HTTPConnection(*address, timeout=10)
            connection.request("PUT", f"/{bucket}")
            assert connection.getresponse().status == 200
            connection.close()
            _check_creation([f"s3://{bucket}/{number}" for number in range(objects)])
            return proxy.counts
    finally:
        server.stop()


def _check_creation(uris: list[str]) -> None:
    attempts = [(uri, b"creator %d" % number) for uri in uris for number in range(_CREATORS)]
    with ThreadPoolExecutor(_THREADS) as pool:
        wins = list(pool.map(lambda attempt: storage.create_bytes(*attempt), attempts))
    winners = [attempt for attempt, is_win in zip(attempts, wins, strict=True) if is_win]
    assert [uri for uri, _ in winners] == uris
    assert all(storage.read_bytes(uri) == data for uri, data in winners)
