"""Is each object of a listing taken once?"""

from __future__ import annotations

import itertools
import random
import tracemalloc

import pytest

from pipelines import once
from pipelines.once import take_once
from pipelines.storage import ObjectInfo


def list_numbers(numbers):
    return (ObjectInfo(uri=f"s3://bucket/{number:07d}.jpg", size=1) for number in numbers)


@pytest.mark.parametrize("seed", range(5))
def test_in_any_order_the_first_entry_of_each_object_is_taken(monkeypatch, seed):
    monkeypatch.setattr(once, "_RECENT", 10)
    chosen = random.Random(seed)
    numbers = [chosen.randrange(700) for _ in range(2000)]
    listed = [
        ObjectInfo(uri=f"s3://bucket/{number}.jpg", size=place)
        for place, number in enumerate(numbers)
    ]
    first = {info.uri: info for info in reversed(listed)}
    assert list(take_once(listed)) == sorted(first.values(), key=lambda info: info.size)


def test_an_entry_is_passed_on_before_the_next_one_is_asked_for():
    asked = itertools.count()
    taken = take_once(list_numbers(asked))
    next(taken)
    assert next(asked) == 1


def test_a_name_that_is_not_utf_8_is_taken_once():
    listed = [ObjectInfo(uri=name) for name in ("\udcff.jpg", "a.jpg", "\udcff.jpg")]
    assert list(take_once(listed)) == listed[:2]


def test_memory_grows_by_digests_alone(monkeypatch):
    monkeypatch.setattr(once, "_RECENT", 512)
    peaks = []
    for count in (8192, 32_768):
        tracemalloc.start()
        assert sum(1 for _ in take_once(list_numbers(range(count)))) == count
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    # The digests, and while two arrays become one all of them twice.
    assert peaks[1] - peaks[0] < (32_768 - 8192) * 2.5 * 16
