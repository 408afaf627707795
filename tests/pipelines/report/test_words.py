"""Names and settings as people read them."""

from __future__ import annotations

import pytest

from pipelines.report.words import name_of, tell_value


@pytest.mark.parametrize(
    ("uri", "name"),
    [
        ("s3://bucket/2026/a.jpg", "a.jpg"),
        ("s3://bucket/2026/", "2026"),
        ("/data/set.tar#inner/a.jpg", "a.jpg"),
        ("a.jpg", "a.jpg"),
        ("/", "/"),
    ],
)
def test_an_image_is_called_by_what_follows_the_last_slash(uri, name):
    assert name_of(uri) == name


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("a b", "a b"),
        (["a", 1], "a, 1"),
        ([[1, 2]], "[[1, 2]]"),
        (None, "null"),
        (True, "true"),
        ([], ""),
    ],
)
def test_a_setting_is_written_plainly(value, text):
    assert tell_value(value) == text


def test_a_list_of_a_thousand_classes_is_cut():
    assert tell_value([f"c{n}" for n in range(1000)]).endswith(", c11, 1,000 in all")
