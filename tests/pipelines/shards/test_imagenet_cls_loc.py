from __future__ import annotations

import shutil

import pytest

from overfeat.import_weights import read_imagenet_classes
from pipelines.errors import InputError
from tests.pipelines.shards.imagenet_files import (
    KIT_FOX,
    SHEEPDOG,
    TENCH,
    VINE_SNAKE,
    build_cls_loc,
    label_of,
    make_sorted_ids,
    write_map_clsloc,
)
from tests.pipelines.shards.packed import pack, read, read_index, read_rejects
from tests.pipelines.shards.pictures import make_jpeg, write
from tests.pipelines.shards.voc_files import write_object, write_xml

VAL = "ILSVRC2012_val_0000000"


def read_here(data, split="train", **settings):
    return read("ilsvrc-cls-loc", data, split=split, **settings)


def test_training_labels_are_those_of_the_shipped_order(tmp_path):
    found = read_here(build_cls_loc(tmp_path / "in")).found

    assert found[f"{KIT_FOX}/{KIT_FOX}_1"].label == 0
    for wnid, name in ((TENCH, "tench, Tinca tinca"), (SHEEPDOG, "Shetland sheepdog")):
        (label,) = (one.label for key, one in found.items() if key.startswith(wnid))
        assert read_imagenet_classes()[label].startswith(name)


def test_each_class_has_its_wordnet_id(tmp_path):
    listing = read_here(build_cls_loc(tmp_path / "in")).listing

    assert listing.classes == read_imagenet_classes()
    assert listing.class_ids[0] == KIT_FOX
    assert listing.class_ids[label_of(TENCH)] == TENCH
    assert sorted(listing.class_ids) == make_sorted_ids()


def test_boxes_count_pixels_from_zero_and_include_the_last(tmp_path):
    found = read_here(build_cls_loc(tmp_path / "in")).found

    fish = found[f"{TENCH}/{TENCH}_10026"]
    assert [one.box_xyxy for one in fish.objects] == [(13, 22, 46, 40), (1, 1, 50, 40)]
    assert [one.label for one in fish.objects] == [fish.label, fish.label]
    assert fish.original_name == f"{TENCH}/{TENCH}_10026.JPEG"


def test_an_image_without_xml_has_a_label_and_no_boxes(tmp_path):
    fox = read_here(build_cls_loc(tmp_path / "in")).found[f"{KIT_FOX}/{KIT_FOX}_1"]

    assert (fox.label, fox.objects) == (0, ())


def test_png_and_cmyk_files_named_jpeg_keep_their_bytes_and_get_true_extensions(tmp_path):
    data = build_cls_loc(tmp_path / "in")
    samples = {sample.key: sample for sample in read_here(data).samples}

    train = data / "ILSVRC/Data/CLS-LOC/train"
    names = {f"{SHEEPDOG}/{SHEEPDOG}_2933": "png", f"{VINE_SNAKE}/{VINE_SNAKE}_1309": "jpg"}
    for name, extension in names.items():
        assert samples[name].extension == extension
        assert samples[name].image == (train / f"{name}.JPEG").read_bytes()


def test_validation_labels_come_from_the_list_of_the_development_kit(tmp_path):
    data = build_cls_loc(tmp_path / "in")
    shutil.rmtree(data / "ILSVRC/Annotations")
    kit = "ILSVRC2012_devkit_t12/data/ILSVRC2012_validation_ground_truth.txt"
    write(data / kit, "490\n361\n")

    done = read_here(data, "val")

    assert {key: one.label for key, one in done.found.items()} == {f"{VAL}1": 489, f"{VAL}2": 360}
    assert done.rejects == {f"{VAL}3.JPEG": "unlabelled"}


def test_validation_labels_come_from_the_solution_of_kaggle(tmp_path):
    data = build_cls_loc(tmp_path / "in")
    shutil.rmtree(data / "ILSVRC/Annotations")
    rows = [f"{VAL}2,{TENCH} 85 1 499 272 {TENCH} 1 2 3 4 \n", f"{VAL}1,{VINE_SNAKE} 1 2 3 4 \n"]
    write(data / "LOC_val_solution.csv", "ImageId,PredictionString\n" + "".join(rows))

    found = read_here(data, "val").found

    expected = {f"{VAL}1": label_of(VINE_SNAKE), f"{VAL}2": label_of(TENCH)}
    assert {key: one.label for key, one in found.items()} == expected


def test_without_a_list_the_boxes_tell_the_validation_labels(tmp_path):
    found = read_here(build_cls_loc(tmp_path / "in"), "val").found

    labels = {key: one.label for key, one in found.items()}
    assert labels == {f"{VAL}1": 0, f"{VAL}2": label_of(TENCH), f"{VAL}3": 0}
    assert found[f"{VAL}1"].objects[0].box_xyxy == (2, 3, 5, 6)


def test_both_lists_of_classes_tell_the_same(tmp_path):
    data = build_cls_loc(tmp_path / "in")
    before = read_here(data)
    (data / "LOC_synset_mapping.txt").unlink()
    write_map_clsloc(data / "ILSVRC/devkit/data/map_clsloc.txt")

    assert read_here(data).listing.class_ids == before.listing.class_ids


def test_the_list_of_classes_need_not_be_sorted(tmp_path):
    data = build_cls_loc(tmp_path / "in")
    before = read_here(data)
    synsets = data / "LOC_synset_mapping.txt"
    synsets.write_text("".join(reversed(synsets.read_text().splitlines(keepends=True))))

    assert read_here(data).listing.class_ids == before.listing.class_ids


def test_the_folder_inside_kaggles_will_do_too(tmp_path):
    data = build_cls_loc(tmp_path / "in")

    assert read_here(data / "ILSVRC").samples == read_here(data).samples


@pytest.fixture
def unpacked(tmp_path):
    """The five archives of 2012, each unpacked into one folder."""
    data = tmp_path / "in"
    train = data / "ILSVRC2012_img_train"
    for wnid in make_sorted_ids():
        (train / wnid).mkdir(parents=True)
        (train / wnid / f"{wnid}_1.JPEG").touch()
    write(train / f"{TENCH}/{TENCH}_2.JPEG", make_jpeg(seed=1))
    write(train / f"{TENCH}/{TENCH}_3.JPEG", make_jpeg(seed=2))
    fish = write_xml(f"{TENCH}_2", [write_object(TENCH, (13, 22, 45, 39))], folder=TENCH)
    write(data / f"ILSVRC2012_bbox_train_v2/{TENCH}/{TENCH}_2.xml", fish)
    for number in (1, 2):
        write(data / f"ILSVRC2012_img_val/{VAL}{number}.JPEG", make_jpeg(seed=10 + number))
    fox = write_xml(f"{VAL}1", [write_object(KIT_FOX, (2, 3, 4, 5))], folder="val")
    write(data / f"ILSVRC2012_bbox_val_v3/{VAL}1.xml", fox)
    kit = data / "ILSVRC2012_devkit_t12/data"
    write(kit / "ILSVRC2012_validation_ground_truth.txt", f"1\n{label_of(SHEEPDOG) + 1}\n")
    # Classes as a file of MATLAB, which nobody reads: the folders of the training images tell them.
    write(kit / "meta.mat", "MATLAB 5.0 MAT-file")
    return data


def tell_objects(found):
    return {
        key: (one.label, [(each.label, each.box_xyxy) for each in one.objects])
        for key, one in found.items()
    }


def test_the_archives_of_2012_give_training_images_boxes_and_labels(unpacked):
    fish = label_of(TENCH)
    assert tell_objects(read_here(unpacked).found) == {
        f"{TENCH}/{TENCH}_2": (fish, [(fish, (13, 22, 46, 40))]),
        f"{TENCH}/{TENCH}_3": (fish, []),
    }


def test_the_archives_of_2012_give_validation_images_boxes_and_labels(unpacked):
    done = read_here(unpacked, "val")
    assert tell_objects(done.found) == {
        f"{VAL}1": (0, [(0, (2, 3, 5, 6))]),
        f"{VAL}2": (label_of(SHEEPDOG), []),
    }
    assert not done.rejects


FISH = f"{TENCH}/{TENCH}_10026"


def write_fish(data, *objects):
    """Annotate the tench anew; the picture has 50 x 40 pixels."""
    xml = write_xml(f"{TENCH}_10026", objects, folder=TENCH) if objects else "no XML"
    write(data / f"ILSVRC/Annotations/CLS-LOC/train/{FISH}.xml", xml)


def test_corners_in_the_wrong_order_are_put_right(tmp_path):
    data, label = build_cls_loc(tmp_path / "in"), label_of(TENCH)
    write_fish(data, write_object(TENCH, (45, 39, 13, 22)))

    assert tell_objects(read_here(data).found)[FISH] == (label, [(label, (13, 22, 46, 40))])


@pytest.mark.parametrize(
    "objects",
    [
        [write_object(TENCH, (1, 1, 9, 9)), write_object(TENCH, (60, 1, 70, 9))],
        [write_object("n00000001", (1, 1, 9, 9))],
        [],
    ],
    ids=["a box outside the image", "a class that is none", "no XML"],
)
def test_an_image_with_bad_boxes_keeps_its_class_and_has_no_box(objects, tmp_path):
    data = build_cls_loc(tmp_path / "in")
    write_fish(data, *objects)

    done = read_here(data)

    assert tell_objects(done.found)[FISH] == (label_of(TENCH), [])
    assert done.rejects == {f"{FISH}.JPEG": "bad_boxes"}


def test_an_image_that_is_kept_without_its_boxes_counts_as_a_sample_and_is_listed(tmp_path):
    data = build_cls_loc(tmp_path / "in")
    write_fish(data)

    report = pack("ilsvrc-cls-loc", data, tmp_path / "out")

    (shard,) = read_index(tmp_path / "out")["shards"]
    assert (report.samples, report.reasons) == (4, {"bad_boxes": 1})
    assert (shard["samples"], shard["objects"]) == (4, 0)
    assert read_rejects(tmp_path / "out") == {f"{FISH}.JPEG": "bad_boxes"}


def test_an_image_in_no_folder_of_a_class_is_rejected(tmp_path):
    data = build_cls_loc(tmp_path / "in")
    train = data / "ILSVRC/Data/CLS-LOC/train"
    write(train / "n00000001/n00000001_1.JPEG", make_jpeg())
    write(train / "loose.JPEG", make_jpeg())

    done = read_here(data)

    assert len(done.found) == 4
    assert done.rejects == {
        "loose.JPEG": "unlabelled",
        "n00000001/n00000001_1.JPEG": "unlabelled",
    }


def test_without_any_list_of_classes_nothing_is_started(tmp_path):
    data = build_cls_loc(tmp_path / "in")
    (data / "LOC_synset_mapping.txt").unlink()

    with pytest.raises(InputError, match=r"4 WordNet ids, expected 1000; put map_clsloc\.txt"):
        read_here(data)


@pytest.mark.parametrize("split", ["test", "training"])
def test_an_unknown_split_is_refused(split, tmp_path):
    with pytest.raises(InputError, match="expected one of train, val"):
        read_here(build_cls_loc(tmp_path / "in"), split)
