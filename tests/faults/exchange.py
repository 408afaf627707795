"""What does one request to the proxy go through, with its fault or without?"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable
from http import HTTPStatus

from tests.faults.plan import WRITES, Fault, Injection, Operation
from tests.faults.wire import Answer, Head, make_error, move_body, read_answer

_ERRORS = {
    Fault.SLOW_DOWN: (
        HTTPStatus.SERVICE_UNAVAILABLE,
        "SlowDown",
        "Please reduce your request rate.",
    ),
    Fault.INTERNAL_ERROR: (
        HTTPStatus.INTERNAL_SERVER_ERROR,
        "InternalError",
        "We encountered an internal error. Please try again.",
    ),
    Fault.EXPIRED_TOKEN: (
        HTTPStatus.BAD_REQUEST,
        "ExpiredToken",
        "The provided token has expired.",
    ),
}

_MISSING_BYTES = 64
"""What an answer without a body claims to hold, when it is to be cut short."""


class ConnectionDoneError(Exception):
    """Nothing more is to be said on this connection."""


class Exchange:
    """One request and its answer; the fault strikes on the way there or on the way back."""

    def __init__(
        self,
        head: Head,
        client: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        *,
        operation: Operation,
        injection: Injection | None,
        stall_s: float,
    ) -> None:
        """Begin with the head of a request.

        Args:
            head: what was read so far.
            client: the connection that it came by.
            operation: what it is for.
            injection: its fault.
            stall_s: seconds that a stall takes.
        """
        self._head = head
        self._reader, self._writer = client
        self._body = self._reader
        self._operation = operation
        self._injection = injection
        self._stall_s = stall_s
        self._method = head.first_line.partition(" ")[0]
        self._length = int(head.get("content-length") or 0)
        self._is_continue_due = head.get("expect").lower() == "100-continue"

    async def run(self, upstream: tuple[str, int], tell_status: Callable[[int], None]) -> None:
        """Let the request pass, or fail as decided.

        Args:
            upstream: host and port of the server.
            tell_status: is told what the server answers, whether or not the client will be.

        Raises:
            ConnectionDoneError: the client cannot go on with this connection.
        """
        fault = self._injection
        if fault and not fault.after:
            await self._fail_before(fault)
        reader, writer = await asyncio.open_connection(*upstream)
        try:
            await self._forward(writer)
            answer = await read_answer(reader, self._method)
            tell_status(answer.head.status)
            # A request without a body has no middle but that of its answer.
            is_midway = fault and fault.fault is Fault.RESET_MIDWAY and not self._length
            if fault and (fault.after or is_midway):
                await self._fail_after(fault, answer)
            else:
                await self._pass_on(answer)
        finally:
            writer.close()

    async def _fail_before(self, injection: Injection) -> None:
        """Keep a request from the server, or only from being forwarded at once."""
        fault = injection.fault
        if fault in _ERRORS:
            # Who waits for `100 Continue` has not sent the body, and now need not.
            if not self._is_continue_due:
                await self._drop_body(self._length)
            await self._send_error(fault)
        if fault is Fault.RESET:
            self._reset()
        if fault is Fault.RESET_MIDWAY and self._length:
            await self._drop_body(int(self._length * injection.share))
            self._reset()
        if fault is Fault.STALL:
            await self._stall_before()

    async def _stall_before(self) -> None:
        """Stall, and go on only if somebody still waits: a late put could undo a newer one."""
        if not self._is_continue_due:
            # Only behind the body can be seen whether the client has hung up.
            self._body = asyncio.StreamReader()
            self._body.feed_data(await self._reader.readexactly(self._length))
        await asyncio.sleep(self._stall_s)
        if self._reader.at_eof():
            raise ConnectionDoneError

    async def _fail_after(self, injection: Injection, answer: Answer) -> None:
        """Keep an answer from the client, in whole or in part, or only for a while."""
        fault = injection.fault
        middle = int(answer.length * injection.share)
        if fault in _ERRORS:
            await self._send_error(fault)
        if fault is Fault.RESET:
            self._reset()
        if fault is Fault.RESET_MIDWAY:
            await self._begin(answer, middle)
            self._reset()
        if fault is Fault.CUT_BODY:
            self._send_head(answer, missing=0 if answer.length else _MISSING_BYTES)
            await self._send_body(answer, middle)
            raise ConnectionDoneError
        if self._operation in WRITES or not middle:
            await asyncio.sleep(self._stall_s)
            await self._pass_on(answer)
        else:
            self._send_head(answer)
            await self._send_body(answer, middle)
            await asyncio.sleep(self._stall_s)
            await self._send_body(answer, answer.length - middle)

    async def _forward(self, upstream: asyncio.StreamWriter) -> None:
        """Stream the request to the server."""
        hop_headers = {"connection": "close"}
        if self._head.get("content-length"):
            hop_headers["content_length"] = str(self._length)
        upstream.write(self._head.encode(**hop_headers))
        self._let_continue()
        await move_body(self._body, self._length, upstream)

    async def _pass_on(self, answer: Answer) -> None:
        """Stream the answer to the client."""
        self._send_head(answer)
        await self._send_body(answer, answer.length)

    async def _begin(self, answer: Answer, middle: int) -> None:
        """Send an answer to its middle, which without a body is that of its head."""
        if middle:
            self._send_head(answer)
            await self._send_body(answer, middle)
        else:
            head = answer.head.encode(content_length=str(answer.announced))
            self._writer.write(head[: len(head) // 2])

    def _send_head(self, answer: Answer, missing: int = 0) -> None:
        self._writer.write(answer.head.encode(content_length=str(answer.announced + missing)))

    async def _send_body(self, answer: Answer, length: int) -> None:
        """Stream the next bytes of the body."""
        await move_body(answer.reader, length, self._writer)

    async def _send_error(self, fault: Fault) -> None:
        """Answer with an error of S3 and hang up."""
        head, body = make_error(*_ERRORS[fault])
        self._writer.write(head.encode(content_length=str(len(body)), connection="close"))
        self._writer.write(b"" if self._method == "HEAD" else body)
        await self._writer.drain()
        raise ConnectionDoneError

    async def _drop_body(self, length: int) -> None:
        self._let_continue()
        await move_body(self._reader, length, None)

    def _let_continue(self) -> None:
        if self._is_continue_due:
            self._writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _reset(self) -> None:
        """End the connection with RST rather than FIN."""
        connection = self._writer.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.transport.abort()
        raise ConnectionDoneError
