"""Are slices whose receipt is not as the manifest lists them found, and done again?"""

from __future__ import annotations

import json
import shutil
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from pipelines import audit, readers, receipts
from pipelines.annotate import run
from pipelines.annotate.auditor import open_auditor
from pipelines.annotate.run import annotate
from pipelines.compact import CompactConfig, compact
from pipelines.errors import InputError, PipelineError
from pipelines.manifest import open_manifest, read_summary
from pipelines.receipts import RowCounts
from pipelines.tables import (
    BOXES,
    IMAGES,
    IMAGES_SCHEMA,
    Provenance,
    encode_table,
    read_table,
    slice_name,
)
from tests.builders import assert_same_rows, put_receipt, read_rows
from tests.pipelines.drivers import wait_until
from tests.pipelines.manifest.written import make_slices, write_first

pytestmark = pytest.mark.usefixtures("plain_engine", "fake_model")


@pytest.fixture
def undisturbed(finished, tmp_path):
    """A copy of it."""
    shutil.copytree(finished.output, tmp_path / "undisturbed")
    return str(tmp_path / "undisturbed")


def receipt_of(finished, number):
    return Path(finished.output, IMAGES, slice_name(number))


def test_a_finished_run_is_not_done_again(finished):
    report = annotate(finished)
    assert (report.slices_done, report.images_read, report.images) == (0, 0, 6)


@pytest.mark.parametrize("harm", ["empty", "cut", "another"])
def test_a_receipt_that_is_damaged_or_another_slices_is_made_anew(
    finished, undisturbed, harm, caplog
):
    path = receipt_of(finished, 1)
    if harm == "another":
        for table in (IMAGES, BOXES):
            folder = Path(finished.output, table)
            shutil.copy(folder / slice_name(0), folder / slice_name(1))
    else:
        path.write_bytes(path.read_bytes()[: {"empty": 0, "cut": 900}[harm]])
    report = annotate(finished)
    assert (report.slices_done, report.images_read, report.images) == (1, 2, 6)
    assert "1 receipt of committed slices are not as" in caplog.text
    assert_same_rows(finished.output, undisturbed)
    assert annotate(finished).slices_done == 0


def put_listing_late(finished, others, generation=0):
    """What a driver does that was paused before its last put of a generation.

    In a store without conditional puts nothing hinders it.
    """
    folder = Path("manifest", f"generation-{generation:06d}")
    for path in Path(others, folder).iterdir():
        shutil.copy(path, Path(finished.output, folder, path.name))


@pytest.fixture
def earlier(finished, checkpoint, tmp_path):
    """The output of a driver that listed the bucket when one picture was not there yet."""
    pictures = sorted(Path(finished.images).iterdir())
    pictures[0].rename(tmp_path / "aside")
    other = replace(finished, output=str(tmp_path / "earlier"))
    annotate(other)
    (tmp_path / "aside").rename(pictures[0])
    return other.output


def test_slices_of_a_listing_that_another_one_replaced_are_done_again(finished, earlier):
    put_listing_late(finished, earlier)
    copy = CompactConfig(output=finished.output, to=f"{finished.output}-copy")
    with pytest.raises(InputError, match="the receipt of slice 0 is not as the manifest lists it"):
        compact(copy)
    report = annotate(finished)
    assert (report.images, report.slices_done) == (5, 3)
    assert compact(copy).rows["images"] == 5
    assert_same_rows(finished.output, earlier)
    updated = annotate(replace(finished, update=True))
    assert (updated.changes.added, updated.images) == (1, 6)
    images = read_rows(finished.output, IMAGES)["image"].to_pylist()
    assert len(set(images)) == len(images) == 6


def test_an_update_whose_listing_was_replaced_loses_no_image(finished, undisturbed, tmp_path):
    first, new = sorted(Path(finished.images).iterdir())[0], Path(finished.images, "photo-006.jpg")
    shutil.copy(first, new)
    other = annotate(replace(finished, output=undisturbed, update=True))
    first.rename(tmp_path / "aside")
    annotate(replace(finished, update=True))
    (tmp_path / "aside").rename(first)
    put_listing_late(finished, undisturbed, generation=1)
    report = annotate(finished)
    assert (report.images, report.slices_done) == (other.images, 1) == (7, 1)
    assert_same_rows(finished.output, undisturbed)
    assert annotate(replace(finished, update=True)).images_read == 0


def test_a_run_that_counts_other_images_than_its_manifest_is_not_called_finished(finished):
    uri = str(receipt_of(finished, 1))
    notes = receipts.read_notes(uri)
    rows = read_table(uri).slice(0, 1)
    counts = json.dumps(json.loads(notes["counts"]) | {"images": 1})
    kept = {name: notes[name] for name in ("tables", "listed", "slice")}
    provenance = Provenance(fingerprint=notes["fingerprint"], generation=0)
    data = encode_table(rows, IMAGES_SCHEMA, provenance, counts=counts, **kept)
    receipt_of(finished, 1).write_bytes(data)
    with pytest.raises(PipelineError, match="count 5 images, its manifest lists 6"):
        annotate(finished)


def test_a_listing_that_is_replaced_while_slices_are_done_ends_the_command(
    finished, earlier, undisturbed, monkeypatch
):
    receipt_of(finished, 2).unlink()
    do_slices = run._do_slices

    def replace_listing(driver, *rest):
        do_slices(driver, *rest)
        put_listing_late(finished, earlier)

    with monkeypatch.context() as patched:
        patched.setattr(run, "_do_slices", replace_listing)
        with pytest.raises(PipelineError, match="its manifest was replaced by another driver's"):
            annotate(finished)
    assert annotate(finished).images == read_summary(finished.output).images == 5


def test_who_leaves_early_waits_for_no_more_receipts(tmp_path, monkeypatch):
    output = str(tmp_path)
    write_first(output, make_slices(*(f"{number:02d}" for number in range(40))))
    for number in range(40):
        put_receipt(output, number, RowCounts())
    opened, goes_on = [], threading.Event()
    read = receipts.read_receipt

    def wait_and_read(*args):
        opened.append(args)
        goes_on.wait(30)
        return read(*args)

    monkeypatch.setattr(audit, "read_receipt", wait_and_read)
    monkeypatch.setattr(readers, "_READERS", 2)
    with open_auditor() as auditor:
        auditor.begin(open_manifest(output), range(40), is_beside=True)
        wait_until(lambda: len(opened) == 2)
        # Those that are being opened are answered once the auditor is left.
        threading.Timer(0.2, goes_on.set).start()
    assert len(opened) < 40


def test_receipts_tell_whose_they_are(finished):
    notes = receipts.read_notes(str(receipt_of(finished, 1)))
    assert notes["slice"] == "1"
    assert json.loads(notes["counts"])["images"] == 2
