"""Are images counted as wrong when the benchmark says so?"""

from __future__ import annotations

import numpy as np
import pytest

from overfeat.metrics import misses_class, misses_object
from overfeat.predictions import Classification, Guesses

NAMES = tuple("abcdefg")


def make_classes(*label_ids):
    return Classification(
        label_ids=np.array(label_ids, np.int32),
        labels=tuple(NAMES[label] for label in label_ids),
        scores=np.linspace(0.9, 0.1, len(label_ids), dtype=np.float32),
    )


def make_guesses(*guesses):
    return Guesses(
        label_ids=np.array([label for label, _ in guesses], np.int32),
        labels=tuple(NAMES[label] for label, _ in guesses),
        scores=np.full(len(guesses), 0.5, np.float32),
        boxes_xyxy=np.array([box for _, box in guesses], np.float32).reshape(-1, 4),
    )


@pytest.mark.parametrize(
    ("label", "guesses", "misses"), [(3, 1, False), (4, 1, True), (4, 5, False), (6, 5, True)]
)
def test_a_class_is_missed_if_it_is_not_among_the_first_guesses(label, guesses, misses):
    assert misses_class(make_classes(3, 1, 2, 0, 4, 6), label, guesses=guesses) is misses


BOX = (0.0, 0.0, 10.0, 10.0)
HALF = (0.0, 0.0, 10.0, 5.0)
LESS = (0.0, 0.0, 10.0, 4.9)
FAR = (50.0, 50.0, 60.0, 60.0)


@pytest.mark.parametrize(
    ("guesses", "misses"),
    [
        ([(2, BOX)], False),
        ([(2, HALF)], False),
        ([(2, LESS)], True),
        ([(1, BOX)], True),
        ([(1, BOX), (2, FAR), (3, BOX)], True),
        ([(1, FAR), (0, FAR), (3, FAR), (4, FAR), (2, BOX)], False),
        ([(1, FAR), (0, FAR), (3, FAR), (4, FAR), (5, FAR), (2, BOX)], True),
        ([], True),
    ],
)
def test_an_object_is_found_by_one_of_five_guesses_with_its_class_and_half_its_box(guesses, misses):
    truth = np.array([FAR, BOX] if misses is False else [BOX], np.float32)
    assert misses_object(make_guesses(*guesses), 2, truth) is misses
