"""One driver at a time: who is refused, who takes over, and what is left behind by whom?"""

from __future__ import annotations

import json
import logging
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from pipelines import lease, storage
from pipelines.annotate.run import annotate
from pipelines.errors import InputError, PipelineError, StorageError
from pipelines.lease import Lease, LeaseHeldError, LeaseLostError, LeaseTimes, read_holder
from pipelines.receipts import list_receipts
from tests.builders import (
    annotate_flags,
    annotate_without_ray,
    assert_same_rows,
    do_slice,
    list_all,
    make_config,
    run_command,
    start_run,
    write_pictures,
)
from tests.pipelines.annotate.fake_model import FakeModel
from tests.pipelines.annotate.plain_engine import install_plain_engine
from tests.pipelines.drivers import put_holder, wait_until

pytestmark = pytest.mark.usefixtures("plain_engine", "fake_model")

PATIENT = LeaseTimes(heartbeat=0.05, lease=60)


@pytest.fixture
def patient_drivers(monkeypatch):
    """Commands with a quick heartbeat that would wait for longer than any test."""
    monkeypatch.setattr(lease, "DEFAULT_TIMES", PATIENT)


def lease_of(output):
    return storage.join_uri(output, "lease.json")


def start_with_pictures(root, checkpoint, count=6, **changes):
    write_pictures(storage.join_uri(root, "in"), count)
    return make_config(root, checkpoint, slice_size=2, **changes)


@pytest.mark.usefixtures("patient_drivers")
def test_a_second_command_is_refused_and_names_the_holder(store_root, checkpoint):
    config = start_with_pictures(store_root, checkpoint)
    with Lease(config.output, times=PATIENT) as holder:
        ended = run_command(*annotate_flags(config))
        assert ended.code == 2
        sentence = ended.err.splitlines()[-1]
        assert sentence.startswith("error: ")
        assert f"driver {holder.id}" in sentence
        # A heartbeat of the holder's may be on its way.
        there = [name for name in list_all(config.output) if not name.startswith(".tmp/lease")]
        assert there == ["lease.json"]
        holder.confirm()
    assert run_command(*annotate_flags(config)).code == 0


@pytest.mark.usefixtures("patient_drivers")
def test_the_lease_is_there_while_the_command_works_and_given_back_at_its_end(
    store_root, checkpoint, monkeypatch
):
    config = start_with_pictures(store_root, checkpoint)
    seen = []

    class Watcher(FakeModel):
        def predict(self, *args):
            # A store that replaces in place may show half of a heartbeat, which is nobody's.
            reads = (read_holder(lease_of(config.output)) for _ in range(100))
            seen.append(next(holder for holder in reads if holder is not None).id)
            return super().predict(*args)

    install_plain_engine(monkeypatch, Watcher())
    annotate(config)
    assert len(seen) == 3
    assert len(set(seen)) == 1
    assert not storage.exists(lease_of(config.output))


def test_the_lease_is_given_back_by_a_command_that_fails(tmp_path, checkpoint):
    config = start_with_pictures(str(tmp_path), checkpoint)
    Path(config.output).mkdir()
    Path(config.output, "boxes").write_text("a file where the folder should be")
    with pytest.raises(StorageError):
        annotate(config)
    assert not storage.exists(lease_of(config.output))
    (report,) = Path(config.output, "runs").iterdir()
    assert "boxes" in json.loads(report.read_text())["error"]


def test_the_lease_is_given_back_by_a_command_that_is_refused(tmp_path, checkpoint):
    config = start_with_pictures(str(tmp_path), checkpoint)
    annotate(config)
    before = list_all(config.output)
    other = make_config(str(tmp_path), checkpoint, slice_size=2, max_boxes=7)
    with pytest.raises(InputError, match="another configuration"):
        annotate(other)
    assert list_all(config.output) == before


@pytest.mark.parametrize("what", ["another", "none"])
def test_a_relieved_driver_commits_no_slice(store_root, checkpoint, what):
    write_pictures(storage.join_uri(store_root, "in"), 4)
    config = make_config(store_root, checkpoint, slice_size=2)
    stages = replace(start_run(config, config.output), lease="f00d")
    with Lease(config.output) as holder:
        ours = replace(stages, lease=holder.id)
        do_slice(config, ours, 0)
        if what == "another":
            with pytest.raises(LeaseLostError, match=f"driver {holder.id}"):
                do_slice(config, stages, 1)
    if what == "none":
        with pytest.raises(LeaseLostError, match="gone"):
            do_slice(config, ours, 1)
    assert list_receipts(config.output) == {0}
    assert storage.list_names(storage.join_uri(config.output, "boxes")) == {"slice-000000.parquet"}


def test_a_driver_relieved_between_two_objects_writes_no_receipt(tmp_path, checkpoint, monkeypatch):
    config = start_with_pictures(str(tmp_path), checkpoint, 2)
    write_bytes = storage.write_bytes

    def relieve(uri, data, **options):
        write_bytes(uri, data, **options)
        if "boxes" in uri:
            Path(lease_of(config.output)).unlink()

    monkeypatch.setattr(storage, "write_bytes", relieve)
    with pytest.raises(LeaseLostError):
        annotate(config)
    assert list_receipts(config.output) == set()


@pytest.mark.parametrize("generation", [0, 1])
def test_a_relieved_driver_writes_no_part_of_a_manifest(
    tmp_path, checkpoint, monkeypatch, generation
):
    config = start_with_pictures(str(tmp_path), checkpoint)
    if generation:
        annotate(config)
        write_pictures(config.images, 8)
    iter_objects = storage.iter_objects

    def relieve(uri):
        for info in iter_objects(uri):
            yield info
            # Of the first listing one image is looked at before there is a lease.
            if uri == config.images:
                Path(lease_of(config.output)).unlink(missing_ok=True)

    monkeypatch.setattr(storage, "iter_objects", relieve)
    with pytest.raises(LeaseLostError):
        annotate(replace(config, update=bool(generation)))
    left = [name for name in list_all(config.output) if name.startswith("manifest")]
    assert not [name for name in left if f"generation-{generation:06d}" in name]


@pytest.mark.usefixtures("patient_drivers")
def test_a_relieved_driver_stops_though_all_that_it_would_commit_stands(
    tmp_path, checkpoint, monkeypatch
):
    """The other one was quicker: there is nothing left to be refused, and much to be read."""
    config = start_with_pictures(str(tmp_path), checkpoint)
    other = tmp_path / "other"
    annotate(replace(config, output=str(other)))
    asked = []

    def lose_to_the_other():
        for folder in ("images", "boxes"):
            shutil.copytree(other / folder, Path(config.output, folder), dirs_exist_ok=True)
        # A heartbeat that has begun would write over it once.
        wait_until(lambda: put_holder(config.output) or not is_renewed())

    class Slow(FakeModel):
        def predict(self, *args):
            asked.append(args)
            lose_to_the_other()
            return super().predict(*args)

    install_plain_engine(monkeypatch, Slow())
    with pytest.raises(LeaseLostError, match="driver f00d"):
        annotate(config)
    assert len(asked) == 1


def is_renewed():
    return any(thread.name == "lease" for thread in threading.enumerate())


@pytest.mark.parametrize(
    ("store", "warns"),
    [
        ("tmp_path", False),
        pytest.param("moto_bucket", False, marks=pytest.mark.s3),
        pytest.param("s3_bucket", True, marks=pytest.mark.s3),
    ],
)
def test_a_store_without_atomic_creation_is_named_in_a_warning(
    request, checkpoint, caplog, store, warns
):
    place = request.getfixturevalue(store)
    config = start_with_pictures(str(place) if store == "tmp_path" else f"s3://{place}", checkpoint)
    with caplog.at_level(logging.WARNING):
        annotate(config)
    said = [record.message for record in caplog.records if "only if it is absent" in record.message]
    assert [config.output in sentence for sentence in said] == ([True] if warns else [])
    assert not [name for name in list_all(config.output) if "probe" in name]


def run_two_at_once(config, monkeypatch):
    """Both look for a lease before one of them writes it; who holds it works until one is done."""
    create_bytes, at_the_lease = storage.create_bytes, threading.Barrier(2)
    first_ended = threading.Event()

    def create_together(uri, data, **options):
        if uri.endswith("lease.json") and not first_ended.is_set():
            at_the_lease.wait()
            monkeypatch.setattr(storage, "exists", lambda uri: False)
        return create_bytes(uri, data, **options)

    class Slow(FakeModel):
        def predict(self, *args):
            first_ended.wait(30)
            return super().predict(*args)

    def drive(_):
        try:
            return annotate(config)
        except PipelineError as error:
            return error
        finally:
            first_ended.set()

    monkeypatch.setattr(storage, "create_bytes", create_together)
    install_plain_engine(monkeypatch, Slow())
    with ThreadPoolExecutor(2) as drivers:
        return list(drivers.map(drive, range(2)))


@pytest.mark.s3
@pytest.mark.usefixtures("patient_drivers")
def test_of_two_commands_started_at_once_exactly_one_works(moto_bucket, checkpoint, monkeypatch):
    root = f"s3://{moto_bucket}"
    config = start_with_pictures(root, checkpoint)
    plain = storage.join_uri(root, "plain")
    annotate_without_ray(config, plain)
    with monkeypatch.context() as patch:
        ends = run_two_at_once(config, patch)
    (report,) = [end for end in ends if not isinstance(end, PipelineError)]
    (refusal,) = [end for end in ends if isinstance(end, PipelineError)]
    assert isinstance(refusal, LeaseHeldError)
    assert report.images_read == 6
    assert_same_rows(config.output, plain)


@pytest.mark.s3
@pytest.mark.usefixtures("patient_drivers")
def test_where_both_of_two_commands_start_the_rows_are_right_whoever_wins(
    s3_bucket, checkpoint, monkeypatch
):
    root = f"s3://{s3_bucket}"
    config = start_with_pictures(root, checkpoint)
    plain = storage.join_uri(root, "plain")
    annotate_without_ray(config, plain)
    with monkeypatch.context() as patch:
        ends = run_two_at_once(config, patch)
    assert sum(isinstance(end, LeaseLostError) for end in ends) == 1
    assert annotate(config).images == 6
    assert_same_rows(config.output, plain)
