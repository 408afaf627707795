"""Do Google and Azure storage and https get the same answers, through any fsspec filesystem?"""

from __future__ import annotations

import threading
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from fsspec.implementations.http import HTTPFileSystem
from fsspec.implementations.memory import MemoryFileSystem

from pipelines import storage
from pipelines.errors import ImageError, ImageReason, InputError, TransientStorageError
from pipelines.storage.objects import CreateUnsupportedError, OvertakenError, Seen
from pipelines.storage.remote import RemoteStore
from tests.faults.plan import Fault, FaultRates, Operation
from tests.faults.proxy import FaultProxy


@pytest.fixture
def memory():
    """A store without a network, and an empty folder in it."""
    return RemoteStore("memory", MemoryFileSystem()), f"memory:///{uuid.uuid4().hex}"


@pytest.fixture
def web():
    """A store over a web server that answers by path: found, busy at first, forbidden, absent."""
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append((self.command, self.path))
            busy = self.path == "/busy.jpg" and len(asked) < 4
            status = {"/secret.jpg": 403, "/absent.jpg": 404}.get(self.path, 503 if busy else 200)
            body, span = b"data", self.headers["Range"]
            if span:
                first, last = (int(part) for part in span.removeprefix("bytes=").split("-"))
                status, body = 206, body[first : last + 1]
            status = int(self.path[1:4]) if self.path[1:4].isdecimal() else status
            is_weak = self.path == "/weak.jpg" and self.command == "GET"
            self.send_response(status)
            self.send_header("ETag", 'W/"v1"' if is_weak else '"v1"')
            self.send_header("Accept-Ranges", "bytes")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        do_HEAD = do_GET  # noqa: N815 (the name that http.server calls)

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    filesystem = HTTPFileSystem(skip_instance_cache=True)
    yield RemoteStore("https", filesystem), f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()
    thread.join()


def put(store, root, *names):
    for name in names:
        store.write(f"{root}/{name}", f"bytes of {name}".encode(), scratch=None)


def read_one(store, uri, max_bytes=None, **listed):
    info = storage.ObjectInfo(uri=uri, **listed)
    return store.read_objects([info], concurrency=2, max_bytes=max_bytes)[0]


def test_what_was_written_is_listed_in_order_and_read(memory):
    store, root = memory
    put(store, root, "b/x", "b-1/x", "b.jpg", "a/z/1", "IMG[1].jpg", "IMG1.jpg")
    infos = list(store.iter_objects(root))
    assert [storage.relative_to(info.uri, root) for info in infos] == [
        "IMG1.jpg",
        "IMG[1].jpg",
        "a/z/1",
        "b-1/x",
        "b.jpg",
        "b/x",
    ]
    answers = store.read_objects(infos, concurrency=3, max_bytes=None)
    assert [
        answer.data.decode() for answer in answers if isinstance(answer, storage.ObjectBytes)
    ] == [f"bytes of {storage.relative_to(info.uri, root)}" for info in infos]
    assert [info.size for info in infos] == [len(answer.data) for answer in answers]


def test_an_object_that_a_store_lists_twice_is_one(memory, monkeypatch):
    store, root = memory
    put(store, root, "a", "b/c")
    once = MemoryFileSystem.ls
    monkeypatch.setattr(MemoryFileSystem, "ls", lambda *args, **options: 2 * once(*args, **options))
    assert [info.uri for info in store.iter_objects(root)] == [f"{root}/a", f"{root}/b/c"]


def test_prefixes_names_and_globs_mean_the_same_as_elsewhere(memory):
    store, root = memory
    put(store, root, "photos/a", "photos/ab", "photos/sub/c", "photos-old/d")
    listed = [info.uri for info in store.iter_objects(f"{root}/photos")]
    assert listed == [f"{root}/photos/a", f"{root}/photos/ab", f"{root}/photos/sub/c"]
    assert [info.uri for info in store.iter_objects(f"{root}/photos/a")] == [f"{root}/photos/a"]
    assert [i.uri for i in store.iter_objects(f"{root}/photos/", "ab")] == [f"{root}/photos/ab"]
    assert store.list_names(f"{root}/photos") == {"a", "ab"}
    assert store.list_names(f"{root}/absent") == set()


def test_reasons_are_the_same_as_elsewhere(memory):
    store, root = memory
    put(store, root, "x")
    absent, changed, large = (
        read_one(store, f"{root}/absent"),
        read_one(store, f"{root}/x", etag="another"),
        read_one(store, f"{root}/x", max_bytes=3),
    )
    assert isinstance(absent, ImageError)
    assert absent.reason is ImageReason.NOT_FOUND
    assert isinstance(changed, storage.ObjectBytes), "memory knows no etags: nothing is `changed`"
    assert isinstance(large, ImageError)
    assert large.reason is ImageReason.TOO_LARGE


def test_single_objects_are_read_opened_created_and_deleted(memory):
    store, root = memory
    uri = f"{root}/x"
    assert store.find_object(uri) is None
    with pytest.raises(FileNotFoundError, match=uri):
        store.read(uri)
    with pytest.raises(FileNotFoundError, match=uri):
        store.open(uri, buffer_bytes=10)
    assert store.create(uri, b"first", scratch=None) is True
    assert store.create(uri, b"second", scratch=None) is False
    assert store.read(uri) == b"first"
    with store.open(uri, buffer_bytes=10) as file:
        assert file.seek(2) == 2
        assert file.read() == b"rst"
    store.delete([uri, uri])
    assert store.find_object(uri) is None


def test_a_backend_without_conditional_puts_says_so(memory, monkeypatch):
    def refuse_mode(filesystem, path, value, mode="overwrite"):
        raise NotImplementedError(mode)

    store, root = memory
    monkeypatch.setattr(MemoryFileSystem, "pipe_file", refuse_mode)
    with pytest.raises(CreateUnsupportedError, match="conditional"):
        store.create(f"{root}/x", b"first", scratch=None)


NOTHING_SEEN = Seen(etag=None)


def put_first(monkeypatch, data):
    """Let somebody else come first, in the moment of the next put; they delete it again if None."""
    pipe_file = MemoryFileSystem.pipe_file

    def come_second(filesystem, path, value, **options):
        monkeypatch.setattr(MemoryFileSystem, "pipe_file", pipe_file)
        if data is None:
            raise FileExistsError(path)
        pipe_file(filesystem, path, data)
        pipe_file(filesystem, path, value, **options)

    monkeypatch.setattr(MemoryFileSystem, "pipe_file", come_second)


def test_what_is_put_between_look_and_put_is_not_overwritten(memory, monkeypatch):
    store, root = memory
    put_first(monkeypatch, b"theirs")
    with pytest.raises(OvertakenError, match=f"{root}/x"):
        store.write(f"{root}/x", b"ours", scratch=None, seen=NOTHING_SEEN)
    assert store.read(f"{root}/x") == b"theirs"


def test_a_put_that_finds_its_own_bytes_is_done(memory, monkeypatch):
    """So is one whose answer got lost."""
    store, root = memory
    put_first(monkeypatch, b"ours")
    store.write(f"{root}/x", b"ours", scratch=None, seen=NOTHING_SEEN)
    assert store.read(f"{root}/x") == b"ours"


def test_what_is_put_and_deleted_again_at_once_overtakes_too(memory, monkeypatch):
    store, root = memory
    put_first(monkeypatch, None)
    with pytest.raises(OvertakenError):
        store.write(f"{root}/x", b"ours", scratch=None, seen=NOTHING_SEEN)


def test_without_conditional_puts_it_is_looked_at_right_before_the_put(memory, monkeypatch):
    pipe_file, (store, root), modes = MemoryFileSystem.pipe_file, memory, []

    def refuse_mode(filesystem, path, value, mode="overwrite"):
        modes.append(mode)
        if mode == "create":
            raise NotImplementedError(mode)
        pipe_file(filesystem, path, value)

    monkeypatch.setattr(MemoryFileSystem, "pipe_file", refuse_mode)
    store.write(f"{root}/x", b"first", scratch=None, seen=NOTHING_SEEN)
    with pytest.raises(OvertakenError):
        store.write(f"{root}/x", b"second", scratch=None, seen=NOTHING_SEEN)
    assert store.read(f"{root}/x") == b"first"
    assert modes == ["create", "overwrite", "create"]


@pytest.mark.parametrize("member", [{}, {"offset": 1, "size": 2}])
def test_an_object_that_is_replaced_between_question_and_read_is_changed(
    memory, monkeypatch, member
):
    """Its new bytes would stand under its old etag."""
    store, root = memory
    info, cat_file = MemoryFileSystem.info, MemoryFileSystem.cat_file

    def tell_etag(filesystem, path):
        found = info(filesystem, path)
        return found | {"etag": filesystem.store[found["name"]].getvalue()[:3].decode()}

    def replace_and_read(filesystem, path, **span):
        monkeypatch.setattr(MemoryFileSystem, "cat_file", cat_file)
        filesystem.pipe_file(path, b"new bytes")
        return cat_file(filesystem, path, **span)

    monkeypatch.setattr(MemoryFileSystem, "info", tell_etag)
    store.write(f"{root}/x", b"old bytes", scratch=None)
    monkeypatch.setattr(MemoryFileSystem, "cat_file", replace_and_read)
    changed, whole = read_one(store, f"{root}/x", **member), read_one(store, f"{root}/x")
    assert isinstance(changed, ImageError)
    assert changed.reason is ImageReason.CHANGED
    assert whole == storage.ObjectBytes(data=b"new bytes", etag="new")


def test_https_is_read_with_the_etag_of_the_server(web):
    store, root = web
    assert read_one(store, f"{root}/a.jpg") == storage.ObjectBytes(data=b"data", etag="v1")
    changed = read_one(store, f"{root}/a.jpg", etag="v0")
    assert isinstance(changed, ImageError)
    assert changed.reason is ImageReason.CHANGED


def test_an_etag_that_a_server_calls_weak_for_one_kind_of_request_is_the_same(web):
    store, root = web
    assert store.find_object(f"{root}/weak.jpg").etag == "v1"
    assert read_one(store, f"{root}/weak.jpg", etag="v1").etag == "v1"


@pytest.mark.parametrize("status", [202, 206])
def test_an_answer_that_is_not_the_whole_object_is_none(web, status, monkeypatch):
    monkeypatch.setattr("pipelines.storage.retries._FIRST_PAUSE_S", 0.0)
    store, root = web
    answer = read_one(store, f"{root}/{status}.jpg")
    assert isinstance(answer, ImageError)
    assert answer.reason is ImageReason.UNAVAILABLE
    assert f"HTTP status {status} instead of the whole object" in answer.message


@pytest.mark.parametrize(
    ("name", "reason"),
    [("secret.jpg", ImageReason.ACCESS_DENIED), ("absent.jpg", ImageReason.NOT_FOUND)],
)
def test_https_refusals_have_their_reasons(web, name, reason):
    store, root = web
    answer = read_one(store, f"{root}/{name}")
    assert isinstance(answer, ImageError)
    assert answer.reason is reason


def test_https_is_asked_again_when_busy(web, monkeypatch):
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    store, root = web
    assert isinstance(read_one(store, f"{root}/busy.jpg"), storage.ObjectBytes)


@pytest.mark.parametrize("fault", [fault for fault in Fault if fault is not Fault.EXPIRED_TOKEN])
def test_https_survives_every_fault(web, monkeypatch, fault):
    """fsspec has no retries of its own there."""
    monkeypatch.setattr("pipelines.storage.retries._FIRST_PAUSE_S", 0.0)
    store, root = web
    with FaultProxy(root, FaultRates(stall_s=0.02)) as proxy:
        uri = f"{proxy.endpoint_url}/folder/a.jpg"
        for operation in (Operation.GET, Operation.HEAD):
            for ask in (
                lambda: store.read(uri),
                lambda: read_one(store, uri).data,
                lambda: read_end(store, uri),
            ):
                proxy.fail_next(operation, fault)
                assert ask() == b"data", (operation, fault)
            assert store.find_object(uri) is not None
    assert proxy.counts[fault, Operation.GET] >= 3
    assert proxy.counts[fault, Operation.HEAD] >= (0 if fault is Fault.CUT_BODY else 2)


def read_end(store, uri):
    """Read from an open file, in two requests for ranges."""
    with store.open(uri, buffer_bytes=2) as file:
        file.seek(2)
        end = file.read()
        file.seek(0)
        return file.read(2) + end


def test_an_https_server_that_is_silent_is_given_up(monkeypatch):
    """aiohttp alone would wait 300 s, and cut a large download there, too."""
    store = RemoteStore("https")
    filesystem, _ = store._locate("https://127.0.0.1/x")
    timeout = filesystem.client_kwargs["timeout"]
    assert (timeout.total, timeout.sock_connect, timeout.sock_read) == (None, 5, 30)


def test_who_created_an_object_is_told_so_though_the_answer_got_lost(memory, monkeypatch):
    pipe_file, (store, root) = MemoryFileSystem.pipe_file, memory

    def lose_the_answer(filesystem, path, value, **options):
        monkeypatch.setattr(MemoryFileSystem, "pipe_file", pipe_file)
        pipe_file(filesystem, path, value, **options)
        raise ConnectionResetError

    monkeypatch.setattr("pipelines.storage.retries._FIRST_PAUSE_S", 0.0)
    monkeypatch.setattr(MemoryFileSystem, "pipe_file", lose_the_answer)
    assert store.create(f"{root}/x", b"holder 1", scratch=None) is True
    assert store.create(f"{root}/x", b"holder 2", scratch=None) is False
    assert store.read(f"{root}/x") == b"holder 1"


def test_https_has_no_listing_and_cannot_be_written():
    with pytest.raises(InputError, match="no listing"):
        list(storage.iter_objects("https://127.0.0.1:1/photos/"))
    with pytest.raises(InputError, match="read-only"):
        storage.write_bytes("https://127.0.0.1:1/x", b"x")
    with pytest.raises(InputError, match="read-only"):
        RemoteStore("https").create("https://127.0.0.1:1/x", b"x", scratch=None)


def test_an_unreachable_web_server_is_not_an_absent_object(monkeypatch):
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    for ask in (storage.read_bytes, storage.exists):
        with pytest.raises(TransientStorageError, match=r"127\.0\.0\.1:1/x"):
            ask("https://127.0.0.1:1/x")
    (answer,) = storage.read_objects([storage.ObjectInfo(uri="https://127.0.0.1:1/x")])
    assert isinstance(answer, ImageError)
    assert answer.reason is ImageReason.UNAVAILABLE
