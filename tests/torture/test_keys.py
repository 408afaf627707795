"""Are the names odd that are drawn, and each beside the one that it would be taken for?

`tests.pipelines.annotate.test_odd_keys` sends fixed ones through each store.
"""

from __future__ import annotations

import random

from tests.torture.keys import draw_names


def draw(seed, *odd):
    return draw_names(30, odd, random.Random(seed))


def test_names_are_drawn_with_their_siblings_and_none_twice():
    names = draw(1, "*")
    assert len(names) == len(set(names)) >= 30
    assert {name.replace("*", "xx") for name in names if name.startswith("*")} & set(names)
    assert draw(1, "*") == names != draw(2, "*")


def test_no_name_is_a_folder_of_another_one():
    names = draw(1, "/", ".jpg")
    assert not [(a, b) for a in names for b in names if b.startswith(f"{a}/")]
