"""Does the driver say what it has listed, and in which order does it have slices done?"""

from __future__ import annotations

import itertools
import logging
import time
from dataclasses import replace

import pytest

from pipelines import audit, progress
from pipelines.annotate import planning
from pipelines.annotate.auditor import open_auditor
from pipelines.annotate.planning import (
    find_pending,
    list_images,
    peek_images,
    write_first_generation,
    write_next_generation,
)
from pipelines.comparison import Changes
from pipelines.manifest import open_manifest
from pipelines.receipts import RowCounts
from tests.builders import make_config, put_receipt, write_pictures
from tests.pipelines.manifest.written import make_slices, write_first


def test_one_image_in_one_slice_is_told_in_the_singular(tmp_path, caplog):
    write_pictures(str(tmp_path / "in"), 1)
    (tmp_path / "in" / "notes.txt").write_text("no image")
    config = make_config(str(tmp_path), "unused")
    listing = list_images(config, config.output)
    with caplog.at_level(logging.INFO):
        write_first_generation(config, config.output, listing, check=lambda: None)
    assert "manifest: 1 image in 1 slice; 1 other object was left out" in caplog.text


@pytest.fixture
def talkative(monkeypatch, caplog):
    """Progress that speaks every few milliseconds."""
    monkeypatch.setattr(progress, "LINE_SECONDS", 0.01)
    caplog.set_level(logging.INFO)
    return caplog


def come_slowly(listing, log, words):
    """The images of a listing, the last one once a line of the log begins so."""

    def wait(images):
        *others, last = images
        yield from others
        deadline = time.monotonic() + 10
        while not any(line.startswith(words) for line in log.messages):
            assert time.monotonic() < deadline, log.messages
            time.sleep(0.01)
        yield last

    return replace(listing, images=wait(listing.images))


def test_a_long_listing_says_how_far_it_is(tmp_path, talkative):
    write_pictures(str(tmp_path / "in"), 3)
    config = make_config(str(tmp_path), "unused")
    listing = come_slowly(list_images(config, config.output), talkative, "listing: 2 images, ")
    write_first_generation(config, config.output, listing, check=lambda: None)
    assert any(line.startswith("listing: 3 images, ") for line in talkative.messages)


def test_a_long_update_says_how_many_images_it_expects(tmp_path, talkative, monkeypatch):
    write_pictures(str(tmp_path / "in"), 3)
    config = make_config(str(tmp_path), "unused")
    listing = list_images(config, config.output)
    manifest = write_first_generation(config, config.output, listing, check=lambda: None)
    slices = dict.fromkeys(range(manifest.summary.slices), RowCounts(images=1))

    def peek(*args):
        return come_slowly(peek_images(*args), talkative, "listing: 2/3 images, ")

    monkeypatch.setattr(planning, "peek_images", peek)
    later = replace(config, update=True)
    assert write_next_generation(later, manifest, slices, check=lambda: None) == Changes()


def list_pending(output):
    with open_auditor() as auditor:
        pending = find_pending(open_manifest(output), {}, frozenset(), auditor)
        return [place.number for place in pending.places], pending.audit.result().counts


def test_slices_are_dispatched_in_a_shuffled_order_that_is_the_same_every_time(tmp_path):
    """No prefix of a bucket is hammered; slices that are done are left out of the same order."""
    orders = []
    for name in ("one", "another"):
        output = str(tmp_path / name)
        write_first(output, make_slices(*(f"{number:02d}" for number in range(40))))
        orders.append(list_pending(output)[0])
    order = orders[0]
    assert sorted(order) == list(range(40))
    assert orders == [order, order]
    # Neighbours in the bucket do not follow each other: of a shuffled order one or two do.
    assert sum(abs(after - before) == 1 for before, after in itertools.pairwise(order)) < 5
    for number in (3, 20):
        put_receipt(output, number, RowCounts(images=2))
    left = [number for number in order if number not in {3, 20}]
    assert list_pending(output) == (left, dict.fromkeys((3, 20), RowCounts(images=2)))


@pytest.mark.parametrize("is_beside", [False, True])
def test_receipts_are_read_in_silence_beside_other_work(
    tmp_path, talkative, monkeypatch, is_beside
):
    output, read = str(tmp_path), audit.read_receipt
    write_first(output, make_slices("a", "b"))
    for number in range(1 if is_beside else 2):
        put_receipt(output, number, RowCounts(images=1))
    monkeypatch.setattr(audit, "read_receipt", lambda *args: time.sleep(0.1) or read(*args))
    list_pending(output)
    assert ("reading receipts" in talkative.text) is not is_beside


def test_an_image_that_is_long_in_coming_is_waited_for_in_words(tmp_path, talkative, monkeypatch):
    write_pictures(str(tmp_path / "in"), 1)
    config = make_config(str(tmp_path), "unused")
    words = "listing: 0 images, none yet"

    def list_slowly(*args):
        return come_slowly(list_images(*args), talkative, words)

    monkeypatch.setattr(planning, "list_images", list_slowly)
    assert len(list(peek_images(config, config.output).images)) == 1
