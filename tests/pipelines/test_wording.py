"""Do numbers agree with their nouns?"""

from __future__ import annotations

from pipelines.wording import tell_count


def test_numbers_agree_with_their_nouns():
    told = [tell_count(number, "box", "boxes") for number in (0, 1, 2, 1200)]
    assert told == ["0 boxes", "1 box", "2 boxes", "1,200 boxes"]


def test_most_nouns_get_an_s():
    told = [tell_count(number, "shard") for number in (0, 1, 2)]
    assert told == ["0 shards", "1 shard", "2 shards"]
