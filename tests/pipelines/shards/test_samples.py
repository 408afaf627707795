from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.errors import InputError
from pipelines.shards.samples import (
    ObjectMetadata,
    PartMetadata,
    Sample,
    SampleMetadata,
    decode_metadata,
    encode_metadata,
)

SETTINGS = settings(max_examples=50, deadline=None, derandomize=True)
METADATA = SampleMetadata(width=6, height=4, original_name="a.jpg")

edges = st.floats(0, 1e4, allow_nan=False)
masks = st.none() | st.just({"size": [4, 6], "counts": "08X1"})
parts = st.builds(PartMetadata, name=st.text(), box_xyxy=st.tuples(edges, edges, edges, edges))
objects = st.builds(
    ObjectMetadata,
    label=st.integers(0, 999),
    box_xyxy=st.tuples(edges, edges, edges, edges),
    difficult=st.booleans(),
    truncated=st.booleans(),
    crowd=st.booleans(),
    mask=masks,
    keypoints=st.none()
    | st.lists(st.tuples(edges, edges, st.integers(0, 2)), max_size=3).map(tuple),
    parts=st.none() | st.lists(parts, max_size=2).map(tuple),
    actions=st.none() | st.dictionaries(st.text(), st.booleans(), max_size=2),
)


@SETTINGS
@given(
    metadata=st.builds(
        SampleMetadata,
        width=st.integers(1, 9999),
        height=st.integers(1, 9999),
        original_name=st.text(),
        label=st.none() | st.integers(0, 999),
        objects=st.lists(objects, max_size=4).map(tuple),
    )
)
def test_metadata_comes_back_from_its_json(metadata):
    assert decode_metadata(encode_metadata(metadata)) == metadata


def test_the_json_is_canonical_and_flat():
    one = ObjectMetadata(label=7, box_xyxy=(1.0, 2.0, 3.0, 4.5), truncated=True)
    metadata = SampleMetadata(width=6, height=4, original_name="a.jpg", objects=(one,))

    assert encode_metadata(metadata) == (
        b'{"box_labels":[7],"boxes":[[1.0,2.0,3.0,4.5]],"crowd":[false],"difficult":[false],'
        b'"height":4,"label":null,"original_name":"a.jpg","truncated":[true],"width":6}'
    )


@pytest.mark.parametrize("key", ["a", "train-000001", "n01440764/n01440764_10026", "A_b-9/C"])
def test_plain_keys_are_taken(key):
    assert Sample(key=key, image=b"", extension="jpg", metadata=METADATA).key == key


@pytest.mark.parametrize("key", ["", "a.b", "a b", "é", "/a", "a/", "a//b", "../a", "a\n"])
def test_keys_that_webdataset_would_split_or_merge_are_refused(key):
    with pytest.raises(InputError, match="sample key"):
        Sample(key=key, image=b"", extension="jpg", metadata=METADATA)


@pytest.mark.parametrize("extension", ["", ".jpg", "JPG", "tar.gz", "json"])
def test_extensions_that_would_hide_the_image_are_refused(extension):
    with pytest.raises(InputError, match="extension"):
        Sample(key="a", image=b"", extension=extension, metadata=METADATA)
