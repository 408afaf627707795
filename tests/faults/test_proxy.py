"""Does the proxy pass on what it should, fail as told, and write down what it did?"""

from __future__ import annotations

import socket
import threading
import time
from contextlib import contextmanager, suppress
from http.client import HTTPConnection, IncompleteRead, RemoteDisconnected
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from xml.etree import ElementTree

import pytest
from s3fs import S3FileSystem

from pipelines import storage
from tests.faults.plan import Fault, FaultRates, Operation
from tests.faults.proxy import FaultProxy

pytestmark = pytest.mark.s3

DATA = bytes(range(256)) * 40
SIGNED = "AWS4-HMAC-SHA256 Credential=key/20260101/us-east-1/s3/aws4_request, Signature=any"
"""Enough for moto, which wants a name and checks no signature."""


@pytest.fixture
def proxy(moto_bucket, start_proxy):
    """A proxy before a server that checks no signature."""
    return start_proxy()


@pytest.fixture
def ask(moto_bucket, proxy):
    """Make one request about the object `x`, on a connection of its own."""

    def make(method, body=None):
        connection = connect(proxy)
        try:
            headers = {"Authorization": SIGNED}
            connection.request(method, f"/{moto_bucket}/x", body=body, headers=headers)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    assert make("PUT", DATA)[0] == 200
    return make


def connect(proxy):
    return HTTPConnection("127.0.0.1", int(proxy.endpoint_url.rpartition(":")[2]), timeout=10)


def test_signed_requests_reach_a_server_that_checks_signatures(s3_bucket, start_proxy):
    """The signature covers Host: the proxy leaves it as the client wrote it."""
    uri, proxy = f"s3://{s3_bucket}/folder/a b#1.bin", start_proxy()
    storage.write_bytes(uri, DATA * 100)
    (info,) = storage.iter_objects(f"s3://{s3_bucket}/folder")
    assert storage.read_bytes(uri) == DATA * 100
    with storage.open_range_reader(uri, buffer_bytes=10) as file:
        file.seek(300)
        assert file.read(10) == DATA[44:54]
    storage.delete([uri])
    assert info.size == len(DATA) * 100
    assert not storage.exists(uri)
    # rclone says 200 to a range, where S3 says 206.
    assert [(r.operation, r.key, r.byte_range, r.status) for r in proxy.requests] == [
        (Operation.PUT, "folder/a b#1.bin", "", 200),
        (Operation.LIST, "folder", "", 200),
        (Operation.LIST, "folder/", "", 200),
        (Operation.GET, "folder/a b#1.bin", "", 200),
        (Operation.HEAD, "folder/a b#1.bin", "", 200),
        (Operation.GET, "folder/a b#1.bin", "bytes=300-309", 200),
        (Operation.DELETE, "folder/a b#1.bin", "", 204),
        (Operation.HEAD, "folder/a b#1.bin", "", 404),
    ]
    assert all(request.bucket == s3_bucket and request.access_key_id for request in proxy.requests)
    assert not proxy.counts


def test_a_connection_is_kept_for_the_next_request(moto_bucket, proxy):
    connection = connect(proxy)
    for _ in range(3):
        headers = {"Authorization": SIGNED}
        connection.request("GET", f"/{moto_bucket}/absent", headers=headers)
        answer = connection.getresponse()
        assert answer.status == 404
        assert b"NoSuchKey" in answer.read()
    connection.close()


@pytest.mark.parametrize(
    ("fault", "status", "code"),
    [
        (Fault.SLOW_DOWN, 503, "SlowDown"),
        (Fault.INTERNAL_ERROR, 500, "InternalError"),
        (Fault.EXPIRED_TOKEN, 400, "ExpiredToken"),
    ],
)
def test_an_error_is_worded_as_s3_does(ask, proxy, fault, status, code):
    for method, operation in (("GET", Operation.GET), ("PUT", Operation.PUT)):
        proxy.fail_next(operation, fault)
        found, body = ask(method, DATA if method == "PUT" else None)
        assert found == status
        assert ElementTree.fromstring(body).findtext("Code") == code
    proxy.fail_next(Operation.HEAD, fault)
    assert ask("HEAD") == (status, b"")
    assert ask("HEAD")[0] == 200


@pytest.mark.parametrize("fault", [Fault.RESET, Fault.RESET_MIDWAY])
@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("method", ["GET", "PUT", "HEAD", "DELETE"])
def test_a_reset_is_a_reset_and_not_an_end(ask, proxy, method, fault, after):
    proxy.fail_next(Operation(method.lower()), fault, after=after)
    with pytest.raises(ConnectionResetError) as caught:
        ask(method, DATA * 1000 if method == "PUT" else None)
    assert not isinstance(caught.value, RemoteDisconnected)


def test_a_body_is_cut_short_of_its_length(ask, proxy):
    proxy.fail_next(Operation.GET, Fault.CUT_BODY)
    with pytest.raises(IncompleteRead) as caught:
        ask("GET")
    assert len(caught.value.partial) + caught.value.expected == len(DATA)
    assert DATA.startswith(caught.value.partial)


@pytest.mark.parametrize("method", ["GET", "PUT", "HEAD"])
@pytest.mark.parametrize("after", [False, True])
def test_a_stall_takes_its_time_and_ends_well(ask, proxy, method, after):
    proxy.rates = FaultRates(stall_s=0.2)
    proxy.fail_next(Operation(method.lower()), Fault.STALL, after=after)
    started = time.monotonic()
    status, body = ask(method, DATA if method == "PUT" else None)
    assert time.monotonic() - started >= 0.2
    assert (status, body) == (200, DATA if method == "GET" else b"")


@pytest.mark.parametrize(
    "fault",
    [Fault.SLOW_DOWN, Fault.INTERNAL_ERROR, Fault.RESET, Fault.RESET_MIDWAY, Fault.CUT_BODY],
)
def test_a_put_is_carried_out_and_its_answer_lost(ask, proxy, fault):
    proxy.fail_next(Operation.PUT, fault, after=True)
    with suppress(ConnectionResetError, IncompleteRead):
        assert ask("PUT", b"second")[0] >= 500
    assert ask("GET") == (200, b"second")
    # http.client repeats nothing by itself: each request is one that was made here.
    assert [request.is_answer_lost for request in proxy.requests] == [False, True, False]


@pytest.mark.parametrize(
    "fault", [Fault.SLOW_DOWN, Fault.INTERNAL_ERROR, Fault.RESET, Fault.RESET_MIDWAY]
)
def test_a_put_that_fails_before_never_reaches_the_server(ask, proxy, fault):
    proxy.fail_next(Operation.PUT, fault)
    with suppress(ConnectionResetError):
        assert ask("PUT", b"second")[0] >= 500
    assert ask("GET") == (200, DATA)
    assert proxy.requests[1].status is None


def test_who_waits_to_be_told_to_continue_is_told_or_refused_first(moto_bucket, ask, proxy):
    head = f"PUT /{moto_bucket}/x HTTP/1.1\r\nHost: x\r\nAuthorization: {SIGNED}\r\n"
    for fault, expected in ((None, b"HTTP/1.1 100"), (Fault.SLOW_DOWN, b"HTTP/1.1 503")):
        if fault:
            proxy.fail_next(Operation.PUT, fault)
        port = int(proxy.endpoint_url.rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
            client.sendall(f"{head}Content-Length: 4\r\nExpect: 100-continue\r\n\r\n".encode())
            assert client.recv(1000).startswith(expected)
            if not fault:
                client.sendall(b"data")
                assert client.recv(1000).startswith(b"HTTP/1.1 200")
    assert ask("GET") == (200, b"data")


@pytest.mark.parametrize("method", ["PUT", "DELETE"])
def test_what_its_sender_gave_up_in_a_stall_is_not_delivered(moto_bucket, ask, proxy, method):
    proxy.rates = FaultRates(stall_s=0.2)
    proxy.fail_next(Operation(method.lower()), Fault.STALL)
    port = int(proxy.endpoint_url.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
        head = f"{method} /{moto_bucket}/x HTTP/1.1\r\nHost: x\r\nAuthorization: {SIGNED}\r\n"
        body = "Content-Length: 4\r\n\r\nlate" if method == "PUT" else "\r\n"
        client.sendall(f"{head}{body}".encode())
    time.sleep(0.5)
    assert ask("GET") == (200, DATA)
    assert proxy.requests[1].status is None


def test_what_was_injected_is_counted_by_kind_and_operation(ask, proxy):
    proxy.fail_next(Operation.GET, Fault.SLOW_DOWN, times=2)
    proxy.fail_next(None, Fault.INTERNAL_ERROR)
    assert [ask(method)[0] for method in ("HEAD", "GET", "GET", "GET")] == [500, 503, 503, 200]
    assert proxy.counts == {
        (Fault.SLOW_DOWN, Operation.GET): 2,
        (Fault.INTERNAL_ERROR, Operation.HEAD): 1,
    }
    assert [request.fault for request in proxy.requests] == [
        None,
        Fault.INTERNAL_ERROR,
        Fault.SLOW_DOWN,
        Fault.SLOW_DOWN,
        None,
    ]


def test_operations_have_rates_of_their_own(ask, proxy):
    proxy.by_operation = {Operation.GET: FaultRates(slow_down=1.0)}
    assert [ask("GET")[0] for _ in range(3)] == [503] * 3
    assert [ask("HEAD")[0] for _ in range(3)] == [200] * 3


def test_the_same_seed_gives_the_same_faults_in_any_order(ask, proxy):
    rates, found = FaultRates(slow_down=0.5), []
    for seed, order in ((1, range(20)), (1, reversed(range(20))), (2, range(20))):
        with FaultProxy(proxy.endpoint_url, rates, seed=seed) as front:
            for number in order:
                connection = connect(front)
                connection.request("GET", f"/bucket-of-{seed}/{number}")
                connection.getresponse().read()
                connection.close()
        found.append({request.key: request.fault for request in front.requests})
    assert found[0] == found[1] != found[2]
    assert set(found[0].values()) == {None, Fault.SLOW_DOWN}


def test_a_multipart_upload_is_known_and_meets_faults(moto_bucket, proxy):
    filesystem, place = S3FileSystem(skip_instance_cache=True), {"Bucket": moto_bucket, "Key": "x"}
    proxy.fail_next(Operation.MULTIPART, Fault.RESET, times=2)
    upload = filesystem.call_s3("create_multipart_upload", **place)["UploadId"]
    part = filesystem.call_s3("upload_part", UploadId=upload, PartNumber=1, Body=DATA, **place)
    parts = {"Parts": [{"ETag": part["ETag"], "PartNumber": 1}]}
    filesystem.call_s3("complete_multipart_upload", UploadId=upload, MultipartUpload=parts, **place)
    assert [request.method for request in proxy.requests] == ["POST", "POST", "POST", "PUT", "POST"]
    assert proxy.counts == {(Fault.RESET, Operation.MULTIPART): 2}
    assert storage.read_bytes(f"s3://{moto_bucket}/x") == DATA


@contextmanager
def serve(answer):
    """A web server that lets a function answer."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            answer(self)

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_body_is_streamed_and_not_collected():
    is_read = threading.Event()

    def answer_in_halves(handler):
        handler.send_response(200)
        handler.send_header("Content-Length", "8")
        handler.end_headers()
        handler.wfile.write(b"half")
        handler.wfile.flush()
        assert is_read.wait(10)
        handler.wfile.write(b"rest")

    with serve(answer_in_halves) as upstream, FaultProxy(upstream) as proxy:
        connection = connect(proxy)
        connection.request("GET", "/bucket/x")
        answer = connection.getresponse()
        assert answer.read(4) == b"half"
        is_read.set()
        assert answer.read() == b"rest"
        connection.close()


def test_a_body_in_chunks_arrives_whole():
    def answer_in_chunks(handler):
        handler.send_response(200)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        handler.wfile.write(b"4\r\nhalf\r\n4;x=y\r\nrest\r\n0\r\nTrailer: 1\r\n\r\n")

    with serve(answer_in_chunks) as upstream, FaultProxy(upstream) as proxy:
        connection = connect(proxy)
        for _ in range(2):
            connection.request("GET", "/bucket/x")
            assert connection.getresponse().read() == b"halfrest"
        connection.close()


def test_stopping_does_not_wait_for_a_stall(moto_port):
    threads = threading.active_count()
    with FaultProxy(f"http://127.0.0.1:{moto_port}", FaultRates(stall=1.0, stall_s=60)) as proxy:
        connection = connect(proxy)
        connection.request("GET", "/bucket/x")
        while not proxy.requests:
            time.sleep(0.01)
        started = time.monotonic()
    assert time.monotonic() - started < 2
    with pytest.raises((ConnectionError, RemoteDisconnected)):
        connection.getresponse()
    connection.close()
    with pytest.raises(ConnectionRefusedError):
        connect(proxy).connect()
    assert threading.active_count() <= threads
