"""Does a pattern match what a shell user expects, and nothing else?"""

from __future__ import annotations

import glob
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.errors import InputError
from pipelines.storage.globs import compile_glob, is_glob, split_glob


@pytest.mark.parametrize(
    ("pattern", "name", "is_match"),
    [
        ("a/*.jpg", "a/b.jpg", True),
        ("a/*.jpg", "a/b/c.jpg", False),
        ("a/*.jpg", "a/b.jpg.txt", False),
        ("a/**", "a/b/c.jpg", True),
        ("a/**/c.jpg", "a/c.jpg", True),
        ("a/**/c.jpg", "a/b/b/c.jpg", True),
        ("a/**/c.jpg", "a/xc.jpg", False),
        ("a/**.jpg", "a/b/c.jpg", True),
        ("a/?.jpg", "a/b.jpg", True),
        ("a/?.jpg", "a//.jpg", False),
        ("a/[b-d].jpg", "a/c.jpg", True),
        ("a/[!b-d].jpg", "a/c.jpg", False),
        ("a/[!b-d].jpg", "a/e.jpg", True),
        ("a[!b]c", "a/c", False),
        ("a/[]].jpg", "a/].jpg", True),
        ("a/[*].jpg", "a/*.jpg", True),
        ("a/[*].jpg", "a/b.jpg", False),
        ("a/[1.jpg", "a/[1.jpg", True),
        ("a/*.jpg", "a/new\nline.jpg", True),
        ("a/[^b].jpg", "a/^.jpg", True),
        ("a+(b)/*", "a+(b)/c", True),
        ("a/[!-b].jpg", "a/0.jpg", True),
        ("a/[!-b].jpg", "a/-.jpg", False),
        ("a/[b-].jpg", "a/-.jpg", True),
        ("a/[a-c--].jpg", "a/-.jpg", True),
        ("a/[+--].jpg", "a/,.jpg", True),
        ("a/[]-a].jpg", "a/^.jpg", True),
        ("a/[\\d].jpg", "a/1.jpg", False),
    ],
)
def test_a_pattern_matches_whole_names(pattern, name, is_match):
    assert bool(compile_glob(pattern).fullmatch(name)) is is_match


@pytest.mark.parametrize(
    ("pattern", "told"),
    [
        ("a/[z-a]*.jpg", "the range z-a in brackets goes down, .* write a-z, or the hyphen last"),
        ("a/[!9-0]", "the range 9-0 in brackets"),
        ("a/[b-\n]", r"the range b-\\n in brackets"),
        ("a/[x-\\]", r"the range x-\\ in brackets"),
    ],
)
def test_a_range_that_goes_down_is_refused_in_one_sentence(pattern, told):
    with pytest.raises(InputError, match=told) as error:
        compile_glob(pattern)
    assert error.value.exit_code == 2
    assert "\n" not in str(error.value)


@settings(deadline=None, max_examples=500, derandomize=True)
@given(pattern=st.text("[]!-^\\az*?&~|/.#\n", max_size=12))
def test_any_text_is_a_glob_or_refused(pattern):
    with suppress(InputError):
        compile_glob(pattern)


@settings(deadline=None, max_examples=100, derandomize=True)
@given(name=st.text(max_size=20), other=st.text(max_size=20))
def test_an_escaped_name_matches_itself_alone(name, other):
    pattern = compile_glob(glob.escape(name))
    assert pattern.fullmatch(name)
    assert bool(pattern.fullmatch(other)) is (name == other)


def test_a_listing_starts_at_the_literal_part():
    assert split_glob("s3://bucket/photos/2026-*/[ab].jpg") == ("s3://bucket/photos/", "2026-")


def test_only_magic_makes_a_glob():
    assert is_glob("s3://bucket/*.jpg")
    assert is_glob("s3://bucket/IMG[1].jpg")
    assert not is_glob("s3://bucket/a b#1%.jpg")
