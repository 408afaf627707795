from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.errors import InputError
from pipelines.shards.sources.voc import CLASSES
from pipelines.shards.sources.voc_xml import convert_box
from tests.pipelines.shards.coco import read_mask
from tests.pipelines.shards.packed import read
from tests.pipelines.shards.pictures import make_jpeg, make_palette_png, write
from tests.pipelines.shards.voc_files import (
    build_voc2007,
    build_voc2012,
    make_object_numbers,
    write_object,
    write_xml,
)


def read_here(data, split="train", **settings):
    return read("voc", data, split=split, **settings)


def replace_xml(tmp_path, text):
    """Read VOC 2007 with another annotation of image 000005."""
    year = build_voc2007(tmp_path / "in")
    write(year / "Annotations/000005.xml", text)
    done = read_here(year)
    return done.found.get("000005"), done.rejects


def test_boxes_count_pixels_from_one_and_flags_are_kept(tmp_path):
    chairs = read_here(build_voc2007(tmp_path / "in")).found["000005"].objects

    assert [one.box_xyxy for one in chairs] == [(12, 21, 45, 40), (0, 0, 10, 10)]
    assert [CLASSES[one.label] for one in chairs] == ["chair", "chair"]
    assert [(one.difficult, one.truncated) for one in chairs] == [(False, False), (True, True)]


@settings(max_examples=50, deadline=None, derandomize=True)
@given(st.integers(0, 1), st.lists(st.integers(1, 500), min_size=4, max_size=4))
def test_a_converted_box_has_as_many_pixels_as_its_corners_include(first, numbers):
    left, top, width, height = numbers
    box = convert_box(left, top, left + width - 1, top + height - 1, first_pixel=first)

    assert (box[2] - box[0], box[3] - box[1]) == (width, height)
    assert box[:2] == (left - first, top - first)


def test_parts_of_a_person_are_kept(tmp_path):
    (person,) = read_here(build_voc2007(tmp_path / "in")).found["000012"].objects

    parts = {part.name: part.box_xyxy for part in person.parts}
    assert parts == {"head": (10, 10, 14, 15), "hand": (19, 19, 22, 22)}


def test_a_split_is_what_its_list_says(tmp_path):
    data = tmp_path / "in" / "VOCdevkit"
    build_voc2007(tmp_path / "in")

    done = read_here(data, "test")

    assert set(done.found) == {"000001"}
    assert done.listing.classes == done.listing.class_ids == CLASSES


def test_masks_belong_to_the_objects_in_their_order(tmp_path):
    planes = read_here(build_voc2012(tmp_path / "in")).found["2007_000032"].objects

    numbers = make_object_numbers()
    assert [None if one.mask is None else read_mask(one.mask).sum() for one in planes] == [
        150,
        None,
        99,
    ]
    assert (read_mask(planes[0].mask) == (numbers == 1)).all()
    assert (read_mask(planes[2].mask) == (numbers == 3)).all()


def test_actions_and_corners_between_pixels_are_kept(tmp_path):
    (jumper,) = read_here(build_voc2012(tmp_path / "in")).found["2010_006215"].objects

    assert jumper.actions == {"jumping": True, "reading": False}
    assert jumper.box_xyxy == (9.5, 4, 30.25, 40)


@pytest.mark.parametrize(
    ("image_set", "expected"), [("Segmentation", "2007_000032"), ("Action", "2010_006215")]
)
def test_other_lists_of_images_can_be_taken(image_set, expected, tmp_path):
    done = read_here(build_voc2012(tmp_path / "in"), image_set=image_set)

    assert list(done.found) == [expected]


def test_missing_files_are_rejected_with_a_reason(tmp_path):
    year = build_voc2007(tmp_path / "in")
    (year / "Annotations/000005.xml").unlink()
    (year / "JPEGImages/000012.jpg").unlink()
    write(year / "ImageSets/Main/train.txt", "000005\n000012\n000001\n")

    done = read_here(year)

    assert set(done.found) == {"000001"}
    assert done.rejects == {
        "000005.jpg": "unlabelled",
        "000012.jpg": "not_found",
    }


def test_damaged_images_are_rejected_with_a_reason(tmp_path):
    year = build_voc2007(tmp_path / "in")
    write(year / "JPEGImages/000005.jpg", make_jpeg()[:-300])
    write(year / "JPEGImages/000012.jpg", "<html>404</html>")
    write(year / "ImageSets/Main/train.txt", "000005\n000012\n000001\n")

    done = read_here(year)

    assert set(done.found) == {"000001"}
    assert done.rejects == {
        "000005.jpg": "truncated",
        "000012.jpg": "not_an_image",
    }


@pytest.mark.parametrize(
    "text",
    [
        "<annotation><object>",
        write_xml("000005.jpg", [write_object("unicorn", (1, 1, 2, 2))]),
        write_xml("000005.jpg", ["<object><name>dog</name></object>"]),
        write_xml("000005.jpg", [write_object("dog", (1, 1, "nan", 2))]),
        write_xml("000005.jpg", [write_object("dog", (60, 1, 70, 9))]),
        write_xml("000005.jpg", [], size=(400, 400)),
        '<?xml version="1.0" encoding="no-such"?><annotation/>',
    ],
)
def test_an_annotation_that_cannot_be_is_rejected(text, tmp_path):
    found, rejects = replace_xml(tmp_path, text)

    assert found is None
    assert rejects == {"000005.jpg": "bad_annotation"}


def test_a_box_that_sticks_out_is_cut_off(tmp_path):
    xml = write_xml("000005.jpg", [write_object("dog", (0, -5, 60, 9))])
    found, _ = replace_xml(tmp_path, xml)

    assert found.objects[0].box_xyxy == (0, 0, 50, 9)


def test_a_file_that_does_not_know_its_size_is_taken_at_its_boxes(tmp_path):
    xml = write_xml("000005.jpg", [write_object("dog", (1, 1, 5, 5))], size=(0, 0))
    found, _ = replace_xml(tmp_path, xml)

    assert found.objects[0].box_xyxy == (0, 0, 5, 5)


@pytest.mark.parametrize(
    "picture",
    [
        make_palette_png(np.full((40, 50), 4)),
        make_palette_png(np.ones((20, 50))),
        make_palette_png(np.ones((40, 50)))[:-40],
        make_jpeg(),
    ],
    ids=["a fourth object", "another size", "truncated", "no palette"],
)
def test_masks_that_do_not_fit_their_image_are_rejected(picture, tmp_path):
    year = build_voc2012(tmp_path / "in")
    write(year / "SegmentationObject/2007_000032.png", picture)

    done = read_here(year)

    assert set(done.found) == {"2010_006215"}
    assert done.rejects == {"2007_000032.jpg": "bad_annotation"}


@pytest.mark.parametrize("name", ["../000005", "/000005", "a/../000005"])
def test_a_list_that_leads_out_of_the_folder_is_refused(name, tmp_path):
    year = build_voc2007(tmp_path / "in")
    write(year / "ImageSets/Main/train.txt", f"{name}\n")

    with pytest.raises(InputError, match="expected names of images inside it"):
        read_here(year)


def test_two_years_in_one_folder_are_not_guessed_at(tmp_path):
    build_voc2007(tmp_path / "in")
    build_voc2012(tmp_path / "in")

    with pytest.raises(InputError, match="VOCdevkit/VOC2007 and VOCdevkit/VOC2012 there"):
        read_here(tmp_path / "in")


def test_an_unknown_split_names_the_known_ones(tmp_path):
    with pytest.raises(InputError, match=r"no trainn\.txt .*expected one of: test, train$"):
        read_here(build_voc2007(tmp_path / "in"), "trainn")


def test_a_folder_without_voc_in_it_is_refused(tmp_path):
    write(tmp_path / "in" / "a.jpg", make_jpeg())

    with pytest.raises(InputError, match="no ImageSets/"):
        read_here(tmp_path / "in")
