"""Is local disk safe: no partial file, no stray one, no hang, and a sentence for each failure?"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pipelines import storage
from pipelines.errors import ImageError, ImageReason, InputError, StorageError


def files_below(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir())


def fail_with(number):
    def fail(*args, **kwargs):
        raise OSError(number, os.strerror(number))

    return fail


def test_a_missing_folder_is_an_input_error_that_names_it(tmp_path):
    for listing in (storage.iter_objects, storage.iter_glob):
        with pytest.raises(InputError, match=r"absent.*does not exist"):
            list(listing(f"{tmp_path}/absent/*"))


def test_a_file_uri_is_a_path(tmp_path):
    storage.write_bytes(f"file://{tmp_path}/a%20b", b"x")
    (info,) = storage.iter_objects(f"file://{tmp_path}")
    assert info.uri == f"{tmp_path}/a%20b"
    assert storage.exists(f"file://{tmp_path}/a%20b")


def test_a_relative_glob_gives_absolute_uris(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("a.jpg").touch()
    assert [info.uri for info in storage.iter_glob("*.jpg")] == [f"{tmp_path}/a.jpg"]


def test_the_etag_is_size_and_mtime_in_ns(tmp_path):
    file = tmp_path / "x"
    file.write_bytes(b"12345")
    os.utime(file, ns=(0, 1_700_000_000_123_456_789))
    (info,) = storage.iter_objects(str(tmp_path))
    assert info.etag == "5-1700000000123456789"
    assert info.mtime == pytest.approx(1_700_000_000.123456, abs=1e-5)


def test_links_are_followed_but_never_in_a_circle(tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "x").write_bytes(b"x")
    (tmp_path / "a" / "b" / "up").symlink_to(tmp_path / "a")
    (tmp_path / "a" / "itself").symlink_to(tmp_path / "a" / "itself")
    (tmp_path / "again").symlink_to(tmp_path / "a")
    names = [storage.relative_to(i.uri, str(tmp_path)) for i in storage.iter_objects(str(tmp_path))]
    assert names == ["a/itself", "a/x", "again/itself", "again/x"]


def test_a_broken_link_is_listed_and_not_found(tmp_path):
    (tmp_path / "broken.jpg").symlink_to(tmp_path / "absent")
    (info,) = storage.iter_objects(str(tmp_path))
    (answer,) = storage.read_objects([info])
    assert (info.size, info.etag) == (0, "")
    assert isinstance(answer, ImageError)
    assert answer.reason is ImageReason.NOT_FOUND


@pytest.mark.timeout(20, method="thread")
def test_a_named_pipe_is_not_listed_and_does_not_block_a_reader(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    assert list(storage.iter_objects(str(tmp_path))) == []
    (answer,) = storage.read_objects([storage.ObjectInfo(uri=f"{tmp_path}/pipe.jpg")])
    assert isinstance(answer, ImageError)
    assert answer.reason is ImageReason.NOT_AN_IMAGE


def test_a_folder_in_a_list_is_not_an_image(tmp_path):
    (answer,) = storage.read_objects([storage.ObjectInfo(uri=str(tmp_path))])
    assert isinstance(answer, ImageError)
    assert answer.reason is ImageReason.NOT_AN_IMAGE


def test_names_that_are_not_utf8_are_listed_as_text_and_read(tmp_path):
    names = [b"bad\xff.jpg", b"good.jpg", rb"bad\udcff.jpg", rb"bad\udc5cudcff.jpg"]
    for name in names:
        (tmp_path / os.fsdecode(name)).write_bytes(name)
    for pattern in (storage.iter_objects(str(tmp_path)), storage.iter_glob(f"{tmp_path}/*.jpg")):
        infos = list(pattern)
        texts = {info.uri.encode("utf-8").rpartition(b"/")[2] for info in infos}
        assert len(texts) == 4
        assert {rb"bad\udcff.jpg", b"good.jpg"} < texts
        assert {answer.data for answer in storage.read_objects(infos)} == set(names)
        assert [storage.find_object(info.uri) for info in infos] == infos


def test_a_folder_whose_name_is_not_utf8_is_listed_and_globbed(tmp_path):
    folder = storage.resolve_uri(f"{tmp_path}/{os.fsdecode(bytes([255]))}")
    storage.write_bytes(f"{folder}/x.jpg", b"x")
    assert [path.name for path in tmp_path.iterdir()] == ["\udcff"]
    assert [info.uri for info in storage.iter_objects(folder)] == [f"{folder}/x.jpg"]
    assert [info.uri for info in storage.iter_glob(f"{folder}/*")] == [f"{folder}/x.jpg"]
    assert [info.uri for info in storage.iter_glob(f"{folder}*/*")] == [f"{folder}/x.jpg"]


def test_a_name_with_a_line_break_is_listed_and_read_literally(tmp_path):
    storage.write_bytes(f"{tmp_path}/new\nline.jpg", b"odd")
    (info,) = storage.iter_objects(str(tmp_path))
    (answer,) = storage.read_objects([info])
    assert info.uri == f"{tmp_path}/new\nline.jpg"
    assert isinstance(answer, storage.ObjectBytes)


def test_a_file_that_grows_while_it_is_read_is_changed(tmp_path, monkeypatch):
    file, fstat, calls = tmp_path / "x.jpg", os.fstat, []
    file.write_bytes(b"half")

    def grow_then_stat(descriptor):
        calls.append(descriptor)
        if len(calls) == 2:
            file.write_bytes(b"half and half")
        return fstat(descriptor)

    monkeypatch.setattr(os, "fstat", grow_then_stat)
    (answer,) = storage.read_objects([storage.ObjectInfo(uri=str(file))])
    assert isinstance(answer, ImageError)
    assert answer.reason is ImageReason.CHANGED


def test_a_file_whose_server_has_moved_it_is_opened_again(tmp_path, monkeypatch):
    (tmp_path / "x").write_bytes(b"data")
    opened, failures = os.open, [errno.ESTALE, errno.ESTALE]

    def be_stale(*args, **options):
        if failures:
            fail_with(failures.pop())()
        return opened(*args, **options)

    monkeypatch.setattr("pipelines.storage.retries._FIRST_PAUSE_S", 0.0)
    monkeypatch.setattr(os, "open", be_stale)
    (answer,) = storage.read_objects([storage.ObjectInfo(uri=f"{tmp_path}/x")])
    assert answer.data == b"data"


def test_a_disk_that_cannot_read_a_file_is_asked_once(tmp_path, monkeypatch):
    (tmp_path / "x").write_bytes(b"data")
    failures = []

    def be_broken(*args, **options):
        failures.append(args)
        fail_with(errno.EIO)()

    monkeypatch.setattr(os, "open", be_broken)
    (answer,) = storage.read_objects([storage.ObjectInfo(uri=f"{tmp_path}/x")])
    assert answer.reason is ImageReason.UNAVAILABLE
    assert len(failures) == 1


@pytest.mark.parametrize("target", ["os.fsync", "pathlib.Path.replace"])
@pytest.mark.parametrize("old", [None, b"old"])
def test_a_failed_write_leaves_what_was_there_and_nothing_else(tmp_path, monkeypatch, target, old):
    final = tmp_path / "boxes" / "slice-000000.parquet"
    if old is not None:
        storage.write_bytes(str(final), old)
    (tmp_path / "boxes").mkdir(exist_ok=True)
    (tmp_path / ".tmp").mkdir()
    monkeypatch.setattr(target, fail_with(errno.ENOSPC))
    with pytest.raises(StorageError, match="disk or quota is full"):
        storage.write_bytes(str(final), b"new", scratch=str(tmp_path / ".tmp"))
    assert files_below(tmp_path) == ([] if old is None else ["boxes/slice-000000.parquet"])
    assert old is None or final.read_bytes() == old


@pytest.mark.parametrize("has_scratch", [True, False])
def test_a_kill_before_the_rename_leaves_no_partial_object(tmp_path, has_scratch):
    program = (
        "import os, pathlib, signal\n"
        "from pipelines import storage\n"
        "pathlib.Path.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\n"
        f"storage.write_bytes('{tmp_path}/boxes/x.parquet', b'new',"
        f" scratch={f'{tmp_path}/.tmp' if has_scratch else None!r})\n"
    )
    ended = subprocess.run([sys.executable, "-c", program], check=False, cwd=Path.cwd())
    assert ended.returncode == -signal.SIGKILL
    (stray,) = files_below(tmp_path)
    assert stray.startswith(".tmp/" if has_scratch else "boxes/x.parquet.")
    assert stray.endswith(".tmp")


def test_temporary_files_of_killed_processes_are_removed_once_they_are_old(tmp_path):
    """Younger ones may be being written, and other files are nobody's business."""
    scratch, old = tmp_path / ".tmp", time.time() - 40
    left = f"slice-000000.parquet.{'0a' * 8}.tmp"
    young = f"slice-000001.parquet.{'0a' * 8}.tmp"
    others = ("notes.txt", "slice-000000.parquet", "x.tmp", f"folder.{'0a' * 8}.tmp/{left}")
    for name in (left, young, f"create-probe-{'0a' * 8}", *others):
        storage.write_bytes(str(scratch / name), b"")
        if name != young:
            os.utime(scratch / name, (old, old))
    os.utime((scratch / others[-1]).parent, (old, old))
    storage.clear_scratch(str(scratch), seconds=30)
    assert files_below(scratch) == sorted([young, *others])
    (scratch / f"link.{'0a' * 8}.tmp").symlink_to(scratch / "notes.txt")
    storage.clear_scratch(str(scratch), seconds=-1)
    assert files_below(scratch) == sorted([f"link.{'0a' * 8}.tmp", *others])


def test_a_scratch_folder_that_is_not_there_or_may_not_be_read_stays_as_it_is(
    tmp_path, monkeypatch
):
    storage.clear_scratch(str(tmp_path / "absent"), seconds=0)
    monkeypatch.setattr(os, "scandir", fail_with(errno.EACCES))
    storage.clear_scratch(str(tmp_path), seconds=0)


def test_a_write_is_synced_before_its_rename_and_the_folder_after(tmp_path, monkeypatch):
    steps, fsync, replace = [], os.fsync, Path.replace
    (tmp_path / "x").touch()

    def note_fsync(descriptor):
        steps.append("folder" if os.path.isdir(f"/proc/self/fd/{descriptor}") else "file")  # noqa: PTH112, TID251
        fsync(descriptor)

    def note_replace(path, target):
        steps.append("rename")
        return replace(path, target)

    monkeypatch.setattr(os, "fsync", note_fsync)
    monkeypatch.setattr(Path, "replace", note_replace)
    storage.write_bytes(str(tmp_path / "x"), b"new")
    assert steps == ["file", "rename", "folder"]


def test_a_put_where_nothing_was_seen_never_replaces_what_came_in_its_last_moment(
    tmp_path, monkeypatch
):
    uri, link = f"{tmp_path}/x", Path.hardlink_to
    seen = storage.look(uri)

    def be_overtaken(path, target):
        Path(uri).write_bytes(b"of another process")
        link(path, target)

    monkeypatch.setattr(Path, "hardlink_to", be_overtaken)
    with pytest.raises(storage.OvertakenError, match=uri):
        storage.write_bytes(uri, b"late", seen=seen)
    assert Path(uri).read_bytes() == b"of another process"
    storage.write_bytes(uri, b"of another process", seen=seen)
    assert files_below(tmp_path) == ["x"]


@pytest.mark.parametrize("seen", [None, storage.Seen(etag=None)])
def test_a_pipe_or_a_device_is_not_replaced(tmp_path, seen):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(InputError, match=f"{pipe}: is a device or a pipe; name a file"):
        storage.write_bytes(str(pipe), b"x", seen=seen)
    assert pipe.is_fifo()
    assert files_below(tmp_path) == ["pipe"]


@pytest.mark.parametrize(
    ("folder", "place"), [("/proc/none/x", "/proc"), ("file", "file"), ("file/below", "file")]
)
def test_where_no_folder_can_be_made_is_named_and_not_the_object_in_it(tmp_path, folder, place):
    (tmp_path / "file").touch()
    folder, place = tmp_path / folder, tmp_path / place
    with pytest.raises(InputError, match=f"^{place}: no folder can be made there"):
        storage.create_bytes(f"{folder}/lease.json", b"x", scratch=f"{folder}/.tmp")


def test_without_hard_links_a_put_looks_right_before(tmp_path, monkeypatch):
    uri = f"{tmp_path}/x"
    monkeypatch.setattr(Path, "hardlink_to", fail_with(errno.EPERM))
    seen = storage.look(uri)
    storage.write_bytes(uri, b"first", seen=seen)
    with pytest.raises(storage.OvertakenError, match=uri):
        storage.write_bytes(uri, b"late", seen=seen)
    assert Path(uri).read_bytes() == b"first"
    assert files_below(tmp_path) == ["x"]


def test_without_hard_links_a_new_object_is_synced_once(tmp_path, monkeypatch):
    """On some network file systems each sync is an upload."""
    synced = []
    monkeypatch.setattr(Path, "hardlink_to", fail_with(errno.EPERM))
    monkeypatch.setattr(os, "fsync", synced.append)
    storage.write_bytes(f"{tmp_path}/x", b"first", seen=storage.Seen(etag=None))
    assert len(synced) == 2, "the file and its folder"


def test_a_written_file_has_the_permissions_of_any_other(tmp_path):
    mask = os.umask(0o022)
    try:
        storage.write_bytes(f"{tmp_path}/x", b"x", scratch=f"{tmp_path}/.tmp")
        assert storage.create_bytes(f"{tmp_path}/y", b"y")
    finally:
        os.umask(mask)
    assert {(tmp_path / name).stat().st_mode & 0o777 for name in "xy"} == {0o644}


def test_of_many_creators_at_once_one_succeeds(tmp_path):
    start = threading.Barrier(8)

    def create(number):
        start.wait()
        return storage.create_bytes(f"{tmp_path}/lease", bytes([number]) * 1000)

    with ThreadPoolExecutor(8) as pool:
        wins = list(pool.map(create, range(8)))
    assert wins.count(True) == 1
    assert (tmp_path / "lease").read_bytes() == bytes([wins.index(True)]) * 1000
    assert files_below(tmp_path) == ["lease"]


def test_local_disk_supports_atomic_creation(tmp_path):
    assert storage.supports_create_if_absent(str(tmp_path))


def test_without_hard_links_creation_looks_first_and_says_that_it_is_not_atomic(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(Path, "hardlink_to", fail_with(errno.EPERM))
    assert not storage.supports_create_if_absent(str(tmp_path))
    assert storage.create_bytes(f"{tmp_path}/x", b"first") is True
    assert storage.create_bytes(f"{tmp_path}/x", b"second") is False
    assert (tmp_path / "x").read_bytes() == b"first"
    assert files_below(tmp_path) == ["x"]


def test_a_folder_that_cannot_be_listed_fails_the_listing(tmp_path, monkeypatch):
    (tmp_path / "locked").mkdir()
    opened = os.open

    def refuse(path, *args, **options):
        return fail_with(errno.EACCES)() if path == "locked" else opened(path, *args, **options)

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(StorageError, match=r"locked: access denied"):
        list(storage.iter_objects(str(tmp_path)))


def test_a_file_that_a_folder_gives_twice_is_listed_once(tmp_path, monkeypatch):
    (tmp_path / "a").touch()
    (tmp_path / "b").touch()
    scandir = os.scandir

    def give_twice(path):
        with scandir(path) as entries:
            found = list(entries)
        return contextlib.nullcontext(found + found)

    monkeypatch.setattr(os, "scandir", give_twice)
    listed = [info.uri for info in storage.iter_objects(str(tmp_path))]
    assert listed == [f"{tmp_path}/a", f"{tmp_path}/b"]
