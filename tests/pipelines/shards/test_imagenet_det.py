from __future__ import annotations

import pytest

from pipelines.errors import InputError
from tests.pipelines.shards.imagenet_files import build_det
from tests.pipelines.shards.packed import read
from tests.pipelines.shards.pictures import write

OLD = "ILSVRC2013_train/n02672831/n02672831_11478"
NEW = "ILSVRC2014_train_0000/ILSVRC2014_train_00000001"


def read_here(data, split="train", **settings):
    return read("ilsvrc-det", data, split=split, **settings)


def test_boxes_have_the_labels_of_the_development_kit_and_are_cut_at_the_border(tmp_path):
    found = read_here(build_det(tmp_path / "in")).found

    boxes = {key: [(one.label, one.box_xyxy) for one in m.objects] for key, m in found.items()}
    assert boxes == {
        OLD: [(0, (11, 6, 41, 31)), (6, (45, 35, 50, 40))],
        NEW: [(6, (0, 0, 50, 40))],
    }


def test_the_classes_have_names_in_words_and_ids(tmp_path):
    listing = read_here(build_det(tmp_path / "in")).listing

    assert (listing.classes[0], listing.class_ids[0]) == ("accordion", "n02672831")
    assert (listing.classes[6], listing.class_ids[6]) == ("baby bed", "n02764044")
    assert len(listing.classes) == 200


def test_training_images_without_xml_are_rejected(tmp_path):
    done = read_here(build_det(tmp_path / "in"))

    name = "ILSVRC2013_train_extra0/ILSVRC2013_train_00000001.JPEG"
    assert done.rejects == {name: "unlabelled"}


def test_an_image_that_was_searched_in_vain_is_a_sample_without_objects(tmp_path):
    found = read_here(build_det(tmp_path / "in"), "val").found

    assert {key: one.objects for key, one in found.items()} == {"ILSVRC2012_val_00000001": ()}


def test_without_the_list_of_classes_nothing_is_started(tmp_path):
    data = build_det(tmp_path / "in")
    (data / "devkit/data/map_det.txt").unlink()

    with pytest.raises(InputError, match=r"no map_det\.txt there"):
        read_here(data)


@pytest.mark.parametrize("text", ["n02672831 1 accordion\n", "n02672831\n", "a b c\n"])
def test_a_list_that_is_not_of_the_200_classes_is_refused(text, tmp_path):
    data = build_det(tmp_path / "in")
    write(data / "devkit/data/map_det.txt", text)

    with pytest.raises(InputError, match=r"map_det\.txt: .*expected"):
        read_here(data)


def test_an_unknown_split_is_refused(tmp_path):
    with pytest.raises(InputError, match="expected one of train, val"):
        read_here(build_det(tmp_path / "in"), "test")
