"""How is an object read over https, in bounded memory and time, whatever the server sends?

One request a read, through the session of fsspec's filesystem: its own reads hold, and unpack, all
that comes, for as long as it comes.
"""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import cast

import aiohttp
from fsspec import AbstractFileSystem
from fsspec.asyn import sync

from pipelines.errors import ImageError, ImageReason
from pipelines.storage import retries
from pipelines.storage.objects import ObjectBytes, ObjectInfo

_CHUNK_BYTES = 1 << 16
"""Taken at a time from what aiohttp holds, which is a few times as much. Assumed."""


def read_object(
    filesystem: AbstractFileSystem, url: str, listed: ObjectInfo, max_bytes: int | None
) -> ObjectBytes:
    """Read one whole object by a single attempt.

    Args:
        filesystem: of fsspec, for https.
        url: the object.
        listed: the object as it was listed.
        max_bytes: what is larger is left in the middle; None for no limit.

    Returns:
        Its bytes, and the etag that they came with.

    Raises:
        ConnectionError: the server answered with something else than the object.
        ImageError: it changed since it was listed, or it is too large.
    """
    return cast(
        "ObjectBytes", sync(filesystem.loop, _read_object, filesystem, url, listed, max_bytes)
    )


def read_etag(text: str) -> str:
    """Take an etag out of its quotes; one that a server calls weak at times is the same.

    Args:
        text: as a server sends it.

    Returns:
        The version that it stands for.
    """
    return text.removeprefix("W/").strip('"')


def read_range(filesystem: AbstractFileSystem, url: str, start: int, size: int) -> bytes:
    """Read a range of an object by a single attempt.

    Args:
        filesystem: of fsspec, for https.
        url: the object.
        start: the first byte.
        size: how many bytes, at least 1.

    Returns:
        What came of them: it may be less, or somewhat more where the server gives more.

    Raises:
        ConnectionError: the server answered with something else than a range.
    """
    return cast("bytes", sync(filesystem.loop, _read_range, filesystem, url, start, size))


async def _read_object(
    filesystem: AbstractFileSystem, url: str, listed: ObjectInfo, max_bytes: int | None
) -> ObjectBytes:
    async with _asked(filesystem, url, {}) as (response, deadline):
        # 203 is of a proxy that has changed it; any other status tells of something else.
        if response.status not in {HTTPStatus.OK, HTTPStatus.NON_AUTHORITATIVE_INFORMATION}:
            raise ConnectionError(f"HTTP status {response.status} instead of the whole object")
        etag = read_etag(response.headers.get("ETag", ""))
        if listed.etag and etag and etag != listed.etag:
            raise ImageError(ImageReason.CHANGED, f"{listed.uri}: changed since it was listed")
        length = response.content_length
        if max_bytes is not None and length is not None and length > max_bytes:
            raise _too_large(listed.uri, str(length), max_bytes)
        data = await _read_body(response, deadline, max_bytes)
    # Not all lengths are announced, and what was packed is longer than announced.
    if max_bytes is not None and len(data) > max_bytes:
        raise _too_large(listed.uri, f"more than {max_bytes}", max_bytes)
    return ObjectBytes(data=data, etag=etag)


async def _read_range(filesystem: AbstractFileSystem, url: str, start: int, size: int) -> bytes:
    span = {"Range": f"bytes={start}-{start + size - 1}"}
    async with _asked(filesystem, url, span) as (response, deadline):
        if response.status != HTTPStatus.PARTIAL_CONTENT:
            raise ConnectionError(
                f"all bytes came of a range of {size} (HTTP status {response.status})"
            )
        return await _read_body(response, deadline, size)


@asynccontextmanager
async def _asked(
    filesystem: AbstractFileSystem, url: str, headers: dict[str, str]
) -> AsyncIterator[tuple[aiohttp.ClientResponse, asyncio.Timeout]]:
    """Ask for an object, and give the answer before its body, with the deadline for both.

    Raises:
        TimeoutError: the deadline passed.
        FileNotFoundError: the URL, or that of a redirect, names no host or port.
        OSError: the request failed.
        ClientError: the same, as aiohttp has it.
    """
    session = await filesystem.set_session()
    options = dict(filesystem.kwargs)
    # Packed bytes would have another etag and length than those that were listed.
    options["headers"] = {
        **options.get("headers", {}),
        "Accept-Encoding": "identity",
        **headers,
    }
    deadline = asyncio.timeout(retries.limit_attempt(0))
    try:
        async with deadline, session.get(filesystem.encode_url(url), **options) as response:
            response.raise_for_status()
            yield response, deadline
    except (OSError, aiohttp.ClientError) as error:
        if not deadline.expired():
            raise
        raise TimeoutError(
            f"slower than {retries.ATTEMPT_TIMEOUT_S} s and {retries.SLOWEST_BYTES_PER_S} bytes/s"
        ) from error
    # What is left of ValueError, which some of those are, comes from yarl and the codec of hosts.
    except ValueError as error:
        raise FileNotFoundError(f"no such host or port: {error}") from error


async def _read_body(
    response: aiohttp.ClientResponse, deadline: asyncio.Timeout, max_bytes: int | None
) -> bytes:
    """Read a body to its end, or until it is longer than that; the deadline moves with it."""
    first = deadline.when()
    # Unlike joining pieces, a BytesIO gives its bytes without a copy.
    body = io.BytesIO()
    async for chunk in response.content.iter_chunked(_CHUNK_BYTES):
        body.write(chunk)
        if max_bytes is not None and body.tell() > max_bytes:
            break
        if first is not None:
            deadline.reschedule(first + body.tell() / retries.SLOWEST_BYTES_PER_S)
    return body.getvalue()


def _too_large(uri: str, size: str, max_bytes: int) -> ImageError:
    return ImageError(ImageReason.TOO_LARGE, f"{uri}: {size} bytes, at most {max_bytes} are read")
