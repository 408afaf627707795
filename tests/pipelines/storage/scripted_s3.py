"""An S3 server that fails as told, to see what survives it."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest


@dataclass(frozen=True, kw_only=True, slots=True)
class Reply:
    """One answer; a body shorter than `length` is cut off in the middle."""

    status: int = 200
    body: bytes = b""
    length: int | None = None
    has_length: bool = True
    """Whether the length is announced; else the end of the connection ends the body."""

    etag: str = "v1"
    checksum: str = ""
    """CRC32 of the body, as S3 words it; none is sent if empty."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Script:
    """What the server answers, in order, the last one for ever; and what it was asked."""

    replies: list[Reply]
    requests: list[tuple[str, str]] = field(default_factory=list)

    def restart(self, *replies: Reply) -> None:
        """Go on with other answers, as if nothing had been asked so far."""
        self.replies[:] = replies
        self.requests.clear()

    def next_reply(self, *request: str) -> Reply:
        self.requests.append(request)
        return self.replies[min(len(self.requests), len(self.replies)) - 1]


@contextmanager
def serve_script(
    monkeypatch: pytest.MonkeyPatch,
    *replies: Reply,
    on_put: Callable[[io.BufferedIOBase], object] | None = None,
) -> Iterator[Script]:
    """Serve these replies at the endpoint that the environment names meanwhile.

    What is put is read whole, or by `on_put`.
    """
    script = Script(replies=list(replies))

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            reply = script.next_reply(self.command, self.path)
            self.send_response(reply.status)
            self.send_header("ETag", f'"{reply.etag}"')
            length = len(reply.body) if reply.length is None else reply.length
            if reply.has_length:
                self.send_header("Content-Length", str(length))
            if reply.checksum:
                self.send_header("x-amz-checksum-crc32", reply.checksum)
            self.send_header("Connection", "close")
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(reply.body)

        do_HEAD = do_DELETE = do_GET  # noqa: N815 (the names that http.server calls)

        def do_PUT(self) -> None:
            if on_put is None:
                self.rfile.read(int(self.headers["Content-Length"]))
            else:
                on_put(self.rfile)
            self.do_GET()

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_address[1]}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "scripted-key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "scripted-secret")
    monkeypatch.setenv("AWS_REQUEST_CHECKSUM_CALCULATION", "when_required")
    try:
        yield script
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
