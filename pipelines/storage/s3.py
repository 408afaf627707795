"""How are objects read, listed and put in S3 and what speaks its protocol, through s3fs?

s3fs's public calls glob (`cat`), hold whole listings (`find`), publish half-written objects (`open`
for writing) and cut keys at `?versionId=`. So requests are made one level lower, by bucket and
literal key; credentials, the endpoint (`AWS_ENDPOINT_URL`) and retries are botocore's own.
"""

from __future__ import annotations

import asyncio
import io
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, BinaryIO, cast

import aiohttp
from botocore.exceptions import (
    BotoCoreError,
    ChecksumError,
    ClientError,
    HTTPClientError,
    IncompleteReadError,
)
from botocore.parsers import ResponseParserError
from fsspec.asyn import sync
from s3fs import S3FileSystem

from pipelines.errors import ImageError, ImageReason, InputError, StorageError
from pipelines.storage.failures import absence_kept, explain_image, explained, find_code
from pipelines.storage.objects import CreateUnsupportedError, ObjectBytes, ObjectInfo
from pipelines.storage.uris import bucket_and_key, redact

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

STORE_ERRORS = (OSError, BotoCoreError, ClientError, ResponseParserError, aiohttp.ClientError)
"""All that s3fs, botocore and aiohttp raise for a request."""

_BODY_ERRORS = (
    HTTPClientError,
    IncompleteReadError,
    ChecksumError,
    aiohttp.ClientError,
    TimeoutError,
    ConnectionError,
)
"""What breaks a body after its headers came: botocore retries requests, not bodies."""

_MAX_ATTEMPTS = 8
"""Tries of one request, about 35 s of backoff in all; assumed. AWS_MAX_ATTEMPTS wins."""

_BODY_ATTEMPTS = 4
"""Tries of one body, with 0.5, 1 and 2 s between them; assumed."""

_CONNECT_TIMEOUT_S = 5
"""Assumed: a store that is up answers in milliseconds."""

_READ_TIMEOUT_S = 30
"""Seconds without a byte; assumed. A store that hangs is given up after this times the attempts."""

_MAX_CONNECTIONS = 64
"""Connections kept by one process; botocore's 10 would be less than what one slice reads at a
time."""

_CONCURRENT_DELETES = 16


class S3Store:
    """Buckets of AWS, or of a server named by `AWS_ENDPOINT_URL`."""

    def iter_objects(self, uri: str, name_start: str = "") -> Iterator[ObjectInfo]:
        """Stream the listing, page by page, in the order of the server."""
        bucket, key = bucket_and_key(uri)
        if key and not key.endswith("/"):
            # Listing `photos` as a prefix would also read the pages of `photos-old/`.
            for found in self._list_page(uri, Prefix=key, MaxKeys=1).get("Contents", []):
                if found["Key"] == key:
                    yield _describe(bucket, found)
            key += "/"
        for page in self._pages(uri, Prefix=key + name_start):
            for found in page.get("Contents", []):
                yield _describe(bucket, found)

    def list_names(self, uri: str) -> set[str]:
        """Name the objects directly in a folder; none if there are none."""
        key = bucket_and_key(uri)[1]
        prefix = key if not key or key.endswith("/") else key + "/"
        names = {
            found["Key"][len(prefix) :]
            for page in self._pages(uri, Prefix=prefix, Delimiter="/")
            for found in page.get("Contents", [])
        }
        return names - {""}

    def read_objects(
        self, objects: Sequence[ObjectInfo], *, concurrency: int, max_bytes: int | None
    ) -> list[ObjectBytes | ImageError]:
        """Read whole objects, several at a time."""
        filesystem = _connect(objects[0].uri)

        async def read_all() -> list[ObjectBytes | ImageError]:
            slots = asyncio.Semaphore(concurrency)
            reads = (_read_object(filesystem, slots, info, max_bytes) for info in objects)
            return await asyncio.gather(*reads)

        return cast("list[ObjectBytes | ImageError]", sync(filesystem.loop, read_all))

    def read(self, uri: str) -> bytes:
        """Read one whole object; FileNotFoundError if there is none."""
        filesystem = _connect(uri)
        with absence_kept(uri, STORE_ERRORS):
            return cast("bytes", sync(filesystem.loop, _get, filesystem, uri)[0])

    def open(self, uri: str, *, buffer_bytes: int) -> BinaryIO:
        """Open one object for ranged reads; FileNotFoundError if there is none."""
        return io.BufferedReader(_RangeReader(uri), buffer_size=buffer_bytes)

    def exists(self, uri: str) -> bool:
        """Ask for the head of an object."""
        with explained(uri, STORE_ERRORS):
            try:
                _call(uri, "head_object")
            except FileNotFoundError:
                return False
        return True

    def write(self, uri: str, data: bytes, *, scratch: str | None) -> None:
        """Put finished bytes in one request, which AWS limits to 5 GB."""
        del scratch  # A put appears whole: there is nothing to hide meanwhile.
        with explained(uri, STORE_ERRORS):
            _call(uri, "put_object", Body=io.BytesIO(data))

    def create(self, uri: str, data: bytes, *, scratch: str | None) -> bool:
        """Put with `If-None-Match: *`, which AWS and moto honour and rclone ignores.

        Raises:
            CreateUnsupportedError: the store says that it has no conditional put.
        """
        del scratch
        with explained(uri, STORE_ERRORS):
            try:
                _call(uri, "put_object", Body=io.BytesIO(data), IfNoneMatch="*")
            except OSError as error:
                code = find_code(error)
                if isinstance(error, FileExistsError) or code in {"PreconditionFailed", "412"}:
                    return False
                failure = CreateUnsupportedError(f"{uri}: the store has no conditional put")
                # Not `from error`: who follows an error that is its own cause never ends.
                raise (failure if code in {"NotImplemented", "501"} else error) from error.__cause__
        return True

    def delete(self, uris: Iterable[str]) -> None:
        """Delete objects one by one: the bulk request differs too much between servers."""
        doomed = list(uris)
        if not doomed:
            return
        filesystem = _connect(doomed[0])
        slots = asyncio.Semaphore(_CONCURRENT_DELETES)

        async def delete_one(uri: str) -> None:
            bucket, key = bucket_and_key(uri)
            async with slots:
                with explained(uri, STORE_ERRORS):
                    try:
                        await filesystem._call_s3("delete_object", Bucket=bucket, Key=key)
                    except FileNotFoundError:
                        return

        async def delete_all() -> None:
            await asyncio.gather(*(delete_one(uri) for uri in doomed))

        sync(filesystem.loop, delete_all)

    def _pages(self, uri: str, **options: str) -> Iterator[dict[str, Any]]:
        # Stopping at a page without a token would silently lose the rest of the bucket.
        page = self._list_page(uri, **options)
        yield page
        while page.get("IsTruncated"):
            token = page.get("NextContinuationToken")
            if not token:
                raise StorageError(f"{uri}: the store cut its listing and gave no token to go on")
            page = self._list_page(uri, ContinuationToken=token, **options)
            yield page

    def _list_page(self, uri: str, **options: str | int) -> dict[str, Any]:
        filesystem = _connect(uri)
        bucket = bucket_and_key(uri)[0]
        with explained(uri, STORE_ERRORS):
            page = filesystem.call_s3("list_objects_v2", Bucket=bucket, **options)
        return cast("dict[str, Any]", page)


class _RangeReader(io.RawIOBase):
    """One object, read by ranges; all of them of the version that was there when it was opened."""

    def __init__(self, uri: str) -> None:
        self._uri = uri
        self._position = 0
        with absence_kept(uri, STORE_ERRORS):
            head = _call(uri, "head_object")
        self._size = int(head["ContentLength"])
        self._etag = str(head.get("ETag", "")).strip('"')

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        self._position = max(0, start + offset)
        return self._position

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        view = memoryview(buffer).cast("B")
        end = min(self._position + len(view), self._size)
        if end <= self._position:
            return 0
        data = self._fetch(self._position, end)
        view[: len(data)] = data
        self._position += len(data)
        return len(data)

    def _fetch(self, start: int, end: int) -> bytes:
        filesystem = _connect(self._uri)
        span = f"bytes={start}-{end - 1}"
        with explained(self._uri, STORE_ERRORS):
            data, etag = sync(filesystem.loop, _get, filesystem, self._uri, Range=span)
        if etag != self._etag or len(data) != end - start:
            raise StorageError(f"{self._uri}: the object changed while it was read; run again")
        return cast("bytes", data)


def _connect(uri: str) -> S3FileSystem:
    # A client belongs to one process and to the environment that it took its credentials from.
    environment = frozenset(item for item in os.environ.items() if item[0].startswith("AWS_"))
    with explained(uri, STORE_ERRORS):
        try:
            # Only a hash of the environment is kept: it holds the secret key.
            return _make_filesystem(os.getpid(), hash(environment))
        except ValueError as error:
            reply = redact(str(error))
            raise InputError(f"AWS_ENDPOINT_URL or AWS_REGION is not valid: {reply}") from error


@lru_cache(maxsize=8)
def _make_filesystem(process_id: int, environment_hash: int) -> S3FileSystem:
    """Make a client; both arguments are only there to tell clients apart."""
    del process_id, environment_hash
    config: dict[str, Any] = {
        "connect_timeout": _CONNECT_TIMEOUT_S,
        "read_timeout": _READ_TIMEOUT_S,
        "max_pool_connections": _MAX_CONNECTIONS,
    }
    retries = {"mode": "standard", "total_max_attempts": _MAX_ATTEMPTS}
    if "AWS_RETRY_MODE" in os.environ:
        del retries["mode"]
    if "AWS_MAX_ATTEMPTS" in os.environ:
        del retries["total_max_attempts"]
    filesystem = S3FileSystem(
        skip_instance_cache=True,
        use_listings_cache=False,
        config_kwargs={**config, "retries": retries},
    )
    # botocore retries already: s3fs's own loop around it would multiply the attempts.
    filesystem.retries = 1
    filesystem.connect()
    return filesystem


def _call(uri: str, method: str, **options: Any) -> dict[str, Any]:  # noqa: ANN401 (botocore's own)
    """Make one request about one object."""
    bucket, key = bucket_and_key(uri)
    filesystem = _connect(uri)
    return cast("dict[str, Any]", filesystem.call_s3(method, Bucket=bucket, Key=key, **options))


async def _read_object(
    filesystem: S3FileSystem, slots: asyncio.Semaphore, info: ObjectInfo, max_bytes: int | None
) -> ObjectBytes | ImageError:
    """Read one object whole; what goes wrong is the answer."""

    def check(etag: str, size: int) -> None:
        if info.etag and etag and etag != info.etag:
            raise ImageError(ImageReason.CHANGED, f"{info.uri}: changed since it was listed")
        if max_bytes is not None and size > max_bytes:
            raise ImageError(
                ImageReason.TOO_LARGE, f"{info.uri}: {size} bytes, at most {max_bytes} are read"
            )

    async with slots:
        try:
            data, etag = await _get(filesystem, info.uri, check)
        except (ImageError, *STORE_ERRORS) as error:
            return explain_image(error, info.uri)
    return ObjectBytes(data=data, etag=etag)


async def _get(
    filesystem: S3FileSystem,
    uri: str,
    check: Callable[[str, int], None] | None = None,
    **options: str,
) -> tuple[bytes, str]:
    # The etag is that of the bytes; `check` sees the headers before the body is read.
    bucket, key = bucket_and_key(uri)
    failures = 0
    while True:
        response = await filesystem._call_s3("get_object", Bucket=bucket, Key=key, **options)
        etag = str(response.get("ETag", "")).strip('"')
        async with response["Body"] as body:
            if check is not None:
                check(etag, int(response["ContentLength"]))
            try:
                return await body.read(), etag
            except _BODY_ERRORS:
                failures += 1
                if failures == _BODY_ATTEMPTS:
                    raise
        await asyncio.sleep(2**failures / 4)


def _describe(bucket: str, found: dict[str, Any]) -> ObjectInfo:
    modified = found.get("LastModified")
    return ObjectInfo(
        uri=f"s3://{bucket}/{found['Key']}",
        size=int(found.get("Size", 0)),
        etag=str(found.get("ETag", "")).strip('"'),
        mtime=modified.timestamp() if modified else 0.0,
    )
