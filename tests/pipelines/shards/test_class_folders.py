from __future__ import annotations

import pytest

from pipelines.errors import InputError
from tests.pipelines.shards.packed import read
from tests.pipelines.shards.pictures import make_jpeg, make_png, write


def build_folders(root):
    for seed, name in enumerate(["dog/1.jpg", "cat/b/2.jpg", "cat/1.PNG", "cat/notes.txt"]):
        write(root / name, make_png(seed=seed) if name.endswith("PNG") else make_jpeg(seed=seed))
    return root


def read_labels(done):
    return {key: one.label for key, one in done.found.items()}


def read_here(data, split="train", **settings):
    return read("class-folders", data, split=split, **settings)


def test_labels_are_the_folders_in_the_order_of_their_names(tmp_path):
    done = read_here(build_folders(tmp_path / "in"))

    assert read_labels(done) == {"cat/b/2": 0, "cat/1": 0, "dog/1": 1}
    assert done.listing.classes == done.listing.class_ids == ("cat", "dog")


def test_a_folder_of_the_splits_name_is_taken_if_it_holds_folders(tmp_path):
    build_folders(tmp_path / "in" / "train")
    write(tmp_path / "in" / "val" / "horse" / "1.jpg", make_jpeg())

    train, val = read_here(tmp_path / "in"), read_here(tmp_path / "in", "val")

    assert read_labels(train) == {"cat/b/2": 0, "cat/1": 0, "dog/1": 1}
    assert read_labels(val) == {"horse/1": 2}
    assert train.listing.classes == val.listing.classes == ("cat", "dog", "horse")


def test_a_class_may_have_the_name_of_the_split(tmp_path):
    write(tmp_path / "in" / "train" / "1.jpg", make_jpeg())
    write(tmp_path / "in" / "bus" / "1.jpg", make_jpeg())

    assert read_labels(read_here(tmp_path / "in")) == {"bus/1": 0, "train/1": 1}


def test_names_that_differ_in_their_suffix_alone_become_two_samples(tmp_path):
    write(tmp_path / "in" / "cat" / "1.jpg", make_jpeg())
    write(tmp_path / "in" / "cat" / "1.png", make_png())

    assert set(read_here(tmp_path / "in").found) == {"cat/1--2ejpg", "cat/1--2epng"}


def test_an_image_in_no_folder_is_rejected(tmp_path):
    write(build_folders(tmp_path / "in") / "loose.jpg", make_jpeg())

    done = read_here(tmp_path / "in")

    assert len(done.found) == 3
    assert done.rejects == {"loose.jpg": "unlabelled"}


def test_an_unknown_split_names_the_folders_that_are_there(tmp_path):
    build_folders(tmp_path / "in" / "train")

    with pytest.raises(InputError, match=r"no folder trian .* found: train"):
        read_here(tmp_path / "in", "trian")


def test_a_flat_folder_of_images_says_which_form_is_expected(tmp_path):
    write(tmp_path / "in" / "1.jpg", make_jpeg())

    with pytest.raises(InputError) as error:
        read_here(tmp_path / "in")

    said = str(error.value)
    assert said.startswith(f"--input {tmp_path}/in: received 1 image and no folder of a class")
    assert f"expected {tmp_path}/in/CLASS/image.jpg; put the images of each class" in said


@pytest.mark.parametrize("made", [True, False])
def test_a_missing_or_empty_folder_is_refused(made, tmp_path):
    if made:
        (tmp_path / "in").mkdir()

    with pytest.raises(InputError, match=str(tmp_path / "in")):
        read_here(tmp_path / "in")


def test_a_part_of_the_images_is_held_out_by_their_names(tmp_path):
    root = tmp_path / "in"
    for number in range(40):
        write(root / "cat" / f"{number}.jpg", make_jpeg())
    train, held_out = (
        set(read_here(root, split, held_out=0.3).found) for split in ("train", "validation")
    )
    assert not train & held_out
    assert len(train | held_out) == 40
    assert 5 <= len(held_out) <= 20

    for number in range(40, 60):
        write(root / "cat" / f"{number}.jpg", make_jpeg())
    assert held_out <= set(read_here(root, "validation", held_out=0.3).found)
    assert train <= set(read_here(root, held_out=0.3).found)


def test_folders_of_splits_are_not_split_once_more(tmp_path):
    build_folders(tmp_path / "in" / "train")
    assert len(read_here(tmp_path / "in", held_out=0.9).found) == 3
