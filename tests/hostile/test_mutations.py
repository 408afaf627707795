"""Mutations: they damage what they say they do, and nothing by accident."""

from __future__ import annotations

import random

import pytest

from tests.hostile.mutations import MUTATIONS, repair_checksums, truncate
from tests.hostile.strangers import list_odd_pictures
from tests.pipelines.images.image_files import decode, encode, every_kind_of_file, make_picture

PNG = encode(make_picture(), "PNG")


@pytest.mark.parametrize("mutate", MUTATIONS, ids=lambda mutate: mutate.__name__)
def test_a_mutation_is_the_same_for_the_same_seed_and_changes_most_files(mutate):
    files = every_kind_of_file().values()
    once, twice = (
        [mutate(data, random.Random(number)) for number, data in enumerate(files)] for _ in range(2)
    )
    assert once == twice
    changed = sum(one != data for one, data in zip(once, files, strict=True))
    assert changed >= 0.8 * len(once)


@pytest.mark.parametrize("mutate", MUTATIONS, ids=lambda mutate: mutate.__name__)
def test_a_mutation_takes_the_smallest_file(mutate):
    for seed in range(20):
        assert isinstance(mutate(b"x", random.Random(seed)), bytes)


def test_a_file_is_cut_at_bytes_from_either_end_or_at_a_part():
    assert [truncate(b"0123456789", stage) for stage in (3, -3, 0.5)] == [
        b"012",
        b"0123456",
        b"01234",
    ]


def test_checksums_are_repaired_and_right_ones_left_alone():
    assert repair_checksums(PNG) == PNG
    wrong = PNG[:29] + b"\0\0\0\0" + PNG[33:]
    assert (decode(repair_checksums(wrong)) == make_picture()).all()
    assert repair_checksums(b"no PNG") == b"no PNG"


def test_odd_pictures_differ():
    assert len(set(list_odd_pictures().values())) >= 40
