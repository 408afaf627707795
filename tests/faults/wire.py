"""How does HTTP/1.1 look on the wire, as far as a proxy in front of an S3 server must know it?"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from http import HTTPStatus
from urllib.parse import parse_qsl, unquote, urlsplit

from tests.faults.plan import Operation

_CHUNK_BYTES = 1 << 16

_MULTIPART_KEYS = {"uploads", "uploadId", "partNumber"}
_OBJECT_METHODS = {"GET", "PUT", "HEAD", "DELETE"}

_HOP_HEADERS = {"connection", "keep-alive", "expect", "transfer-encoding", "content-length"}
"""What each hop settles for itself. None of these is signed by botocore."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Head:
    """The first line and the headers of a request or of an answer."""

    first_line: str
    headers: tuple[tuple[str, str], ...]

    @property
    def status(self) -> int:
        """The status code of an answer."""
        return int(self.first_line.split(maxsplit=2)[1])

    def get(self, name: str) -> str:
        """Give the value of a header, "" without one."""
        return next((value for key, value in self.headers if key.lower() == name), "")

    def encode(self, **hop_headers: str) -> bytes:
        """Give the bytes of the head; only these hop-by-hop headers, underscores for hyphens."""
        kept = [pair for pair in self.headers if pair[0].lower() not in _HOP_HEADERS]
        kept += [(name.replace("_", "-").title(), value) for name, value in hop_headers.items()]
        lines = [self.first_line, *(f"{name}: {value}" for name, value in kept)]
        return "".join(f"{line}\r\n" for line in [*lines, ""]).encode("latin-1")


@dataclass(frozen=True, kw_only=True, slots=True)
class Target:
    """What a request asks for."""

    method: str
    operation: Operation
    bucket: str
    key: str
    """The key, decoded; the prefix of a listing."""

    byte_range: str
    """The header `Range`, "" for the whole object."""

    part: str
    """Of a multipart upload, else ""."""

    access_key_id: str
    """Of who signed, "" without a signature."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """An answer whose body is still on its way; it ends the connection that it came by."""

    head: Head
    length: int
    """Bytes of the body; 0 if there is none."""

    announced: int
    """Bytes that the answer says it has, as one to a HEAD does without a body."""

    reader: asyncio.StreamReader
    """Where the body is to be read."""


async def read_head(reader: asyncio.StreamReader) -> Head | None:
    """Read a head, None if the other side has closed the connection instead."""
    try:
        block = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return None
    first_line, *lines = block.decode("latin-1").split("\r\n")[:-2]
    pairs = (line.partition(":") for line in lines)
    return Head(
        first_line=first_line, headers=tuple((name, value.strip()) for name, _, value in pairs)
    )


def find_target(head: Head) -> Target:
    """Read a request in path style, `/bucket/key`, which clients use for a bare address."""
    method, text, _ = head.first_line.split(" ", 2)
    parts = urlsplit(text)
    bucket, _, key = parts.path.lstrip("/").partition("/")
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    operation = _find_operation(method, bucket, key, query)
    return Target(
        method=method,
        operation=operation,
        bucket=unquote(bucket),
        key=query.get("prefix", "") if operation is Operation.LIST else unquote(key),
        byte_range=head.get("range"),
        part=query.get("partNumber", ""),
        access_key_id=head.get("authorization").partition("Credential=")[2].partition("/")[0],
    )


async def move_body(
    reader: asyncio.StreamReader, length: int, writer: asyncio.StreamWriter | None
) -> None:
    """Stream so many bytes from one side to the other, or to nowhere.

    Raises:
        ConnectionError: a side ended it early.
    """
    while length > 0:
        chunk = await reader.read(min(length, _CHUNK_BYTES))
        if not chunk:
            raise ConnectionError(f"a body ended {length} bytes early")
        length -= len(chunk)
        if writer is not None:
            writer.write(chunk)
            await writer.drain()


async def read_answer(reader: asyncio.StreamReader, method: str) -> Answer:
    """Read an answer's head, and its body as far as its length is not announced.

    Raises:
        ConnectionError: the server closed the connection.
    """
    head = await read_head(reader)
    while head and head.status < HTTPStatus.OK:
        head = await read_head(reader)
    if head is None:
        raise ConnectionError("the server gave no answer")
    announced = head.get("content-length")
    if method == "HEAD" or head.status in {HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED}:
        return Answer(head=head, length=0, announced=int(announced or 0), reader=reader)
    if announced:
        return Answer(head=head, length=int(announced), announced=int(announced), reader=reader)
    is_chunked = head.get("transfer-encoding").lower() == "chunked"
    whole = await _read_chunks(reader) if is_chunked else await reader.read()
    rest = asyncio.StreamReader()
    rest.feed_data(whole)
    return Answer(head=head, length=len(whole), announced=len(whole), reader=rest)


def make_error(status: HTTPStatus, code: str, message: str) -> tuple[Head, bytes]:
    """Make an error as S3 words it: the head and the body."""
    body = (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f"<Error><Code>{code}</Code><Message>{message}</Message>"
        "<RequestId>FAULTPROXY</RequestId></Error>"
    ).encode()
    first_line = f"HTTP/1.1 {status.value} {status.phrase}"
    return Head(first_line=first_line, headers=(("Content-Type", "application/xml"),)), body


def _find_operation(method: str, bucket: str, key: str, query: dict[str, str]) -> Operation:
    if _MULTIPART_KEYS & query.keys():
        return Operation.MULTIPART
    if method == "POST" and "delete" in query:
        return Operation.DELETE
    if bucket and not key and method == "GET" and "location" not in query:
        return Operation.LIST
    if key and method in _OBJECT_METHODS:
        return Operation(method.lower())
    return Operation.OTHER


async def _read_chunks(reader: asyncio.StreamReader) -> bytes:
    chunks = []
    while size := int((await reader.readline()).split(b";")[0], 16):
        chunks.append(await reader.readexactly(size))
        await reader.readline()
    while (await reader.readline()).strip():
        pass  # Trailers tell nothing that matters here.
    return b"".join(chunks)
