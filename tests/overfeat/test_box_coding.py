"""What a regressor's four numbers mean: worked examples, and reading undoes writing."""

from __future__ import annotations

from math import e, log

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from overfeat.box_coding import LOG_SIZE_LIMIT, decode_boxes, encode_boxes
from tests.overfeat.builders import MANY

WINDOW = [[0.0, 0.0, 1.0, 1.0]]

numbers = st.floats(-3, 3)
codings = pytest.mark.parametrize("coding", ["edges", "centre-size"])


def make(rows):
    return torch.tensor(rows, dtype=torch.float64).reshape(-1, 4)


def test_the_papers_coding_are_the_edges_themselves():
    edges = make([[0.1, 0.2, 0.3, 0.5]])
    assert torch.equal(encode_boxes(edges, "edges"), edges)
    assert torch.equal(decode_boxes(edges, "edges"), edges)


@pytest.mark.parametrize(
    ("edges", "code"),
    [
        (WINDOW, [[0.0, 0.0, 0.0, 0.0]]),
        # Rows 0.5 to 0.75, columns 0 to 0.5.
        ([[0.5, 0.0, 0.75, 0.5]], [[0.125, -0.25, log(0.25), log(0.5)]]),
        # Around the window, e times as high.
        ([[0.5 - e / 2, 0.0, 0.5 + e / 2, 1.0]], [[0.0, 0.0, 1.0, 0.0]]),
    ],
)
def test_centre_and_size_are_counted_from_the_window(edges, code):
    assert torch.allclose(encode_boxes(make(edges), "centre-size"), make(code))
    assert torch.allclose(decode_boxes(make(code), "centre-size"), make(edges))


@codings
@MANY
@given(numbers, numbers, st.floats(1e-3, 8), st.floats(1e-3, 8))
def test_decoding_is_the_inverse_of_encoding(coding, top, left, height, width):
    edges = make([[top, left, top + height, left + width]])
    found = decode_boxes(encode_boxes(edges, coding), coding)
    assert torch.allclose(found, edges, rtol=0, atol=1e-12)


@codings
@MANY
@given(st.tuples(numbers, numbers, numbers, numbers))
def test_encoding_is_the_inverse_of_decoding(coding, code):
    codes = make([code])
    assert torch.allclose(encode_boxes(decode_boxes(codes, coding), coding), codes, atol=1e-9)


def test_a_box_without_a_size_and_a_wild_one_stay_numbers():
    empty = encode_boxes(make([[0.5, 0.5, 0.5, 0.4]]), "centre-size")
    assert empty.tolist() == [[0.0, pytest.approx(-0.05), -LOG_SIZE_LIMIT, -LOG_SIZE_LIMIT]]
    wild = decode_boxes(torch.tensor([[0.0, 0.0, 1e30, -1e30]]), "centre-size")
    assert wild.isfinite().all()
