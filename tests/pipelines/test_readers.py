"""Is one thing of each slice read in order, several at a time, and no longer than it is wanted?"""

from __future__ import annotations

import logging
import threading
import time

import pytest

from pipelines import progress, readers
from pipelines.readers import read_slices


def test_answers_come_in_the_order_of_the_numbers_however_long_each_takes():
    later = threading.Event()

    def read(number):
        if number == 7:
            # The second is read beside the first, or never.
            assert later.wait(10)
        later.set()
        return number * 10

    assert list(read_slices([7, 3, 5], read, doing="reading")) == [70, 30, 50]


def test_no_slices_are_no_answers():
    assert list(read_slices([], str, doing="reading")) == []


def test_the_first_error_ends_it(monkeypatch):
    monkeypatch.setattr(readers, "_READERS", 1)
    begun = []
    may_end = threading.Event()

    def read(number):
        begun.append(number)
        if number == 2:
            raise KeyError(number)
        if number > 2:
            may_end.wait(10)

    answers = read_slices(range(100), read, doing="reading")
    assert [next(answers), next(answers)] == [None, None]
    threading.Timer(0.2, may_end.set).start()
    with pytest.raises(KeyError):
        next(answers)
    assert len(begun) < 10, "those that nobody waits for were read"


def test_who_waits_long_is_told_how_far_it_is(caplog, monkeypatch):
    monkeypatch.setattr(progress, "LINE_SECONDS", 0.05)
    caplog.set_level(logging.INFO)
    spoken = threading.Event()

    def read(number):
        if number == 1:
            assert spoken.wait(10)
        return number

    class Ear(logging.Handler):
        def emit(self, record):
            spoken.set()

    logging.getLogger("pipelines.progress").addHandler(ear := Ear())
    try:
        list(read_slices(range(3), read, doing="reading receipts"))
    finally:
        logging.getLogger("pipelines.progress").removeHandler(ear)
    assert caplog.messages[0].startswith("reading receipts: 1/3 slices")


def test_who_asks_for_no_more_waits_for_none_of_the_rest():
    begun = []

    def read(number):
        begun.append(number)
        time.sleep(0.002)

    def leave():
        for _ in read_slices(range(2000), read, doing="reading"):
            raise KeyError

    with pytest.raises(KeyError):
        leave()
    assert len(begun) < 1000


@pytest.mark.parametrize(("doing", "lines"), [("reading", 1), (None, 0)])
def test_work_that_nobody_waits_for_is_silent(caplog, monkeypatch, doing, lines):
    monkeypatch.setattr(progress, "LINE_SECONDS", 0.01)
    caplog.set_level(logging.INFO)
    list(read_slices(range(2), lambda _: time.sleep(0.1), doing=doing))
    assert bool(caplog.records) == bool(lines)
