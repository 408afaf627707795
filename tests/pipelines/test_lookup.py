"""Is the store asked for each image once, in order, and for few at a time?"""

from __future__ import annotations

import pytest

from pipelines import lookup
from pipelines.lookup import look_up_objects
from pipelines.storage import ObjectInfo


@pytest.fixture
def odd_ones_are_gone(monkeypatch):
    def look_up(uri):
        return None if int(uri) % 2 else ObjectInfo(uri=uri, etag="now")

    monkeypatch.setattr(lookup, "_look_up", look_up)


@pytest.mark.usefixtures("odd_ones_are_gone")
@pytest.mark.parametrize("count", [0, 1, 63, 64, 65, 200])
def test_those_that_are_there_are_given_in_order(count):
    found = list(look_up_objects(map(str, range(count))))
    assert found == [ObjectInfo(uri=str(n), etag="now") for n in range(0, count, 2)]


@pytest.mark.usefixtures("odd_ones_are_gone")
def test_few_look_ups_are_begun_before_their_answers_are_taken():
    taken = 0

    def names():
        nonlocal taken
        for taken in range(1, 2_001):
            yield str(taken)

    found = look_up_objects(names())
    for given in range(1, 500):
        next(found)
        assert taken <= 2 * given + 64
    found.close()
