"""Whatever a bucket holds: pixels or a reason, in little time and memory. `torture` has more."""

from __future__ import annotations

from itertools import islice

import pytest

from pipelines.images import ImageLimits
from pipelines.isolation import Isolated
from tests.hostile.corpus import HostileFile, iter_mutations, list_all, list_small
from tests.hostile.measure import decode_and_measure

SEED = 20131221
MAX_SECONDS = 2.0
"""Of the processor, for the light files; the slowest took 0.3."""
MAX_PEAK_BYTES = 150 * 2**20
"""For the light files; the hungriest took 47 MB."""


@pytest.fixture(scope="module")
def child():
    with Isolated(decode_and_measure, memory_bytes=2 * 2**30, seconds=60) as isolated:
        yield isolated


@pytest.mark.parametrize("file", list_small(SEED), ids=lambda file: file.name)
def test_a_hostile_file_gives_pixels_or_the_right_reason(child, file: HostileFile):
    cost = child(file.write(), ImageLimits())
    assert cost.verdict in file.verdicts
    assert cost.seconds < MAX_SECONDS
    assert cost.peak_bytes < MAX_PEAK_BYTES


def test_the_full_corpus_has_a_thousand_files_no_two_of_one_name():
    names = [file.name for file in list_all(SEED)]
    assert len(names) >= 1000
    assert len(set(names)) == len(names)


def test_the_corpus_is_the_same_every_time_and_another_with_another_seed():
    one, same, other = (
        {file.name: file.write() for file in islice(iter_mutations(seed), 40)} for seed in (1, 1, 2)
    )
    assert one == same
    assert set(one.values()) != set(other.values())
