"""Can a person read how far it is, on a terminal and in a job's log?"""

from __future__ import annotations

import io
import logging
import re
import sys
import time
from contextlib import closing

import pytest

from pipelines import progress
from pipelines.progress import Progress, follow, format_seconds


class Clock:
    """A clock that moves when told to."""

    def __init__(self):
        self.now = 1000.0

    def monotonic(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(progress, "time", clock)
    return clock


class Terminal(io.StringIO):
    """A stderr that says it is a terminal."""

    def isatty(self):
        return True


def wait_for_lines(caplog, count):
    deadline = time.monotonic() + 10
    while len(caplog.records) < count:
        assert time.monotonic() < deadline, "no line in ten seconds"
        time.sleep(0.01)


def test_a_log_gets_lines_even_while_nothing_is_counted(clock, caplog, monkeypatch):
    monkeypatch.setattr(progress, "LINE_SECONDS", 0.05)
    caplog.set_level(logging.INFO)
    with Progress(1000, unit="images") as bar:
        clock.now += 10
        bar.advance(100, "2 failed")
        wait_for_lines(caplog, 3)
    line = "100/1,000 images, 10.0 images/s, 0:01:30 left, 2 failed"
    assert caplog.records[-1].message == line


def test_the_last_line_comes_however_soon(clock, caplog):
    caplog.set_level(logging.INFO)
    with Progress(20, unit="images") as bar:
        clock.now += 2
        bar.advance(20)
    assert [record.message for record in caplog.records] == [
        "20/20 images, 10.0 images/s, 0:00:00 left"
    ]


def test_an_error_has_the_last_word(clock, caplog):
    caplog.set_level(logging.INFO)
    with pytest.raises(KeyError), Progress(20, unit="images"):
        raise KeyError
    assert not caplog.records


def test_nothing_speaks_after_the_end(clock, caplog, monkeypatch):
    monkeypatch.setattr(progress, "LINE_SECONDS", 0.01)
    caplog.set_level(logging.INFO)
    with Progress(20, unit="images"):
        wait_for_lines(caplog, 1)
    before = len(caplog.records)
    time.sleep(0.05)
    assert len(caplog.records) == before


def test_what_an_earlier_run_did_counts_for_the_total_and_not_for_the_rate(clock):
    with Progress(1000, unit="images", done=500) as bar:
        clock.now += 10
        bar.advance(100)
        assert bar.line() == "600/1,000 images, 10.0 images/s, 0:00:40 left"


def test_without_progress_no_time_is_guessed(clock):
    words = "500/1,000 images, none done yet: starting"
    with Progress(1000, unit="images", done=500) as bar:
        assert bar.line() == words
        clock.now += 10
        assert bar.line() == words


def test_the_time_that_the_start_took_does_not_count_for_long(clock):
    with Progress(1000, unit="images") as bar:
        clock.now += 90
        bar.advance(100)
        assert bar.line().endswith("1.1 images/s, 0:13:30 left")
        for _ in range(4):
            clock.now += 10
            bar.advance(100)
        assert bar.line() == "500/1,000 images, 10.0 images/s, 0:00:50 left"
        clock.now += 70
        bar.advance(500)
        assert bar.line() == "1,000/1,000 images, 5.0 images/s, 0:00:00 left"


def test_an_estimated_total_is_what_was_done_at_the_end(caplog):
    with caplog.at_level(logging.INFO), Progress(22, unit="images") as bar:
        bar.advance(21)
        bar.settle()
    assert caplog.messages[-1].startswith("21/21 images, ")


def test_a_high_rate_has_no_tenths(clock):
    with Progress(100_000, unit="images") as bar:
        clock.now += 10
        bar.advance(12_345)
        assert ", 1,234 images/s, " in bar.line()


def test_nothing_to_do_is_waited_for_by_nobody(clock):
    with Progress(20, unit="images", done=20) as bar:
        assert bar.line() == "20/20 images"


def test_a_terminal_gets_a_bar_and_no_lines(monkeypatch, caplog):
    caplog.set_level(logging.INFO)
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with Progress(20, unit="images") as bar:
        bar.advance(20, "3 failed")
    assert "20/20" in terminal.getvalue()
    assert "3 failed" in terminal.getvalue()
    assert not caplog.records


def list_images(items, total=None):
    return follow(items, total=total, unit="images", doing="listing")


def wait_after_first(is_over):
    """Three items; the second comes once something is so."""
    yield 1
    deadline = time.monotonic() + 10
    while not is_over():
        assert time.monotonic() < deadline, "not in ten seconds"
        time.sleep(0.01)
    yield 2
    yield 3


@pytest.mark.parametrize("is_terminal", [False, True])
def test_what_is_over_soon_is_not_spoken_of(caplog, monkeypatch, is_terminal):
    caplog.set_level(logging.INFO)
    stderr = Terminal() if is_terminal else io.StringIO()
    monkeypatch.setattr(sys, "stderr", stderr)
    assert list(list_images([1, 2, 3])) == [1, 2, 3]
    assert not caplog.records
    assert not stderr.getvalue()


def test_what_takes_long_is_spoken_of_though_nobody_knows_the_end(clock, caplog, monkeypatch):
    monkeypatch.setattr(progress, "LINE_SECONDS", 0.05)
    caplog.set_level(logging.INFO)
    for item in list_images(wait_after_first(lambda: caplog.records)):
        clock.now += item
    assert caplog.messages[0] == "listing: 1 images, 1.0 images/s"
    assert caplog.messages[-1] == "listing: 3 images, 0.5 images/s"


def test_before_the_first_of_unknown_many_it_says_that_there_is_none(clock):
    with Progress(None, unit="images", doing="listing") as bar:
        assert bar.line() == "listing: 0 images, none yet"


def test_a_stderr_that_is_closed_is_written_nothing(monkeypatch):
    monkeypatch.setattr(sys, "stderr", None)
    monkeypatch.setattr(progress, "LINE_SECONDS", 0.01)
    with Progress(20, unit="images") as bar:
        time.sleep(0.05)
        bar.advance(20)
    assert list(list_images([1, 2])) == [1, 2]


def test_more_than_were_expected_leave_no_time(clock):
    with Progress(2, unit="images") as bar:
        clock.now += 1
        bar.advance(3)
        assert bar.line() == "3/2 images, 3.0 images/s, 0:00:00 left"


@pytest.mark.parametrize("total", [None, 3])
def test_a_bar_that_opens_late_has_counted_from_the_start(monkeypatch, total):
    monkeypatch.setattr(progress, "LINE_SECONDS", 0.05)
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    list(list_images(wait_after_first(terminal.getvalue), total))
    assert re.search(r"listing: .*\b1\b.*listing: .*\b3\b", terminal.getvalue(), re.DOTALL)


def test_who_leaves_in_the_middle_is_spoken_to_no_more(caplog, monkeypatch):
    monkeypatch.setattr(progress, "LINE_SECONDS", 0.01)
    caplog.set_level(logging.INFO)
    with closing(list_images(range(3))) as items:
        next(items)
        wait_for_lines(caplog, 1)
    before = len(caplog.records)
    time.sleep(0.05)
    assert len(caplog.records) == before


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0:00:00"), (59.6, "0:01:00"), (3723, "1:02:03"), (360_000, "100:00:00")],
)
def test_time_is_written_for_people(seconds, text):
    assert format_seconds(seconds) == text
