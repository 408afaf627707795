"""Does a request come to its right answer through a network that fails in every way there is?"""

from __future__ import annotations

import asyncio
import base64
import io
import threading
import time
import zlib
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from itertools import product

import pytest
from s3fs import S3FileSystem

from pipelines import storage
from pipelines.errors import (
    ImageError,
    ImageReason,
    InputError,
    StorageError,
    TransientStorageError,
)
from tests.faults.plan import Fault, FaultRates, Operation
from tests.faults.storage_torture import torture_storage
from tests.pipelines.storage.scripted_s3 import Reply, serve_script

pytestmark = pytest.mark.s3

DATA = bytes(range(256)) * 4
PASSING = [fault for fault in Fault if fault is not Fault.EXPIRED_TOKEN]


@pytest.fixture
def no_pauses(monkeypatch):
    """Backoff takes no time here; how long it is in earnest is tested with `Retries`."""
    monkeypatch.setattr("pipelines.storage.retries._FIRST_PAUSE_S", 0.0)


@pytest.fixture
def hasty(no_pauses, monkeypatch):
    """A client that waits a fraction of a second for a byte, and not much longer for an answer."""
    monkeypatch.setattr("pipelines.storage.s3_client._READ_TIMEOUT_S", 0.1)
    monkeypatch.setattr("pipelines.storage.retries.ATTEMPT_TIMEOUT_S", 0.2)


def error_reply(status, code):
    body = f"<Error><Code>{code}</Code><Message>scripted</Message></Error>".encode()
    return Reply(status=status, body=body)


def read_one(uri, **listed):
    return storage.read_objects([storage.ObjectInfo(uri=uri, **listed)])[0]


def ask_all(root):
    """One call for each kind of request, with the answer that is right."""
    return [
        (Operation.PUT, lambda: storage.write_bytes(f"{root}/x", DATA), None),
        (Operation.GET, lambda: read_one(f"{root}/x").data, DATA),
        (Operation.GET, lambda: storage.read_bytes(f"{root}/x"), DATA),
        (Operation.GET, lambda: read_range(f"{root}/x"), DATA[10:20]),
        (Operation.HEAD, lambda: storage.exists(f"{root}/x"), True),
        (Operation.LIST, lambda: storage.list_names(root), {"x"}),
        (Operation.DELETE, lambda: storage.delete([f"{root}/gone"]), None),
    ]


def read_range(uri):
    with storage.open_range_reader(uri, buffer_bytes=10) as file:
        file.seek(10)
        return file.read(10)


def test_a_bad_day_changes_nothing_but_the_time(monkeypatch):
    """The rates of the plan; `torture_storage` with more objects and longer stalls is its like."""
    monkeypatch.setattr("pipelines.storage.retries._FIRST_PAUSE_S", 0.1)
    counts = torture_storage(objects=300, seed=2, stall_s=1.0)
    by_fault, by_operation = Counter(), Counter()
    for (fault, operation), count in counts.items():
        by_fault[fault] += count
        by_operation[operation] += count
    assert by_fault.keys() == set(Fault)
    assert by_operation.keys() == set(Operation) - {Operation.MULTIPART, Operation.OTHER}
    assert min(by_fault[fault] for fault in PASSING) >= 3


def test_every_request_survives_a_fault_at_the_price_of_one_more(s3_bucket, start_proxy, no_pauses):
    root, proxy = f"s3://{s3_bucket}/folder", start_proxy(FaultRates(stall_s=0.02))
    storage.write_bytes(f"{root}/x", DATA)
    for fault, after, (operation, ask, expected) in product(PASSING, (False, True), ask_all(root)):
        before = len(proxy.requests)
        proxy.fail_next(operation, fault, after=after)
        assert ask() == expected, (fault, operation, after)
        made = [r for r in proxy.requests[before:] if r.operation is operation]
        has_failed = any(request.fault not in {None, Fault.STALL} for request in made)
        assert len(made) == 1 + has_failed, (fault, operation, after)


def test_a_dead_connection_is_given_up_and_the_request_made_again(s3_bucket, start_proxy, hasty):
    """aiohttp alone would wait for ever for `100 Continue`, before a put."""
    root, proxy = f"s3://{s3_bucket}/folder", start_proxy()
    storage.write_bytes(f"{root}/x", DATA)
    proxy.rates = FaultRates(stall_s=1000)
    for operation, ask, expected in ask_all(root):
        for after in (False, True):
            proxy.fail_next(operation, Fault.STALL, after=after)
            started = time.monotonic()
            assert ask() == expected, (operation, after)
            assert 0.1 <= time.monotonic() - started < 10, (operation, after)


def test_a_silent_answer_is_given_up_before_the_attempt_is(
    s3_bucket, start_proxy, no_pauses, monkeypatch
):
    monkeypatch.setattr("pipelines.storage.s3_client._READ_TIMEOUT_S", 0.1)
    uri, proxy = f"s3://{s3_bucket}/x", start_proxy()
    storage.write_bytes(uri, DATA)
    proxy.rates = FaultRates(stall_s=1000)
    for after in (False, True):
        proxy.fail_next(Operation.GET, Fault.STALL, after=after)
        started = time.monotonic()
        assert storage.read_bytes(uri) == DATA
        assert time.monotonic() - started < 10


def test_an_upload_that_stops_moving_is_given_up(monkeypatch, hasty):
    """The server takes the head and a part of the body, and then nothing more."""
    done = threading.Event()

    def take_a_part(stream: io.BufferedIOBase) -> None:
        stream.read(10)
        done.wait(20)

    with serve_script(monkeypatch, Reply(), on_put=take_a_part):
        monkeypatch.setenv("AWS_MAX_ATTEMPTS", "2")
        started = time.monotonic()
        monkeypatch.setattr("pipelines.storage.retries.SLOWEST_BYTES_PER_S", 1e9)
        with pytest.raises(TransientStorageError, match="TimeoutError"):
            storage.write_bytes("s3://bucket/x", b"x" * 50_000_000)
        assert time.monotonic() - started < 10
        done.set()


def test_what_may_pass_is_asked_eight_times_and_then_transient(monkeypatch, no_pauses):
    cases = [
        (503, "SlowDown"),
        (503, "ServiceUnavailable"),
        (500, "InternalError"),
        (502, "UnknownToUs"),
        (429, "TooManyRequests"),
        (400, "RequestTimeout"),
        (409, "ConditionalRequestConflict"),
        (409, "OperationAborted"),
    ]
    with serve_script(monkeypatch, Reply()) as script:
        for status, code in cases:
            script.restart(error_reply(status, code))
            with pytest.raises(TransientStorageError, match=code):
                storage.write_bytes("s3://bucket/x", DATA)
            assert script.requests == [("PUT", "/bucket/x")] * 8
        script.requests.clear()
        answer = read_one("s3://bucket/x")
        assert isinstance(answer, ImageError)
        assert answer.reason is ImageReason.UNAVAILABLE
        assert len(script.requests) == 8


def test_what_will_not_pass_is_asked_once(monkeypatch):
    cases = [
        (403, "AccessDenied", ImageReason.ACCESS_DENIED),
        (403, "UnknownToUs", ImageReason.ACCESS_DENIED),
        (404, "NoSuchKey", ImageReason.NOT_FOUND),
        (404, "NoSuchBucket", ImageReason.NOT_FOUND),
        (400, "InvalidRequest", ImageReason.UNAVAILABLE),
        (416, "InvalidRange", ImageReason.UNAVAILABLE),
        (501, "NotImplemented", ImageReason.UNAVAILABLE),
    ]
    with serve_script(monkeypatch, Reply()) as script:
        for status, code, reason in cases:
            script.restart(error_reply(status, code))
            answer = read_one("s3://bucket/x")
            assert isinstance(answer, ImageError)
            assert answer.reason is reason
            with pytest.raises((StorageError, InputError)) as put:
                storage.write_bytes("s3://bucket/x", DATA)
            with pytest.raises((StorageError, InputError)) as listing:
                storage.list_names("s3://bucket/x")
            assert TransientStorageError not in {put.type, listing.type}
            assert len(script.requests) == 3, (status, code)


def test_the_sdk_variable_for_the_tries_wins(monkeypatch, no_pauses):
    with serve_script(monkeypatch, error_reply(503, "SlowDown")) as script:
        monkeypatch.setenv("AWS_MAX_ATTEMPTS", "3")
        with pytest.raises(TransientStorageError):
            storage.read_bytes("s3://bucket/x")
        assert len(script.requests) == 3
        monkeypatch.setenv("AWS_MAX_ATTEMPTS", "none")
        with pytest.raises(InputError, match="AWS_MAX_ATTEMPTS is 'none'"):
            storage.read_bytes("s3://bucket/x")


def test_heavy_throttling_uses_up_no_quota(s3_bucket, start_proxy, no_pauses):
    """botocore's own retries share 500 tokens, of which each costs 5: the rest would fail."""
    uri, proxy = f"s3://{s3_bucket}/x", start_proxy(seed=3)
    storage.write_bytes(uri, DATA)
    proxy.rates = FaultRates(slow_down=0.6)
    answers = storage.read_objects([storage.ObjectInfo(uri=uri)] * 100)
    read = [answer for answer in answers if isinstance(answer, storage.ObjectBytes)]
    assert proxy.counts[Fault.SLOW_DOWN, Operation.GET] > 110
    # Eight failures in a row are left: 1.7 %.
    assert len(read) >= 95


def test_a_body_cut_off_in_the_middle_is_read_again(monkeypatch, no_pauses):
    cut, whole = Reply(body=b"hal", length=4), Reply(body=b"half", etag="v2")
    with serve_script(monkeypatch, cut, whole) as script:
        assert read_one("s3://bucket/x") == storage.ObjectBytes(data=b"half", etag="v2")
        assert len(script.requests) == 2


def test_a_body_that_is_always_cut_off_is_unavailable(monkeypatch, no_pauses):
    with serve_script(monkeypatch, Reply(body=b"hal", length=4)) as script:
        answer = read_one("s3://bucket/x")
        assert isinstance(answer, ImageError)
        assert answer.reason is ImageReason.UNAVAILABLE
        assert len(script.requests) == 8


def test_a_body_without_a_length_is_held_against_the_listing(monkeypatch, no_pauses):
    cut, whole = (Reply(body=body, has_length=False) for body in (b"hal", b"half"))
    with serve_script(monkeypatch, cut, whole) as script:
        answer = read_one("s3://bucket/x", size=4, etag="v1")
        assert answer == storage.ObjectBytes(data=b"half", etag="v1")
        assert len(script.requests) == 2
        assert read_one("s3://bucket/x") == answer
        (large,) = storage.read_objects([storage.ObjectInfo(uri="s3://bucket/x")], max_bytes=3)
        assert isinstance(large, ImageError)
        assert large.reason is ImageReason.TOO_LARGE


def test_a_body_that_does_not_fit_its_checksum_is_read_again(monkeypatch, no_pauses):
    checksum = base64.b64encode(zlib.crc32(b"half").to_bytes(4, "big")).decode()
    wrong, right = (Reply(body=body, checksum=checksum) for body in (b"hurt", b"half"))
    with serve_script(monkeypatch, wrong, right) as script:
        assert storage.read_bytes("s3://bucket/x") == b"half"
        assert len(script.requests) == 2


LOSSES = [Fault.RESET, Fault.RESET_MIDWAY, Fault.CUT_BODY, Fault.SLOW_DOWN, Fault.INTERNAL_ERROR]


def test_who_created_an_object_is_told_so_though_the_answer_got_lost(
    moto_bucket, start_proxy, no_pauses
):
    proxy = start_proxy()
    for fault in LOSSES:
        uri, before = f"s3://{moto_bucket}/{fault}.json", len(proxy.requests)
        proxy.fail_next(Operation.PUT, fault, after=True)
        assert storage.create_bytes(uri, b"holder 1") is True
        puts = [r for r in proxy.requests[before:] if r.operation is Operation.PUT]
        assert [(r.status, r.is_answer_lost) for r in puts] == [(200, True), (412, False)]
        assert storage.create_bytes(uri, b"holder 2") is False
        assert storage.read_bytes(uri) == b"holder 1"


def test_who_did_not_create_an_object_is_told_so_though_a_try_failed(
    moto_bucket, start_proxy, no_pauses, monkeypatch
):
    uri, proxy = f"s3://{moto_bucket}/lease.json", start_proxy()
    storage.write_bytes(uri, b"holder 1")
    monkeypatch.setattr("pipelines.storage.s3.S3Store.find_object", lambda store, uri: None)
    for fault, after in product(LOSSES, (False, True)):
        proxy.fail_next(Operation.PUT, fault, after=after)
        assert storage.create_bytes(uri, b"holder 2") is False
    assert storage.read_bytes(uri) == b"holder 1"


def test_what_a_store_can_do_is_found_out_through_faults(moto_bucket, start_proxy, no_pauses):
    proxy = start_proxy()
    for fault in LOSSES:
        proxy.fail_next(Operation.PUT, fault, after=True, times=2)
        assert storage.supports_create_if_absent(f"s3://{moto_bucket}/.tmp")


def test_expired_credentials_are_looked_up_again(moto_bucket, start_proxy, monkeypatch, tmp_path):
    """As when a role's session ends early, or a tool has written new ones into the shared file."""
    file, uri = tmp_path / "credentials", f"s3://{moto_bucket}/x"
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))
    proxy = start_proxy()
    write_credentials(file, "morning")
    storage.write_bytes(uri, DATA)
    write_credentials(file, "evening")
    proxy.fail_next(Operation.GET, Fault.EXPIRED_TOKEN)
    assert storage.read_bytes(uri) == DATA
    assert storage.exists(uri)
    assert [request.access_key_id for request in proxy.requests] == [
        "morning",
        "morning",
        "evening",
        "evening",
    ]


def write_credentials(file, name):
    file.write_text(f"[default]\naws_access_key_id={name}\naws_secret_access_key=any\n")


def test_many_requests_that_expire_together_look_once(moto_bucket, start_proxy, monkeypatch):
    uri, proxy, looks = f"s3://{moto_bucket}/x", start_proxy(), []
    set_session = S3FileSystem.set_session

    async def count_looks(filesystem, refresh=False):
        looks.append(refresh)
        await asyncio.sleep(0.05)
        return await set_session(filesystem, refresh)

    storage.write_bytes(uri, DATA)
    proxy.fail_next(Operation.GET, Fault.EXPIRED_TOKEN, times=8)
    monkeypatch.setattr(S3FileSystem, "set_session", count_looks)
    answers = storage.read_objects([storage.ObjectInfo(uri=uri)] * 8, concurrency=8)
    assert all(isinstance(answer, storage.ObjectBytes) for answer in answers)
    assert looks.count(True) == 1


def test_credentials_that_stay_expired_fail_the_job_and_not_the_image(monkeypatch):
    with serve_script(monkeypatch, error_reply(400, "ExpiredToken")) as script:
        with pytest.raises(StorageError, match=r"no valid credentials \(ExpiredToken"):
            read_one("s3://bucket/x")
        assert len(script.requests) == 2
        with pytest.raises(StorageError, match="no valid credentials"):
            storage.write_bytes("s3://bucket/x", DATA)
        assert len(script.requests) == 4


def test_nothing_is_asked_any_more_once_the_job_was_told_that_it_failed(monkeypatch):
    infos = [storage.ObjectInfo(uri=f"s3://bucket/{number}") for number in range(200)]
    with serve_script(monkeypatch, error_reply(403, "InvalidAccessKeyId")) as script:
        with pytest.raises(StorageError, match="InvalidAccessKeyId"):
            storage.read_objects(infos, concurrency=2)
        time.sleep(0.2)
        assert len(script.requests) < 20


def test_threads_that_start_together_share_one_client(s3_bucket, monkeypatch):
    made, start, connect = [], threading.Barrier(8), S3FileSystem.connect

    def count(filesystem):
        made.append(filesystem)
        return connect(filesystem)

    def write(number):
        start.wait()
        storage.write_bytes(f"s3://{s3_bucket}/{number}", DATA)

    monkeypatch.setenv("AWS_APP_ID", "an environment of this test's own")
    monkeypatch.setattr(S3FileSystem, "connect", count)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, range(8)))
    assert len(made) == 1
    assert len(storage.list_names(f"s3://{s3_bucket}")) == 8
