"""What becomes of a copy when another one, or anything else, is at work in its folder?"""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from pipelines import lease, storage
from pipelines.compact import CompactConfig, compact
from pipelines.errors import StorageError
from pipelines.lease import Lease, LeaseHeldError, LeaseLostError
from pipelines.tables import IMAGES
from tests.builders import list_all, read_rows
from tests.pipelines.drivers import PATIENT, put_holder, start_holder
from tests.pipelines.whole_run import write_whole_run

WHOLE = [
    *(f"{table}/part-0000{n}.parquet" for table in ("boxes", "images") for n in range(3)),
    "run.json",
]


@pytest.fixture
def run(tmp_path):
    return write_whole_run(str(tmp_path / "run"), [5, 4, 6])


def copy_run(output, to):
    """Each slice becomes a file."""
    return compact(CompactConfig(output=output, to=to, file_bytes=1))


def act_at(monkeypatch, count, act):
    """Do something with the name that was written, behind write number COUNT."""
    write, calls = storage.write_bytes, itertools.count()

    def write_and_act(uri, data, **options):
        write(uri, data, **options)
        if next(calls) == count:
            act(uri)

    monkeypatch.setattr(storage, "write_bytes", write_and_act)


def test_a_second_copy_to_the_same_folder_gives_way(run, tmp_path, monkeypatch):
    to = str(tmp_path / "copy")
    monkeypatch.setattr(lease, "DEFAULT_TIMES", PATIENT)
    with Lease(to) as first:
        with pytest.raises(LeaseHeldError, match=first.id) as error:
            copy_run(run, to)
        assert error.value.exit_code == 2
        # A heartbeat may be on its way.
        assert {name for name in list_all(to) if not name.startswith(".tmp/")} == {"lease.json"}


def test_a_copy_that_was_killed_is_relieved_and_leaves_no_lease_behind(run, tmp_path):
    to = str(tmp_path / "copy")
    with start_holder(to) as (holder, _):
        holder.kill()
        holder.wait()
        copy_run(run, to)
    assert list_all(to) == WHOLE


def test_temporary_files_do_not_lie_among_the_tables(run, tmp_path, monkeypatch):
    link = Path.hardlink_to

    def fail(path, target):
        if path.suffix == ".parquet":
            raise KeyboardInterrupt
        link(path, target)

    monkeypatch.setattr(Path, "hardlink_to", fail)
    monkeypatch.setattr("pathlib.Path.unlink", lambda *_, **__: None)
    with pytest.raises(KeyboardInterrupt):
        copy_run(run, str(tmp_path / "copy"))
    left = list_all(str(tmp_path / "copy"))
    assert {name.partition("/")[0] for name in left} == {".tmp", "lease.json"}


def test_a_copy_that_another_one_relieved_puts_nothing_more(run, tmp_path, monkeypatch):
    to = str(tmp_path / "copy")
    act_at(monkeypatch, 1, lambda _: put_holder(to))
    with pytest.raises(LeaseLostError, match="driver f00d on elsewhere"):
        copy_run(run, to)
    assert list_all(to) == ["boxes/part-00000.parquet", "boxes/part-00001.parquet", "lease.json"]


def test_a_copy_that_is_relieved_while_it_clears_deletes_nothing_of_the_other(
    run, tmp_path, monkeypatch
):
    to, delete = str(tmp_path / "copy"), storage.delete
    act_at(monkeypatch, 4, lambda _: put_holder(to))
    with pytest.raises(LeaseLostError):
        copy_run(run, to)
    monkeypatch.undo()
    delete([storage.join_uri(to, "lease.json")])
    left = list_all(to)

    def delete_and_pause(uris):
        delete(uris)
        put_holder(to)

    monkeypatch.setattr(storage, "delete", delete_and_pause)
    with pytest.raises(LeaseLostError, match="driver f00d on elsewhere"):
        copy_run(run, to)
    assert list_all(to) == [*left[1:], "lease.json"]


def test_a_copy_that_ends_while_another_waits_is_left_alone(run, tmp_path, monkeypatch):
    to = str(tmp_path / "copy")
    acquire = Lease._acquire

    def wait(self):
        monkeypatch.undo()
        copy_run(run, to)
        acquire(self)

    monkeypatch.setattr(Lease, "_acquire", wait)
    assert not copy_run(run, to).is_new
    assert read_rows(to, IMAGES).equals(read_rows(run, IMAGES))


@pytest.mark.parametrize("count", [0, 5])
def test_a_copy_of_which_something_deletes_a_file_does_not_claim_to_be_one(
    store_root, monkeypatch, count
):
    output, to = storage.join_uri(store_root, "run"), storage.join_uri(store_root, "copy")
    write_whole_run(output, [5, 4, 6])
    act_at(monkeypatch, count, lambda uri: storage.delete([uri]))
    with pytest.raises(StorageError, match=r"part-0000\d\.parquet: no file, expected [\d,]+ bytes"):
        copy_run(output, to)
    assert not storage.exists(f"{to}/run.json")
    assert not storage.exists(f"{to}/lease.json")


@pytest.mark.parametrize("name", ["images/part-00001.parquet", "features/part-00000.parquet"])
def test_a_copy_into_which_something_else_is_put_does_not_claim_to_be_one(
    run, tmp_path, monkeypatch, name
):
    other = tmp_path / "copy" / name
    other.parent.mkdir(parents=True)
    act_at(monkeypatch, 5, lambda _: other.write_bytes(b"somebody's"))
    with pytest.raises(StorageError, match=r"part-0000\d\.parquet: 10 bytes, expected"):
        copy_run(run, str(tmp_path / "copy"))
    assert not (tmp_path / "copy" / "run.json").exists()


def test_a_file_that_appears_where_one_is_to_be_put_is_left_as_it_is(run, tmp_path, monkeypatch):
    other = tmp_path / "copy" / "images" / "part-00000.parquet"
    other.parent.mkdir(parents=True)
    act_at(monkeypatch, 0, lambda _: other.write_bytes(b"somebody's"))
    with pytest.raises(StorageError, match="something else was put there"):
        copy_run(run, str(tmp_path / "copy"))
    assert other.read_bytes() == b"somebody's"
