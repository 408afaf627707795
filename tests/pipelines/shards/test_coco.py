from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from pipelines.errors import InputError
from pipelines.shards.masks import encode_mask
from pipelines.shards.sources.coco_objects import (
    convert_box,
    convert_keypoints,
    parse_object,
    read_counts,
)
from tests.pipelines.shards.coco import read_mask
from tests.pipelines.shards.packed import read
from tests.pipelines.shards.pictures import make_jpeg, write

SETTINGS = settings(max_examples=50, deadline=None, derandomize=True)
CATEGORIES = [
    {"supercategory": "vehicle", "id": 2, "name": "bicycle"},
    {"supercategory": "person", "id": 1, "name": "person"},
    {"supercategory": "appliance", "id": 90, "name": "toothbrush"},
]
NAMES = ["nose", "left_eye"]
SQUARE = [[10.0, 5.0, 20.0, 5.0, 20.0, 15.0, 10.0, 15.0]]
CROWD = {"counts": [2000 - 80, 80], "size": [40, 50]}


def describe(number, *, size=(50, 40)):
    return {
        "license": 3,
        "file_name": f"{number:012d}.jpg",
        "coco_url": f"http://images.cocodataset.org/train2017/{number:012d}.jpg",
        "height": size[1],
        "width": size[0],
        "date_captured": "2013-11-14 11:18:45",
        "flickr_url": "http://farm9.staticflickr.com/8186/8119368305_4e622c8349_z.jpg",
        "id": number,
    }


def annotate(number, image, category, bbox, segmentation, iscrowd=0):
    return {
        "segmentation": segmentation,
        "area": 100.0,
        "iscrowd": iscrowd,
        "image_id": image,
        "bbox": bbox,
        "category_id": category,
        "id": number,
    }


def build_coco(root, annotations=None):
    """Three images, one without objects; annotations of one are in both files."""
    person = annotate(900, 9, 1, [10.0, 5.0, 10.0, 10.0], SQUARE)
    if annotations is None:
        crowd = annotate(901, 9, 2, [48.0, 0.5, 2.0, 39.5], CROWD, iscrowd=1)
        annotations = [person, crowd, annotate(902, 25, 90, [0.0, 0.0, 50.0, 40.0], [])]
    images = [describe(25), describe(9), describe(30)]
    content = {"info": {}, "licenses": [], "images": images, "annotations": annotations}
    folder = root / "annotations"
    write(folder / "instances_train2017.json", json.dumps({**content, "categories": CATEGORIES}))
    category = {"id": 1, "name": "person", "keypoints": NAMES, "skeleton": [[1, 2]]}
    persons = [{**person, "num_keypoints": 1, "keypoints": [12, 7, 2, 0, 0, 0]}]
    content = {**content, "annotations": persons, "categories": [category]}
    write(folder / "person_keypoints_train2017.json", json.dumps(content))
    for number in (9, 25, 30):
        write(root / "train2017" / f"{number:012d}.jpg", make_jpeg(seed=number))
    return root


def read_here(data, split="train2017", **settings):
    return read("coco", data, split=split, **settings)


def encode(segmentation):
    values = {"category_id": 1, "bbox": [0, 0, 1, 1], "segmentation": segmentation}
    return parse_object(values, {"1": 0}, width=50, height=40).mask


def test_boxes_become_corners_and_categories_labels_by_their_numbers(tmp_path):
    done = read_here(build_coco(tmp_path / "in"))

    person, crowd = done.found["000000000009"].objects
    assert (person.label, person.box_xyxy, person.crowd) == (0, (10, 5, 20, 15), False)
    assert (crowd.label, crowd.box_xyxy, crowd.crowd) == (1, (48, 0.5, 50, 40), True)
    assert done.found["000000000025"].objects[0].label == 2
    assert done.listing.classes == ("person", "bicycle", "toothbrush")
    assert done.listing.class_ids == ("1", "2", "90")


def test_an_image_without_objects_is_a_sample(tmp_path):
    assert read_here(build_coco(tmp_path / "in")).found["000000000030"].objects == ()


def test_polygons_and_run_lengths_become_compressed_run_lengths(tmp_path):
    person, crowd = read_here(build_coco(tmp_path / "in")).found["000000000009"].objects

    square = np.zeros((40, 50), np.bool_)
    square[5:15, 10:20] = True
    columns = np.zeros((40, 50), np.bool_)
    columns[:, 48:] = True
    assert (read_mask(person.mask) == square).all()
    assert (read_mask(crowd.mask) == columns).all()


def test_keypoints_come_from_the_other_file_and_are_named(tmp_path):
    done = read_here(build_coco(tmp_path / "in"))

    person, crowd = done.found["000000000009"].objects
    assert person.keypoints == ((12.5, 7.5, 2), (0, 0, 0))
    assert crowd.keypoints is None
    assert done.listing.keypoints == tuple(NAMES)


def test_files_that_the_json_does_not_name_and_those_that_are_missing_are_rejected(tmp_path):
    data = build_coco(tmp_path / "in")
    write(data / "train2017/stranger.jpg", make_jpeg())
    (data / "train2017/000000000025.jpg").unlink()

    done = read_here(data)

    assert set(done.found) == {"000000000009", "000000000030"}
    assert done.rejects == {
        "000000000025.jpg": "not_found",
        "stranger.jpg": "unlabelled",
    }


@pytest.mark.parametrize(
    "changes",
    [
        {"category_id": 3},
        {"bbox": [0, 0, 0, 5]},
        {"bbox": [0, 0, 5]},
        {"bbox": [float("nan"), 0, 5, 5]},
        {"bbox": [60, 0, 5, 5]},
        {"segmentation": [[1, 2, 3, 4]]},
        {"segmentation": [[1, 2, 3, 4, 5]]},
        {"segmentation": [[0, 0, 1e9, 0, 1e9, 1e9]]},
        {"segmentation": {"counts": [1, 2], "size": [40, 50]}},
        {"segmentation": {"counts": [-1, 2001], "size": [40, 50]}},
        {"segmentation": {"counts": [2000], "size": [50, 40]}},
        {"segmentation": {"counts": "abc", "size": [40, 50]}},
        {"segmentation": 7},
        {"keypoints": [1, 2]},
    ],
)
def test_an_annotation_that_cannot_be_is_rejected(changes, tmp_path):
    wrong = {**annotate(1, 25, 1, [1, 1, 5, 5], SQUARE), **changes}

    done = read_here(build_coco(tmp_path / "in", [wrong]))

    assert len(done.found) == 2
    assert done.rejects == {"000000000025.jpg": "bad_annotation"}


def test_an_unknown_split_names_the_known_ones(tmp_path):
    with pytest.raises(InputError, match="expected one of: train2017"):
        read_here(build_coco(tmp_path / "in"), "val2017")


@pytest.mark.parametrize("size", [(60, 40), (0, 40), (10**9, 10**9), (40, 50)])
def test_an_image_of_another_size_than_the_json_says_is_rejected(size, tmp_path):
    data = build_coco(tmp_path / "in")
    uri = data / "annotations/instances_train2017.json"
    content = json.loads(uri.read_text())
    content["images"][1] = describe(9, size=size)
    uri.write_text(json.dumps(content))

    assert read_here(data).rejects == {"000000000009.jpg": "bad_annotation"}


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"images": 1}'])
def test_a_json_of_something_else_is_refused(text, tmp_path):
    data = build_coco(tmp_path / "in")
    write(data / "annotations/instances_train2017.json", text)

    with pytest.raises(InputError, match=r"instances_train2017\.json: "):
        read_here(data)


def test_a_file_named_twice_is_refused(tmp_path):
    data = build_coco(tmp_path / "in")
    uri = data / "annotations/instances_train2017.json"
    content = json.loads(uri.read_text())
    content["images"].append({**describe(9), "id": 31})
    uri.write_text(json.dumps(content))

    with pytest.raises(InputError, match="stands 2 times"):
        read_here(data)


@SETTINGS
@given(st.lists(st.integers(0, 640), min_size=4, max_size=4))
def test_a_converted_box_begins_where_it_did_and_keeps_its_size(bbox):
    x, y, width, height = bbox

    assert convert_box(bbox) == (x, y, x + width, y + height)


def test_a_keypoint_is_the_middle_of_its_pixel():
    assert convert_keypoints([0, 0, 1, 3, 4, 2, 5, 6, 0]) == (
        (0.5, 0.5, 1),
        (3.5, 4.5, 2),
        (0, 0, 0),
    )


@SETTINGS
@given(arrays(np.bool_, st.tuples(st.integers(1, 40), st.integers(1, 50))))
def test_compressed_run_lengths_are_read_as_cocos_tools_read_them(mask):
    counts = read_counts(encode_mask(mask)["counts"])

    runs = np.repeat(np.arange(len(counts)) % 2 == 1, counts)
    assert (runs.reshape(mask.shape, order="F") == mask).all()


@SETTINGS
@given(arrays(np.bool_, (40, 50)))
def test_compressed_masks_come_through_as_they_are(mask):
    encoded = encode_mask(mask)

    assert encode(encoded) == encoded


@pytest.mark.parametrize("text", ["\x00", "o", "P" * 40, "é"])
def test_a_text_that_is_no_run_lengths_is_refused(text):
    with pytest.raises(ValueError, match="a mask"):
        read_counts(text)
