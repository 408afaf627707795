from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.shards.placement import PLACE_TRIES, InkMap

sizes = st.tuples(st.integers(4, 40), st.integers(4, 40))


class CountingDraws:
    def __init__(self) -> None:
        self.rng = np.random.default_rng(0)
        self.calls = 0

    def integers(self, low, high):
        self.calls += 1
        return self.rng.integers(low, high)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(inks=st.lists(sizes, min_size=1, max_size=8), seed=st.integers(0, 1000))
def test_border_and_later_objects_together_take_at_most_a_fifth(inks, seed):
    rng = np.random.default_rng(seed)
    ink_map = InkMap(width=64, height=48)
    placed = []
    for height, width in inks:
        ink = np.ones((height, width), np.bool_)
        place = ink_map.find_place(ink, rng)
        if place is not None:
            placed.append((ink.sum(), ink_map.put(ink, place)))

    assert placed
    for number, (total, mask) in enumerate(placed):
        covered = np.zeros_like(mask)
        for _, later in placed[number + 1 :]:
            covered |= later
        assert (mask & ~covered).sum() >= 0.8 * total


def test_an_object_without_a_place_is_given_up_after_200_tries():
    ink_map = InkMap(width=40, height=40)
    ink_map.put(np.ones((40, 40), np.bool_), (0, 0))
    draws = CountingDraws()

    assert ink_map.find_place(np.ones((30, 30), np.bool_), draws) is None
    assert draws.calls == 2 * PLACE_TRIES == 400


def test_the_mask_is_the_ink_inside_the_scene():
    ink = np.zeros((4, 6), np.bool_)
    ink[1:3, :] = True

    mask = InkMap(width=10, height=8).put(ink, (-2, 5))

    expected = np.zeros((8, 10), np.bool_)
    expected[6:8, 0:4] = True
    assert (mask == expected).all()
