"""How is a listing cut into slices?"""

from __future__ import annotations

import itertools

from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.manifest import cut_slices
from pipelines.storage import ObjectInfo
from tests.pipelines.manifest.written import make_infos

FEW = settings(max_examples=50, deadline=None, derandomize=True)


def cut(infos, **limits):
    slices = list(cut_slices(infos, **{"slice_size": 1000, "slice_bytes": 1000} | limits))
    assert all(entry.todo for entries in slices for entry in entries)
    return [[entry.info for entry in entries] for entries in slices]


def cut_sizes(sizes, **limits):
    return [[info.size for info in infos] for infos in cut(make_infos(*sizes), **limits)]


def test_slices_are_cut_by_count():
    assert cut_sizes([1] * 7, slice_size=3) == [[1] * 3, [1] * 3, [1]]


def test_slices_are_cut_by_bytes():
    assert cut_sizes([40, 60, 1, 99, 2], slice_bytes=100) == [[40, 60], [1, 99], [2]]


def test_whichever_limit_comes_first_cuts():
    assert cut_sizes([1, 1, 1, 9, 9], slice_size=2, slice_bytes=10) == [[1, 1], [1, 9], [9]]


def test_an_image_above_the_limit_is_a_slice_of_its_own():
    assert cut_sizes([5, 500, 5], slice_bytes=100) == [[5], [500], [5]]


def test_unknown_sizes_are_cut_by_count_alone():
    assert cut_sizes([0] * 5, slice_size=2, slice_bytes=1) == [[0, 0], [0, 0], [0]]


def test_nothing_gives_no_slice():
    assert cut_sizes([]) == []


def test_a_slice_is_sorted_by_uri_and_the_slices_keep_the_listing_order():
    infos = [ObjectInfo(uri=uri) for uri in ("d", "b", "c", "a")]
    slices = cut(infos, slice_size=2, slice_bytes=1)
    assert [[info.uri for info in infos] for infos in slices] == [["b", "d"], ["a", "c"]]


@FEW
@given(
    sizes=st.lists(st.integers(0, 120), max_size=40),
    slice_size=st.integers(1, 6),
    slice_bytes=st.integers(1, 200),
)
def test_cutting_loses_nothing_and_keeps_the_limits(sizes, slice_size, slice_bytes):
    slices = cut_sizes(sizes, slice_size=slice_size, slice_bytes=slice_bytes)
    assert list(itertools.chain(*slices)) == sizes
    assert all(len(one) <= slice_size for one in slices)
    assert all(sum(one) <= slice_bytes or len(one) == 1 for one in slices)
    # Nothing is cut that both limits would let pass.
    for one, other in itertools.pairwise(slices):
        assert len(one) == slice_size or sum(one) + other[0] > slice_bytes


def test_a_listing_is_cut_as_it_streams():
    drawn = []
    infos = (drawn.append(n) or ObjectInfo(uri=f"{n:03d}") for n in range(100))
    next(cut_slices(infos, slice_size=10, slice_bytes=1))
    assert len(drawn) == 11
