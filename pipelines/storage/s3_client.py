"""How does one request to S3 come to its answer, whatever happens on the way?

One client a process and environment. A request is one attempt at a time, each bounded in time, the
body included; `pipelines.storage.retries` says which are made again. Credentials that have expired
are looked up again, once a request, through the whole chain of the SDK.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import datetime
from functools import lru_cache
from typing import Any, TypeVar, cast

import aiohttp
from aiobotocore.session import AioSession
from botocore.exceptions import BotoCoreError, ClientError, IncompleteReadError
from botocore.parsers import ResponseParserError
from botocore.utils import parse_timestamp
from fsspec.asyn import sync
from s3fs import S3FileSystem

from pipelines.errors import InputError
from pipelines.storage.failures import Fault, classify, explained, find_code
from pipelines.storage.retries import TRIES, Retries, limit_attempt
from pipelines.storage.uris import bucket_and_key, redact

STORE_ERRORS = (OSError, BotoCoreError, ClientError, ResponseParserError, aiohttp.ClientError)
"""All that s3fs, botocore and aiohttp raise for a request."""

_CONNECT_TIMEOUT_S = 5
"""Seconds for TCP and TLS. A store that is up answers in milliseconds; the system sends a lost
first packet again after 1 and 3 s. Assumed."""

_READ_TIMEOUT_S = 30
"""Seconds without a byte of the answer. Long enough for a busy store on disks (measured: an idle
rclone takes 0.4 s for a page of a listing), short enough for a dead connection, which nothing else
would notice. Assumed."""

_MAX_CONNECTIONS = 64
"""Connections kept by one process; botocore's 10 would be less than what one slice reads at a
time."""

_Result = TypeVar("_Result")


class S3Client:
    """What this process asks S3 with; its coroutines run on s3fs's own loop, by `run`."""

    def __init__(self) -> None:
        """Make a client with what the environment names.

        Raises:
            InputError: AWS_MAX_ATTEMPTS is not a positive number.
        """
        self._tries = _read_tries()
        self._renewing = asyncio.Lock()
        self._filesystem = S3FileSystem(
            session=_open_session(),
            skip_instance_cache=True,
            use_listings_cache=False,
            config_kwargs={
                "connect_timeout": _CONNECT_TIMEOUT_S,
                "read_timeout": _READ_TIMEOUT_S,
                "max_pool_connections": _MAX_CONNECTIONS,
                # All retrying is ours; the attempts of two layers would multiply.
                "retries": {"mode": "standard", "total_max_attempts": 1},
            },
        )
        self._filesystem.retries = 1
        self._filesystem.connect()

    def run(self, function: Callable[[], Awaitable[_Result]]) -> _Result:
        """Run a coroutine function on the loop of this client, and wait for it."""
        return cast("_Result", sync(self._filesystem.loop, function))

    def call(self, uri: str, method: str, **options: Any) -> dict[str, Any]:  # noqa: ANN401 (botocore's own)
        """Make one request and wait for its answer, which has no body to be streamed."""
        return self.run(lambda: self.send(uri, method, **options))

    async def send(
        self, uri: str, method: str, *, upload_bytes: int = 0, **options: object
    ) -> dict[str, Any]:
        """Make one request, as often as it takes.

        Args:
            uri: the object or folder that it is about, for the log.
            method: botocore's name of it.
            upload_bytes: how many it sends.
            options: its parameters.

        Returns:
            What botocore makes of the answer.
        """
        return await self.repeat(
            uri, lambda: self.attempt(method, upload_bytes=upload_bytes, **options)
        )

    async def attempt(
        self, method: str, *, upload_bytes: int = 0, **options: object
    ) -> dict[str, Any]:
        """Make one request a single time."""
        async with _bounded(upload_bytes):
            reply = await self._filesystem._call_s3(method, **options)
        return cast("dict[str, Any]", reply)

    async def fetch(
        self,
        uri: str,
        check: Callable[[str, int | None], None] | None = None,
        *,
        byte_range: str | None = None,
        listed_bytes: int | None = None,
    ) -> tuple[bytes, str]:
        """Read an object or a range of one, whole.

        A body is whole if it has the announced length, and the checksum if the store sent one, as
        AWS does: botocore compares it. The etag is not compared: whether it is an MD5 is not told.

        Args:
            uri: the object.
            check: is given the etag and the length before the body comes, and may raise.
            byte_range: as HTTP has it, `bytes=0-99`; the whole object if None.
            listed_bytes: the length that is expected where the answer announces none.

        Returns:
            The bytes, and the etag that they are of.
        """
        bucket, key = bucket_and_key(uri)
        options: dict[str, Any] = {} if byte_range is None else {"Range": byte_range}

        async def read_once() -> tuple[bytes, str]:
            reply = await self.attempt("get_object", Bucket=bucket, Key=key, **options)
            etag = str(reply.get("ETag", "")).strip('"')
            length = reply.get("ContentLength", listed_bytes)
            async with reply["Body"] as body:
                if check is not None:
                    check(etag, length)
                async with _bounded(length):
                    data = await body.read()
            if length is not None and len(data) != length:
                raise IncompleteReadError(actual_bytes=len(data), expected_bytes=length)
            return data, etag

        return await self.repeat(uri, read_once)

    async def repeat(self, uri: str, attempt: Callable[[], Awaitable[_Result]]) -> _Result:
        """Make attempts until one succeeds, or fails in a way that another would not mend."""
        retries, is_renewed = Retries(uri, self._tries), False
        while True:
            used = self._filesystem.s3
            try:
                return await attempt()
            except STORE_ERRORS as error:
                if not is_renewed and _may_have_expired(error):
                    is_renewed = True
                    await self._renew_credentials(used)
                    continue
                pause = retries.pause_after(error)
            await asyncio.sleep(pause)

    async def _renew_credentials(self, used: object) -> None:
        """Ask the SDK's chain for credentials anew, once for all requests that failed together."""
        async with self._renewing:
            if self._filesystem.s3 is used:
                # A session keeps the credentials that it has found.
                self._filesystem.session = _open_session()
                await self._filesystem.set_session(refresh=True)


def connect(uri: str) -> S3Client:
    """Give the client of this process.

    A client belongs to one process and to the environment that it took its credentials from.

    Args:
        uri: what it is for, for messages.

    Returns:
        The client; the same one for the same environment.

    Raises:
        InputError: AWS_ENDPOINT_URL, AWS_REGION or AWS_MAX_ATTEMPTS is not valid.
    """
    environment = frozenset(item for item in os.environ.items() if item[0].startswith("AWS_"))
    # Threads that start together would each make one (measured: 16 take 6.5 s, one 0.2 s).
    with explained(uri, STORE_ERRORS), _lock_of(os.getpid()):
        try:
            # Only a hash of the environment is kept: it holds the secret key.
            return _make_client(os.getpid(), hash(environment))
        except ValueError as error:
            reply = redact(str(error))
            raise InputError(f"AWS_ENDPOINT_URL or AWS_REGION is not valid: {reply}") from error


def _open_session() -> AioSession:
    """A session that reads the times of a listing quickly.

    botocore's own way was two thirds of the processor time of a page of 1,000 keys (*measured*).
    """
    session = AioSession()
    factory = session.get_component("response_parser_factory")
    factory.set_parser_defaults(timestamp_parser=_parse_timestamp)
    return session


def _parse_timestamp(value: str | float) -> datetime:
    """Read a time of a listing, which is ISO 8601, or of a header, which may be anything."""
    if isinstance(value, str):
        with suppress(ValueError):
            return datetime.fromisoformat(value)
    parsed: datetime = parse_timestamp(value)
    return parsed


@lru_cache(maxsize=8)
def _make_client(process_id: int, environment_hash: int) -> S3Client:
    """Make a client; both arguments are only there to tell clients apart."""
    del process_id, environment_hash
    return S3Client()


@lru_cache(maxsize=8)
def _lock_of(process_id: int) -> threading.Lock:
    """Give a lock that a fork cannot inherit while another thread holds it."""
    del process_id
    return threading.Lock()


def _read_tries() -> int:
    """Tries of one request: the SDK's own variable, else ours.

    Raises:
        InputError: it is not a positive number.
    """
    text = os.environ.get("AWS_MAX_ATTEMPTS", str(TRIES))
    if not text.isdecimal() or int(text) < 1:
        raise InputError(f"AWS_MAX_ATTEMPTS is {text!r}; expected a number of tries, at least 1")
    return int(text)


def _bounded(size: int | None) -> asyncio.Timeout:
    """Bound the time of an attempt that moves so many bytes; not at all if that is unknown."""
    return asyncio.timeout(None if size is None else limit_attempt(size))


def _may_have_expired(error: Exception) -> bool:
    # The answer to a HEAD has no body that could name the code: S3 says a bare 400 there.
    reply = error if isinstance(error, ClientError) else error.__cause__
    is_bare = isinstance(reply, ClientError) and find_code(reply) == "400"
    return is_bare or classify(error) is Fault.EXPIRED
