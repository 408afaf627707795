"""How are objects read, listed and put in S3 and what speaks its protocol, through s3fs?

s3fs's public calls glob (`cat`), hold whole listings (`find`), publish half-written objects (`open`
for writing) and cut keys at `?versionId=`. So requests are made one level lower, by bucket and
literal key; credentials and the endpoint (`AWS_ENDPOINT_URL`) are botocore's own.
"""

from __future__ import annotations

import asyncio
import io
import itertools
from collections.abc import Coroutine, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar

from pipelines.errors import ImageError, ImageReason, ObjectChangedError, StorageError
from pipelines.storage.failures import (
    Fault,
    absence_kept,
    classify,
    explain_image,
    explained,
    find_code,
)
from pipelines.storage.objects import (
    CreateUnsupportedError,
    ObjectBytes,
    ObjectInfo,
    OvertakenError,
    Seen,
    describe_overtaken,
)
from pipelines.storage.ranges import check_range
from pipelines.storage.s3_client import STORE_ERRORS, S3Client, connect
from pipelines.storage.uris import bucket_and_key

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

_CONCURRENT_DELETES = 16

_Result = TypeVar("_Result")


class S3Store:
    """Buckets of AWS, or of a server named by `AWS_ENDPOINT_URL`."""

    def iter_objects(self, uri: str, name_start: str = "") -> Iterator[ObjectInfo]:
        """Stream the listing, page by page, in the order of the server.

        Of a key that is named several times in a row, as rclone does while an object is replaced,
        the first entry is given, as of any object that is replaced once it was listed. The protocol
        has keys ascend; where a server does not, what it names again further on is given again.
        """
        for _, entries in itertools.groupby(self._list(uri, name_start), key=lambda info: info.uri):
            yield next(entries)

    def _list(self, uri: str, name_start: str) -> Iterator[ObjectInfo]:
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
        client = connect(objects[0].uri)

        async def read_all() -> list[ObjectBytes | ImageError]:
            slots = asyncio.Semaphore(concurrency)
            reads = (_read_object(client, slots, info, max_bytes) for info in objects)
            return await _gather(reads)

        return client.run(read_all)

    def read(self, uri: str) -> bytes:
        """Read one whole object; FileNotFoundError if there is none."""
        client = connect(uri)
        with absence_kept(uri, STORE_ERRORS):
            data, _ = client.run(lambda: client.fetch(uri))
        return data

    def open(self, uri: str, *, buffer_bytes: int) -> BinaryIO:
        """Open one object for ranged reads; FileNotFoundError if there is none."""
        return io.BufferedReader(_RangeReader(uri), buffer_size=buffer_bytes)

    def find_object(self, uri: str) -> ObjectInfo | None:
        """Ask for the head of an object."""
        bucket, key = bucket_and_key(uri)
        with explained(uri, STORE_ERRORS):
            try:
                head = _head(uri)
            except FileNotFoundError:
                return None
        return _describe(bucket, head | {"Key": key, "Size": head.get("ContentLength", 0)})

    def write(
        self, uri: str, data: bytes, *, scratch: str | None, seen: Seen | None = None
    ) -> None:
        """Put finished bytes in one request, which AWS limits to 5 GB.

        What was seen is asked for with `If-Match` or `If-None-Match`: rclone ignores them.

        Raises:
            OvertakenError: something else stands there.
        """
        del scratch  # A put appears whole: there is nothing to hide meanwhile.
        client = connect(uri)
        condition = _condition(seen)

        async def put_once() -> None:
            try:
                await _put(client, uri, data, **condition)
            except OSError as error:
                if not condition or not _is_overtaken(error, uri):
                    raise
                # An earlier try of this put may have come through without its answer.
                if not await _holds(client, uri, data):
                    raise OvertakenError(describe_overtaken(uri)) from None

        with explained(uri, STORE_ERRORS):
            try:
                client.run(lambda: client.repeat(uri, put_once))
            except CreateUnsupportedError:
                if _see(uri) != seen:
                    raise OvertakenError(describe_overtaken(uri)) from None
                client.run(lambda: client.repeat(uri, lambda: _put(client, uri, data)))

    def create(self, uri: str, data: bytes, *, scratch: str | None) -> bool:
        """Put with `If-None-Match: *`, which AWS and moto honour and rclone ignores.

        A put whose answer got lost is made again, by aiohttp even unseen, and then refused because
        of itself: so the bytes that stand there tell whose they are.

        Raises:
            CreateUnsupportedError: the store says that it has no conditional put.
        """
        del scratch
        client = connect(uri)

        async def create_once() -> bool:
            try:
                await _put(client, uri, data, IfNoneMatch="*")
            except OSError as error:
                _check_refusal(error, uri)
                return await _holds(client, uri, data)
            return True

        with explained(uri, STORE_ERRORS):
            return client.run(lambda: client.repeat(uri, create_once))

    def delete(self, uris: Iterable[str]) -> None:
        """Delete objects one by one: the bulk request differs too much between servers."""
        doomed = list(uris)
        if not doomed:
            return
        client = connect(doomed[0])
        slots = asyncio.Semaphore(_CONCURRENT_DELETES)

        async def delete_one(uri: str) -> None:
            bucket, key = bucket_and_key(uri)
            async with slots:
                with explained(uri, STORE_ERRORS):
                    try:
                        await client.send(uri, "delete_object", Bucket=bucket, Key=key)
                    except FileNotFoundError:
                        return

        async def delete_all() -> None:
            await _gather(delete_one(uri) for uri in doomed)

        client.run(delete_all)

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
        bucket = bucket_and_key(uri)[0]
        client = connect(uri)
        with explained(uri, STORE_ERRORS):
            return client.call(uri, "list_objects_v2", Bucket=bucket, **options)


class _RangeReader(io.RawIOBase):
    """One object, read by ranges; all of them of the version that was there when it was opened."""

    def __init__(self, uri: str) -> None:
        self._uri = uri
        self._position = 0
        with absence_kept(uri, STORE_ERRORS):
            head = _head(uri)
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
        client, span = connect(self._uri), f"bytes={start}-{end - 1}"
        with explained(self._uri, STORE_ERRORS):
            data, etag = client.run(lambda: client.fetch(self._uri, byte_range=span))
        if etag != self._etag or len(data) != end - start:
            raise ObjectChangedError(f"{self._uri}: it changed while it was read; run again")
        return data


async def _gather(coroutines: Iterable[Coroutine[Any, Any, _Result]]) -> list[_Result]:
    """Run all at once; when one fails, nothing is asked for behind the back of who was told."""
    tasks = [asyncio.ensure_future(coroutine) for coroutine in coroutines]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()


def _head(uri: str) -> dict[str, Any]:
    bucket, key = bucket_and_key(uri)
    return connect(uri).call(uri, "head_object", Bucket=bucket, Key=key)


async def _put(client: S3Client, uri: str, data: bytes, **options: str) -> None:
    """Put once; a stream is made for each attempt, because sending it uses it up."""
    bucket, key = bucket_and_key(uri)
    body = io.BytesIO(data)
    await client.attempt(
        "put_object", upload_bytes=len(data), Bucket=bucket, Key=key, Body=body, **options
    )


def _condition(seen: Seen | None) -> dict[str, str]:
    """What S3 calls it; nothing where the store tells no versions."""
    if seen is None or seen.etag == "":
        return {}
    return {"IfNoneMatch": "*"} if seen.etag is None else {"IfMatch": f'"{seen.etag}"'}


def _is_overtaken(error: OSError, uri: str) -> bool:
    """Say whether a put was refused for its condition: what was seen may be gone, too."""
    if classify(error) is Fault.TRANSIENT:
        return False
    if classify(error) is not Fault.MISSING:
        _check_refusal(error, uri)
    return True


def _see(uri: str) -> Seen:
    try:
        return Seen(etag=str(_head(uri).get("ETag", "")).strip('"'))
    except FileNotFoundError:
        return Seen(etag=None)


async def _holds(client: S3Client, uri: str, data: bytes) -> bool:
    """Say whether an object is of exactly these bytes."""
    try:
        found, _ = await client.fetch(uri)
    except FileNotFoundError:
        return False
    return found == data


def _check_refusal(error: OSError, uri: str) -> None:
    """Return if a conditional put failed because an object stands there, else raise."""
    code = find_code(error)
    if isinstance(error, FileExistsError) or code in {"PreconditionFailed", "412"}:
        return
    failure = CreateUnsupportedError(f"{uri}: the store has no conditional put")
    # Not `from error`: who follows an error that is its own cause never ends.
    raise (failure if code in {"NotImplemented", "501"} else error) from error.__cause__


async def _read_object(
    client: S3Client, slots: asyncio.Semaphore, info: ObjectInfo, max_bytes: int | None
) -> ObjectBytes | ImageError:
    """Read one object or member; what goes wrong is the answer."""
    # One byte before a member, of its header, is read with it: a range cannot be empty, as that of
    # an empty member would be, or of one whose tar ends with its header.
    before = 0 if info.offset is None else 1

    def check(etag: str, length: int | None) -> None:
        if info.etag and etag and etag != info.etag:
            raise ImageError(ImageReason.CHANGED, f"{info.uri}: changed since it was listed")
        size = length if info.offset is None else info.size
        if max_bytes is not None and size is not None and size > max_bytes:
            raise ImageError(
                ImageReason.TOO_LARGE, f"{info.uri}: {size} bytes, at most {max_bytes} are read"
            )
        if info.offset is not None and length is not None:
            check_range(info, info.offset - before + length)
            if length > info.size + before:
                raise OSError("the store gave the whole object for a range")

    async with slots:
        try:
            data, etag = await client.fetch(
                info.object_uri,
                check,
                byte_range=_range_of(info, before),
                listed_bytes=info.size + before if info.size or before else None,
            )
            check(etag, len(data))
        except (ImageError, *STORE_ERRORS) as error:
            return _explain_read(error, info)
    return ObjectBytes(data=data[before:], etag=etag)


def _range_of(info: ObjectInfo, before: int) -> str | None:
    """What HTTP calls the bytes of a member; None for a whole object."""
    if info.offset is None:
        return None
    return f"bytes={info.offset - before}-{info.offset + info.size - 1}"


def _explain_read(error: Exception, info: ObjectInfo) -> ImageError:
    # This answer has no etag. What was listed does begin inside the object.
    if info.offset is not None and find_code(error) in {"InvalidRange", "416"}:
        return ImageError(ImageReason.CHANGED, f"{info.uri}: its tar is shorter than it was")
    return explain_image(error, info.uri)


def _describe(bucket: str, found: dict[str, Any]) -> ObjectInfo:
    modified = found.get("LastModified")
    return ObjectInfo(
        uri=f"s3://{bucket}/{found['Key']}",
        size=int(found.get("Size", 0)),
        etag=str(found.get("ETag", "")).strip('"'),
        mtime=modified.timestamp() if modified else 0.0,
    )
