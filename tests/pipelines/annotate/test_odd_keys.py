"""Do images keep their names and their rows, whatever their keys are made of?

Each stands beside one that a glob, an escape or a path that is tidied up would take it for.
"""

from __future__ import annotations

import pytest

from tests.pipelines.annotate.round_trip import check_round_trip

ON_ANY_STORE = [
    "a*.jpg", "ab.jpg", "a?.jpg", "IMG[1].jpg", "IMG1.jpg", "a b.jpg", "a+b.jpg", "a%20b.jpg",
    "100%.jpg", "100.jpg", "a#b.jpg", "a.jpg", "ü/日本.jpg", "u/日本.jpg", "a::b.jpg", "x:y.jpg",
    "a.jpg?versionId=1.jpg", 'it\'s "a" & <b>.jpg', "..jpg", "...jpg", "~.jpg", "-.jpg", "{}.jpg",
    " .jpg", "\\.jpg",
]  # fmt: skip
ON_LOCAL_DISK = ["line\nbreak.jpg", "line break.jpg", "tab\t.jpg"]
"""Names that the servers of these tests do not tell apart, or do not know."""
ON_OBJECT_STORES = [
    "a//b.jpg", "a/b.jpg", "a/../b.jpg", "b.jpg", "a/./b.jpg", "/b.jpg", "u\u0308/日本.jpg",
]  # fmt: skip
"""Names that a file system, or a server that keeps its objects on one, would tidy up. The last one
is the letter ü in two characters: another key than the one above."""


@pytest.mark.usefixtures("plain_engine")
def test_keys_of_any_characters_keep_their_rows(store_root, checkpoint):
    is_local = not store_root.startswith("s3:")
    check_round_trip(store_root, ON_ANY_STORE + ON_LOCAL_DISK * is_local, checkpoint)


@pytest.mark.usefixtures("plain_engine")
def test_keys_that_look_like_paths_keep_their_rows_in_a_bucket(moto_bucket, checkpoint):
    check_round_trip(f"s3://{moto_bucket}/run", ON_ANY_STORE + ON_OBJECT_STORES, checkpoint)


def test_every_key_is_there_once():
    names = ON_ANY_STORE + ON_LOCAL_DISK + ON_OBJECT_STORES
    assert len(set(names)) == len(names)
