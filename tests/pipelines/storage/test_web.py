"""Is an object read over https in bounded memory and time, and is what went wrong told rightly?"""

from __future__ import annotations

import datetime
import gzip
import ipaddress
import socket
import ssl
import threading
import time
import tracemalloc
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import aiohttp
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from fsspec.implementations.http import HTTPFileSystem

from pipelines import storage
from pipelines.errors import ImageError, ImageReason, StorageError
from pipelines.storage.remote import RemoteStore
from tests.pipelines.storage.test_remote import read_one

PIECE = bytes(1 << 16)
ENDLESS = 1 << 26
"""Bytes after which even an endless body ends, so that a reader without a limit is seen."""


@dataclass
class Site:
    """A web server with a function for each path, and what it was asked and sent."""

    root: str = ""
    pages: dict = field(default_factory=dict)
    asked: list = field(default_factory=list)
    sent: int = 0

    def methods(self):
        return [method for method, _ in self.asked]


@contextmanager
def serve(context=None):
    """Serve a site, over TLS with a context."""
    site = Site()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            site.asked.append((self.command, dict(self.headers)))
            with suppress(OSError):
                site.pages[self.path](self)

        do_HEAD = do_GET  # noqa: N815 (the name that http.server calls)

        def head(self, status: int = 200, **headers: object) -> None:
            self.send_response(status)
            self.send_header("Connection", "close")
            for name, value in headers.items():
                self.send_header(name.replace("_", "-"), str(value))
            self.end_headers()
            self.close_connection = True

        def send(self, data: bytes) -> None:
            if self.command != "HEAD":
                self.wfile.write(data)
                site.sent += len(data)

        def log_message(self, *args: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        def get_request(self) -> tuple:
            connection, address = super().get_request()
            if context is not None:
                # Shaken hands with in the thread of its requests, where a failure is of them alone.
                connection = context.wrap_socket(
                    connection, server_side=True, do_handshake_on_connect=False
                )
            return connection, address

        def handle_error(self, *args: object) -> None:
            pass

    server = Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    scheme = "http" if context is None else "https"
    site.root = f"{scheme}://127.0.0.1:{server.server_address[1]}"
    yield site
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def site():
    with serve() as site:
        yield site


@pytest.fixture(scope="session")
def certificate(tmp_path_factory):
    """A file with a key and a certificate for this machine, signed by itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now, day = datetime.datetime.now(datetime.UTC), datetime.timedelta(days=1)
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    signed = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - day)
        .not_valid_after(now + day)
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "server.pem"
    encoding, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    path.write_bytes(
        key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, plain)
        + signed.public_bytes(encoding)
    )
    return path


@pytest.fixture
def tls_site(certificate):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with serve(context) as site:
        yield site


@pytest.fixture
def store():
    return RemoteStore("https", HTTPFileSystem(skip_instance_cache=True))


@pytest.fixture
def trusting_store(certificate):
    """A store that takes the certificate of `tls_site` for good."""
    context = ssl.create_default_context(cafile=certificate)

    async def open_session(**options):
        connector = aiohttp.TCPConnector(ssl=context)
        return aiohttp.ClientSession(connector=connector, **options)

    return RemoteStore("https", HTTPFileSystem(get_client=open_session, skip_instance_cache=True))


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch):
    monkeypatch.setattr("pipelines.storage.retries._FIRST_PAUSE_S", 0.0)


def refuse(status):
    return lambda page: page.head(status, Content_Length=0)


def give(data, **headers):
    def answer(page):
        page.head(Content_Length=len(data), **headers)
        page.send(data)

    return answer


def give_in_chunks(page, size=ENDLESS):
    page.head(Transfer_Encoding="chunked")
    for _ in range(size // len(PIECE)):
        page.send(b"%x\r\n%b\r\n" % (len(PIECE), PIECE))
    page.send(b"0\r\n\r\n")


def give_without_length(page):
    page.head()
    give_pieces(page)


def announce_all(page):
    page.head(Content_Length=ENDLESS)
    give_pieces(page)


def give_pieces(page):
    for _ in range(ENDLESS // len(PIECE)):
        page.send(PIECE)


def drip(page):
    """40 bytes in two seconds."""
    page.head(Content_Length=40)
    for _ in range(40):
        page.send(b"x")
        time.sleep(0.05)


def read_measured(store, uri, **options):
    """The answer, and the most bytes that were held meanwhile."""
    tracemalloc.start()
    try:
        answer = read_one(store, uri, **options)
        return answer, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def reason_of(answer):
    assert isinstance(answer, ImageError), answer
    return answer.reason


@pytest.mark.parametrize("endless", [give_in_chunks, give_without_length])
def test_a_body_without_end_is_left_at_the_limit(site, store, endless):
    site.pages["/x.jpg"] = endless
    answer, held = read_measured(store, f"{site.root}/x.jpg", max_bytes=1_000_000)
    assert reason_of(answer) is ImageReason.TOO_LARGE
    assert "more than 1000000 bytes, at most 1000000 are read" in answer.message
    assert held < 4_000_000
    # Some megabytes are on their way in the system.
    assert site.sent < ENDLESS / 2


def test_a_body_that_unpacks_to_more_than_the_limit_is_left_there(site, store):
    packed = gzip.compress(bytes(ENDLESS))
    site.pages["/x.jpg"] = give(packed, Content_Encoding="gzip")
    answer, held = read_measured(store, f"{site.root}/x.jpg", max_bytes=1_000_000)
    assert len(packed) < 100_000
    assert reason_of(answer) is ImageReason.TOO_LARGE
    assert held < 4_000_000


def test_an_announced_length_over_the_limit_is_believed_without_the_body(site, store):
    site.pages["/x.jpg"] = announce_all
    answer = read_one(store, f"{site.root}/x.jpg", max_bytes=1000)
    assert answer.message.endswith(f"{ENDLESS} bytes, at most 1000 are read")
    assert site.methods() == ["GET"]


@pytest.mark.parametrize("readable", [give(b"data"), give_in_chunks])
def test_what_can_be_read_is_too_large_for_no_bytes_at_all(site, store, readable):
    """So is asked what the credentials may read."""
    site.pages["/x.jpg"] = readable
    answer = read_one(store, f"{site.root}/x.jpg", max_bytes=0)
    assert reason_of(answer) is ImageReason.TOO_LARGE
    assert site.methods() == ["GET"]


def test_a_body_of_exactly_the_limit_is_read(site, store):
    site.pages["/x.jpg"] = lambda page: give_in_chunks(page, 2 * len(PIECE))
    answer = read_one(store, f"{site.root}/x.jpg", max_bytes=2 * len(PIECE))
    assert answer == storage.ObjectBytes(data=2 * PIECE, etag="")


def test_one_request_gives_bytes_and_etag_and_asks_for_nothing_packed(site, store):
    site.pages["/x.jpg"] = give(b"data", ETag='"v1"')
    answer = read_one(store, f"{site.root}/x.jpg", etag="v1", max_bytes=4)
    assert answer == storage.ObjectBytes(data=b"data", etag="v1")
    ((method, headers),) = site.asked
    assert (method, headers["Accept-Encoding"]) == ("GET", "identity")


def test_what_is_packed_all_the_same_is_unpacked(site, store):
    site.pages["/x.jpg"] = give(gzip.compress(b"data"), Content_Encoding="gzip")
    assert read_one(store, f"{site.root}/x.jpg", max_bytes=100).data == b"data"


def test_what_cannot_be_unpacked_is_unavailable(site, store):
    site.pages["/x.jpg"] = give(b"no gzip at all", Content_Encoding="gzip")
    assert reason_of(read_one(store, f"{site.root}/x.jpg")) is ImageReason.UNAVAILABLE


def test_a_body_that_drips_is_given_up(site, store, monkeypatch):
    monkeypatch.setattr("pipelines.storage.retries.ATTEMPT_TIMEOUT_S", 0.3)
    monkeypatch.setattr("pipelines.storage.retries.Retries.__init__.__defaults__", (2,))
    site.pages["/x.jpg"] = drip
    answer = read_one(store, f"{site.root}/x.jpg")
    assert reason_of(answer) is ImageReason.UNAVAILABLE
    assert "slower than 0.3 s" in answer.message
    assert len(site.asked) == 2


def test_a_body_that_comes_fast_enough_has_its_time(site, store, monkeypatch):
    monkeypatch.setattr("pipelines.storage.retries.ATTEMPT_TIMEOUT_S", 0.3)
    monkeypatch.setattr("pipelines.storage.retries.SLOWEST_BYTES_PER_S", 5)
    site.pages["/x.jpg"] = drip
    assert len(read_one(store, f"{site.root}/x.jpg").data) == 40
    assert len(site.asked) == 1


def test_a_redirect_is_followed_by_whole_reads_and_ranges(site, store):
    def give_range(page):
        page.head(206 if "Range" in page.headers else 200, Content_Length=2)
        page.send(b"at")

    site.pages["/old.tar"] = lambda page: page.head(302, Location="/new.tar", Content_Length=0)
    site.pages["/new.tar"] = give_range
    assert read_one(store, f"{site.root}/old.tar").data == b"at"
    member = f"{site.root}/old.tar#m.jpg"
    assert read_one(store, member, offset=0, size=2).data == b"at"


def test_a_whole_tar_for_the_range_of_a_member_is_left_unread(site, store, monkeypatch):
    monkeypatch.setattr("pipelines.storage.retries.Retries.__init__.__defaults__", (2,))
    site.pages["/x.tar"] = announce_all
    answer, held = read_measured(store, f"{site.root}/x.tar#m.jpg", offset=512, size=10)
    assert reason_of(answer) is ImageReason.UNAVAILABLE
    assert "bytes came of a range of 10" in answer.message
    assert site.methods() == ["HEAD", "GET"] * 2
    assert held < 4_000_000


def test_more_than_the_range_that_was_asked_for_is_left_unread(site, store, monkeypatch):
    monkeypatch.setattr("pipelines.storage.retries.Retries.__init__.__defaults__", (1,))

    def give_more(page):
        page.head(206 if page.command == "GET" else 200, Content_Length=ENDLESS)
        give_pieces(page)

    site.pages["/x.tar"] = give_more
    answer, held = read_measured(store, f"{site.root}/x.tar#m.jpg", offset=512, size=10)
    assert "bytes came of a range of 10" in answer.message
    assert held < 4_000_000


def test_an_image_that_asks_for_credentials_is_denied_alone(tls_site, trusting_store):
    """None are sent over https, so that there are none to mend."""
    tls_site.pages |= {"/x.jpg": refuse(401), "/y.jpg": give(b"data")}
    infos = [storage.ObjectInfo(uri=f"{tls_site.root}/{name}") for name in ("x.jpg", "y.jpg")]
    denied, read = trusting_store.read_objects(infos, concurrency=1, max_bytes=None)
    assert reason_of(denied) is ImageReason.ACCESS_DENIED
    assert "401" in denied.message
    assert read.data == b"data"


@pytest.mark.parametrize("status", [500, 520, 522, 524, 529])
def test_a_server_that_fails_for_now_is_asked_again(site, store, status):
    def fail_twice(page):
        answer = refuse(status) if len(site.asked) < 3 else give(b"data")
        answer(page)

    site.pages["/x.jpg"] = fail_twice
    assert read_one(store, f"{site.root}/x.jpg").data == b"data"
    assert len(site.asked) == 3


@pytest.mark.parametrize("status", [400, 405, 407, 418, 451, 501, 505])
def test_a_refusal_of_another_kind_is_no_absence(site, store, status):
    site.pages["/x.jpg"] = refuse(status)
    answer = read_one(store, f"{site.root}/x.jpg")
    assert reason_of(answer) is ImageReason.UNAVAILABLE
    assert f"{status}, message=" in answer.message
    with pytest.raises(StorageError, match=f"{status}, message="):
        store.find_object(f"{site.root}/x.jpg")
    assert site.methods() == ["GET", "HEAD", "GET"], "none is made again"


@pytest.mark.parametrize(
    "place", ["127.0.0.1:99999", "127.0.0.1:port", "[x", "a..b", f"{'a' * 70}.invalid"]
)
def test_a_url_without_a_possible_host_costs_one_image(store, place):
    answer = read_one(store, f"https://{place}/x.jpg")
    assert reason_of(answer) is ImageReason.NOT_FOUND
    assert "no such host or port: " in answer.message


def test_a_certificate_that_is_not_valid_is_no_denial(tls_site, store):
    answer = read_one(store, f"{tls_site.root}/x.jpg")
    assert reason_of(answer) is ImageReason.UNAVAILABLE
    assert "CERTIFICATE_VERIFY_FAILED" in answer.message
    with pytest.raises(StorageError, match="CERTIFICATE_VERIFY_FAILED") as caught:
        store.find_object(f"{tls_site.root}/x.jpg")
    assert type(caught.value) is StorageError, "nothing that passes by itself"


def test_a_connection_that_is_cut_before_tls_stands_is_made_again(store, monkeypatch):
    monkeypatch.setattr("pipelines.storage.retries.Retries.__init__.__defaults__", (3,))
    connections = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(5)

        def cut():
            for _ in range(3):
                with suppress(TimeoutError):
                    connection, _ = server.accept()
                    connections.append(connection.recv(10))
                    connection.close()

        thread = threading.Thread(target=cut)
        thread.start()
        answer = read_one(store, f"https://127.0.0.1:{server.getsockname()[1]}/x.jpg")
        thread.join()
    assert reason_of(answer) is ImageReason.UNAVAILABLE
    assert len(connections) == 3
