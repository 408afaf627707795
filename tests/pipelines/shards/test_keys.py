from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.errors import InputError
from pipelines.shards.keys import escape_name, make_keys

SETTINGS = settings(max_examples=200, deadline=None, derandomize=True)
KEY = re.compile(r"[A-Za-z0-9_-]+(/[A-Za-z0-9_-]+)*")

tricky = st.text("a-/.2d\u00e9\udc80", min_size=1, max_size=8)
names = tricky | st.text(min_size=1) | tricky.map(lambda name: f"{name}.jpg")


def unescape(key):
    """The inverse, which there can only be if no two names have one key."""
    parts = re.split(r"--([0-9a-f]{2})", key)
    data = b"".join(
        bytes.fromhex(part) if at % 2 else part.encode() for at, part in enumerate(parts)
    )
    return data.decode("utf-8", "surrogatepass")


@SETTINGS
@given(names)
def test_an_escaped_name_is_a_key_and_can_be_read_back(name):
    key = escape_name(name)

    assert KEY.fullmatch(key)
    assert unescape(key) == name


@SETTINGS
@given(st.lists(names, unique=True, max_size=12))
def test_different_names_have_different_keys(found):
    keys = make_keys(found)

    assert len(set(keys)) == len(found)
    assert all(KEY.fullmatch(key) for key in keys)


@SETTINGS
@given(st.lists(names, unique=True, max_size=8))
def test_keys_do_not_depend_on_the_order(found):
    assert make_keys(found[::-1]) == make_keys(found)[::-1]


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("n01440764/n01440764_10026.JPEG", "n01440764/n01440764_10026"),
        ("2007_000027.jpg", "2007_000027"),
        ("a-b/c.png", "a-b/c"),
        ("a--b.jpg", "a--2d-b"),
        ("my cat.v2.jpg", "my--20cat--2ev2"),
        ("/a//b.jpg", "--2fa--2f--2fb"),
        (".jpg", "--2ejpg"),
    ],
)
def test_plain_names_stay_and_others_are_escaped(name, key):
    assert make_keys([name]) == [key]


def test_a_suffix_stays_where_keys_would_clash_even_twice():
    found = make_keys(["a.jpg", "a.png", "a.jpg.png", "b.jpg"])

    assert found == ["a--2ejpg", "a--2epng", "a--2ejpg--2epng", "b"]


def test_a_name_that_comes_twice_is_refused():
    with pytest.raises(InputError, match=r"a\.jpg: stands 2 times"):
        make_keys(["a.jpg", "b.jpg", "a.jpg"])
