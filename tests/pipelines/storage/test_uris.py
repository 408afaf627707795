"""Does a text lead to the object that it names, or to a clear refusal?"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines import storage
from pipelines.errors import InputError
from pipelines.storage import uris
from pipelines.storage.uris import redact

_names = st.text(min_size=1, max_size=20).filter(lambda name: "\0" not in name)


@pytest.mark.parametrize(
    "text",
    [
        "s3://bucket/a b/ü#1/100%/IMG[1]*?.jpg",
        "s3://bucket/a//b/../c",
        "s3://bucket/photos/",
        "s3://bucket/a::b.jpg",
        "s3://bucket/what?.jpg",
        "https://host/a%20b.jpg",
    ],
)
def test_a_remote_key_is_left_as_it_is(text):
    assert storage.resolve_uri(text) == text


def test_a_bucket_alone_means_all_of_it():
    assert storage.resolve_uri("S3://bucket") == "s3://bucket/"


def test_a_local_path_is_made_absolute(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert storage.resolve_uri("photos/") == str(tmp_path / "photos")
    assert storage.resolve_uri("~/photos") == str(tmp_path / "home" / "photos")
    assert storage.resolve_uri("./a::b?c=d.jpg") == str(tmp_path / "a::b?c=d.jpg")
    assert storage.resolve_uri(f"file://{tmp_path}/a%20b") == f"{tmp_path}/a%20b"


def test_links_are_kept_and_dots_follow_them(tmp_path):
    (tmp_path / "far" / "deep").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "far" / "deep")
    assert storage.resolve_uri(f"{tmp_path}/link") == f"{tmp_path}/link"
    assert storage.resolve_uri(f"{tmp_path}/link/../x") == f"{tmp_path}/far/x"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "not a path"),
        ("a\0b", "not a path"),
        ("pipe:cat x", "pipe:"),
        ("simplecache::s3://bucket/x", "chained"),
        ("zip://a.jpg::s3://bucket/x.zip", "chained"),
        ("s3://bucket/x::file:///etc/passwd", "chained"),
        ("ftp://host/x", "unknown scheme"),
        ("http://host/x", "unknown scheme"),
        ("s3:bucket/x", "://"),
        ("s3://", "names no bucket"),
        ("s3:///key", "names no bucket"),
        ("s3://not a bucket!/key", "not the name of a bucket"),
        ("file://host/x", "file:///"),
        ("~nobody-of-this-name/x", "home"),
        ("s3://bucket/x.jpg?X-Amz-Signature=hidden", "query string"),
        ("https://host/x.jpg?hidden", "query string"),
        ("s3://user:hidden@bucket/x", "credentials"),
        ("s3://user:hid/hidden@bucket/x", "credentials"),
        ("https://hidden@host/x", "credentials"),
        ("abfs://user:hidden@account/x", "credentials"),
    ],
)
def test_what_is_refused_is_named_without_its_secret(text, words):
    with pytest.raises(InputError, match=words) as caught:
        storage.resolve_uri(text)
    assert "hidden" not in str(caught.value)
    assert caught.value.exit_code == 2


def test_a_missing_backend_is_named_with_its_package(monkeypatch):
    monkeypatch.setattr("pipelines.storage.uris._find_package", lambda name: None)
    with pytest.raises(InputError, match="pip install gcsfs"):
        storage.resolve_uri("gs://bucket/x")


def test_a_package_is_looked_for_once_however_many_objects_are_named(monkeypatch):
    asked = []

    class Finder:
        @staticmethod
        def find_spec(name, path=None, target=None):
            asked.append(name)

    uris._find_package.cache_clear()
    monkeypatch.delitem(sys.modules, "s3fs", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Finder, *sys.meta_path])
    for number in range(3):
        storage.resolve_uri(f"s3://bucket/{number}.jpg")
    assert asked == ["s3fs"]


def test_an_azure_account_is_no_credential(monkeypatch):
    monkeypatch.setattr("pipelines.storage.uris._find_package", lambda name: object())
    text = "abfs://container@account.dfs.core.windows.net/x"
    assert storage.resolve_uri(text) == text


@settings(deadline=None, max_examples=50, derandomize=True)
@given(base=st.sampled_from(["s3://bucket", "s3://bucket/a/", "/data/a"]), name=_names)
def test_what_is_joined_can_be_taken_apart(base, name):
    assert storage.relative_to(storage.join_uri(base, name), base) == name


_file_names = st.lists(
    st.sampled_from([b"\xff", b"\x80", b"\\", b"\\udc", b"5c", b"ff", b"e", b"\xc3\xa9", b"a"]),
    min_size=1,
    max_size=6,
).map(b"".join)


@settings(deadline=None, max_examples=300, derandomize=True)
@given(name=_file_names)
def test_the_text_of_any_file_name_is_utf8_and_leads_back_to_it(name):
    path = f"/data/{os.fsdecode(name)}"
    text = storage.escape_surrogates(path)
    text.encode("utf-8")
    assert str(storage.local_path(text)) == path
    assert storage.resolve_uri(text) == text


def test_the_text_of_a_file_name_that_is_utf8_is_the_name():
    for name in (r"/a\udc00.jpg", r"/a\b.jpg", "/é.jpg", r"/\udcf.jpg"):
        assert storage.escape_surrogates(name) == name


def test_a_sibling_with_a_longer_name_is_not_below_a_folder():
    with pytest.raises(ValueError, match="not below"):
        storage.relative_to("s3://bucket/photos-old/x", "s3://bucket/photos")


def test_local_is_what_has_no_remote_scheme():
    assert storage.is_local("/data/a")
    assert storage.is_local("file:///data/a")
    assert not storage.is_local("s3://bucket/a")


def test_redaction_leaves_an_ordinary_name_alone():
    assert redact("s3://bucket/who?.jpg") == "s3://bucket/who?.jpg"
    assert redact(str(Path("/data/me@home.jpg"))) == "/data/me@home.jpg"
