"""Text stays text, whatever it holds."""

from __future__ import annotations

from html.parser import HTMLParser

from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.report.markup import Html, element, join

TEXT = st.text(st.characters(exclude_characters="\r\0", exclude_categories=["Cs"]), max_size=30)


class Reader(HTMLParser):
    def __init__(self, html):
        super().__init__()
        self.tags, self.text = [], ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data


@settings(deadline=None, max_examples=60, derandomize=True)
@given(child=TEXT, value=TEXT)
def test_any_text_comes_back_from_a_parser(child, value):
    reader = Reader(element("p", child, title=value))
    assert reader.text == child
    assert reader.tags == [("p", {"title": value})]


def test_markup_is_not_escaped_twice():
    assert element("p", element("b", "a < b")) == "<p><b>a &lt; b</b></p>"


def test_names_of_attributes_follow_html():
    assert element("p", class_="a", aria_label="b") == '<p class="a" aria-label="b"></p>'


def test_true_false_and_none_are_attributes_of_their_own_kind():
    assert element("p", hidden=True, open=False, title=None) == "<p hidden></p>"


def test_void_elements_have_no_end():
    assert element("img", src="data:,") == '<img src="data:,">'


def test_joined_pieces_are_markup_and_none_is_nothing():
    joined = join(["<", None, Html("<br>")])
    assert isinstance(joined, Html)
    assert joined == "&lt;<br>"
