"""What stands between a client and a real S3 server, and lets some requests fail as told?

It streams, forwards each request with the client's own `Host` (rclone checks the signature, which
covers that header, and does not ask whose name it is), and writes down every request.
"""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, replace
from http import HTTPStatus
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

from tests.faults.exchange import ConnectionDoneError, Exchange
from tests.faults.plan import (
    WRITES,
    Fault,
    FaultRates,
    Injection,
    Operation,
    choose_injection,
    place_fault,
)
from tests.faults.wire import Head, Target, find_target, read_head

_START_TIMEOUT_S = 10


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """One request as the proxy saw it."""

    operation: Operation
    method: str
    bucket: str
    key: str
    """Decoded; the prefix of a listing."""

    byte_range: str
    """As in the header, `bytes=0-99`; "" for the whole object."""

    access_key_id: str
    """Whose key signed it, "" if nobody's."""

    injection: Injection | None
    """The fault that it met."""

    status: int | None = None
    """What the server answered, whether or not the client saw it; None if it was never asked."""

    @property
    def fault(self) -> Fault | None:
        """The kind of the fault that it met."""
        return self.injection.fault if self.injection else None

    @property
    def is_answer_lost(self) -> bool:
        """Whether the server carried out a write, and the client was not told."""
        is_done = self.status is not None and self.status < HTTPStatus.MULTIPLE_CHOICES
        return is_done and self.fault not in {None, Fault.STALL} and self.operation in WRITES


class FaultProxy:
    """An endpoint that behaves as the server behind it does, but for the faults asked for."""

    def __init__(
        self,
        upstream_url: str,
        rates: FaultRates | None = None,
        *,
        by_operation: dict[Operation, FaultRates] | None = None,
        seed: int = 0,
    ) -> None:
        """Describe a proxy; it starts on entering the context.

        Args:
            upstream_url: the real server, `http://host:port`.
            rates: the faults of every operation; none at all if None.
            by_operation: the faults of single operations, instead of `rates`.
            seed: the same one gives the same faults to the same requests.
        """
        self.rates = rates or FaultRates()
        self.by_operation = by_operation or {}
        parts = urlsplit(upstream_url)
        self._upstream = (parts.hostname or "", parts.port or 80)
        self._seed = seed
        self._port = 0
        self._log: list[Request] = []
        self._seen: Counter[tuple[str, ...]] = Counter()
        self._scripted: list[tuple[Operation | None, Fault, bool]] = []
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._serving: set[asyncio.Task[None]] = set()
        self._stopping = asyncio.Event()
        self._started = threading.Event()

    @property
    def endpoint_url(self) -> str:
        """Where clients ask, on this machine only: the value for `AWS_ENDPOINT_URL`."""
        return f"http://127.0.0.1:{self._port}"

    @property
    def requests(self) -> list[Request]:
        """All requests so far, in the order in which they came."""
        return list(self._log)

    @property
    def counts(self) -> Counter[tuple[Fault, Operation]]:
        """How often each fault struck each operation."""
        return Counter((r.fault, r.operation) for r in self.requests if r.fault is not None)

    def fail_next(
        self, operation: Operation | None, fault: Fault, *, times: int = 1, after: bool = False
    ) -> None:
        """Let the next requests for an operation meet a fault, whatever the rates say.

        Args:
            operation: whose requests; of any but `Operation.OTHER` if None.
            fault: what they meet.
            times: how many of them, at least 1.
            after: as in `Injection`.
        """
        self._scripted += [(operation, fault, after)] * times

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._run, name="fault-proxy", daemon=True)
        self._thread.start()
        if not self._started.wait(_START_TIMEOUT_S):
            raise RuntimeError("the fault proxy did not start")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._loop is not None and self._thread is not None:
            self._loop.call_soon_threadsafe(self._stopping.set)
            self._thread.join()

    def _run(self) -> None:
        asyncio.run(self._serve_until_stopped())

    async def _serve_until_stopped(self) -> None:
        self._loop = asyncio.get_running_loop()
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self._port = server.sockets[0].getsockname()[1]
        self._started.set()
        await self._stopping.wait()
        server.close()
        # What still talks, or stalls, is ended, and what was just accepted.
        await asyncio.sleep(0)
        while self._serving:
            for task in self._serving:
                task.cancel()
            await asyncio.sleep(0)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)
        task.add_done_callback(lambda _: writer.close())

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the requests of one connection, one after the other."""
        with suppress(ConnectionError, asyncio.IncompleteReadError, ConnectionDoneError):
            while head := await read_head(reader):
                await self._exchange(head, reader, writer)

    async def _exchange(
        self, head: Head, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        target = find_target(head)
        number = self._enter(target)
        exchange = Exchange(
            head,
            (reader, writer),
            operation=target.operation,
            injection=self._log[number].injection,
            stall_s=self._rates_of(target.operation).stall_s,
        )

        def tell_status(status: int) -> None:
            self._log[number] = replace(self._log[number], status=status)

        await exchange.run(self._upstream, tell_status)

    def _enter(self, target: Target) -> int:
        """Write a request down, with what will happen to it; gives its number."""
        identity = (target.operation, target.key, target.part, target.byte_range)
        self._seen[identity] += 1
        injection = self._take_scripted(target.operation)
        if injection is None:
            rates = self._rates_of(target.operation)
            name = "\n".join((*identity, str(self._seen[identity])))
            injection = choose_injection(rates, target.operation, name, self._seed)
        request = Request(
            operation=target.operation,
            method=target.method,
            bucket=target.bucket,
            key=target.key,
            byte_range=target.byte_range,
            access_key_id=target.access_key_id,
            injection=injection,
        )
        self._log.append(request)
        return len(self._log) - 1

    def _rates_of(self, operation: Operation) -> FaultRates:
        return self.by_operation.get(operation, self.rates)

    def _take_scripted(self, operation: Operation) -> Injection | None:
        for place, (wanted, fault, after) in enumerate(self._scripted):
            if operation is not Operation.OTHER and wanted in {None, operation}:
                del self._scripted[place]
                return place_fault(fault, operation, after=after)
        return None
