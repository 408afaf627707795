"""An S3 bucket of any number of images: pages of its listing are worked out as they are asked for.

It answers ListObjectsV2 and nothing else: who plans a run reads no image. It runs in a process of
its own, so that its memory is not taken for that of who asks.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing.connection import Connection
from unittest import mock
from urllib.parse import parse_qs, urlsplit

BUCKET = "endless"
PREFIX = "photographs/"
IMAGE_BYTES = 300_000
_PAGE_KEYS = 1000
"""As many as S3 gives at most."""
_HEAD = (
    '<?xml version="1.0" encoding="UTF-8"?>'
    '<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
)


@dataclass(frozen=True, kw_only=True, slots=True)
class BucketState:
    """What a bucket holds: images by number, some of them changed or gone since the first day."""

    count: int
    """Images of the first day."""
    step: int | None = None
    """Of each so many one has changed and the next one has gone; None for the first day."""
    added: int = 0
    """Images that are new."""

    def list_page(self, start: int) -> tuple[list[int], int | None]:
        """Number the images of a page, and say where the next one starts."""
        end = min(start + _PAGE_KEYS, self.count + self.added)
        numbers = [number for number in range(start, end) if not self._is_gone(number)]
        return numbers, end if end < self.count + self.added else None

    def etag_of(self, number: int) -> str:
        """Give the version of an image, as long as an MD5."""
        is_old = number < self.count
        is_changed = self.step is not None and is_old and number % self.step == 0
        return f"{number:031x}{'b' if is_changed else 'a'}"

    def _is_gone(self, number: int) -> bool:
        return self.step is not None and number < self.count and number % self.step == 1


def describe_page(state: BucketState, start: int) -> str:
    """Write a page of the listing as S3 does."""
    numbers, following = state.list_page(start)
    entries = "".join(
        f"<Contents><Key>{PREFIX}{number:010d}.jpg</Key>"
        f"<LastModified>2026-01-01T00:00:00.000Z</LastModified>"
        f"<ETag>&quot;{state.etag_of(number)}&quot;</ETag><Size>{IMAGE_BYTES}</Size>"
        "<StorageClass>STANDARD</StorageClass></Contents>"
        for number in numbers
    )
    token = (
        "" if following is None else f"<NextContinuationToken>{following}</NextContinuationToken>"
    )
    is_cut = "false" if following is None else "true"
    return (
        f"{_HEAD}<Name>{BUCKET}</Name><Prefix>{PREFIX}</Prefix><KeyCount>{len(numbers)}</KeyCount>"
        f"<MaxKeys>{_PAGE_KEYS}</MaxKeys><IsTruncated>{is_cut}</IsTruncated>{token}{entries}"
        "</ListBucketResult>"
    )


@contextmanager
def serve_endless(state: BucketState) -> Iterator[None]:
    """Serve a bucket at the endpoint that the environment names meanwhile."""
    processes = multiprocessing.get_context("spawn")
    receiver, sender = processes.Pipe(duplex=False)
    server = processes.Process(target=_serve, args=(state, sender), daemon=True)
    server.start()
    sender.close()
    environment = {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{receiver.recv()}",
        "AWS_ACCESS_KEY_ID": "any",
        "AWS_SECRET_ACCESS_KEY": "any",
        "AWS_REGION": "us-east-1",
    }
    try:
        with mock.patch.dict(os.environ, environment):
            yield
    finally:
        server.kill()
        server.join()


def _serve(state: BucketState, sender: Connection) -> None:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1
        """One packet an answer: its head alone would wait for the client's acknowledgement."""

        def do_GET(self) -> None:
            query = parse_qs(urlsplit(self.path).query)
            is_page = query.get("prefix") == [PREFIX]
            (start,) = query.get("continuation-token", ["0"])
            shown = state if is_page else BucketState(count=0)
            body = describe_page(shown, int(start)).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/xml")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        sender.send(server.server_address[1])
        server.serve_forever()
