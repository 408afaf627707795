"""Is what breaks the decoder found? `python -m tests.torture --only decoder` searches longer."""

from __future__ import annotations

import random

import pytest

from tests.torture import fuzz
from tests.torture.fuzz import LIMITS, judge_and_cover, mutate, torture_decoder


def test_two_hundred_inputs_give_pixels_or_a_reason():
    record = torture_decoder(1, inputs=200)
    assert record.faults == {"input": 200}


def test_the_same_seed_gives_the_same_inputs():
    one, other = (mutate(bytes(range(256)), random.Random(7)) for _ in range(2))
    assert one == other != bytes(range(256))


def test_a_file_reaches_new_lines_once():
    assert judge_and_cover(b"no image", LIMITS)[1] > 0
    assert judge_and_cover(b"no image", LIMITS) == ("not_an_image", 0)


def raise_a_surprise(data, limits):
    raise ZeroDivisionError(f"{len(data)} bytes, {limits.max_pixels} pixels")


def test_an_input_that_raises_what_is_no_reason_fails(monkeypatch):
    monkeypatch.setattr(fuzz, "judge_and_cover", raise_a_surprise)
    with pytest.raises(AssertionError, match=r"input 0, .* SHA-256 [0-9a-f]{64}: .*bytes"):
        torture_decoder(1, inputs=1)
