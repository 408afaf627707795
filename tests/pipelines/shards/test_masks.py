from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from pipelines.shards.masks import decode_mask, encode_counts, encode_mask, encode_polygons
from tests.pipelines.shards.coco import read_mask

SETTINGS = settings(max_examples=50, deadline=None, derandomize=True)
masks = arrays(np.bool_, st.tuples(st.integers(1, 20), st.integers(1, 20)))


@SETTINGS
@given(masks)
def test_a_mask_comes_back_from_its_run_lengths(mask):
    assert (read_mask(encode_mask(mask)) == mask).all()
    assert (decode_mask(encode_mask(mask)) == mask).all()


@SETTINGS
@given(masks)
def test_run_lengths_as_numbers_are_the_same_mask(mask):
    column = mask.ravel(order="F")
    ends = [*(np.flatnonzero(np.diff(column)) + 1), len(column)]
    counts = np.diff([0, *ends]).tolist()
    counts = [0, *counts] if column[0] else counts

    height, width = mask.shape
    assert encode_counts(counts, width=width, height=height) == encode_mask(mask)


def test_two_polygons_are_one_mask():
    left, right = [0, 0, 4, 0, 4, 6, 0, 6], [6, 2, 10, 2, 10, 4, 6, 4]
    expected = np.zeros((6, 10), np.bool_)
    expected[:, :4] = True
    expected[2:4, 6:] = True

    assert (decode_mask(encode_polygons([left, right], width=10, height=6)) == expected).all()
