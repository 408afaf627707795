"""Folders in the exact layout of the ImageNet challenges."""

from __future__ import annotations

import itertools

from overfeat.import_weights import read_imagenet_classes
from tests.pipelines.shards.pictures import make_cmyk_jpeg, make_jpeg, make_png, write
from tests.pipelines.shards.voc_files import write_bare_object, write_object, write_xml

TENCH, KIT_FOX, SHEEPDOG, VINE_SNAKE = "n01440764", "n02119789", "n02105855", "n01739381"

_KNOWN = {0: 1440764, 59: 1739381, 212: 2100735, 230: 2105855, 278: 2119789, 999: 15075141}
"""Place in the order of WordNet ids -> id; the test makes up those between."""


def make_sorted_ids():
    ids = []
    places = sorted(_KNOWN)
    for start, end in itertools.pairwise(places):
        step = (_KNOWN[end] - _KNOWN[start]) // (end - start)
        ids += [_KNOWN[start] + step * (at - start) for at in range(start, end)]
    return [f"n{number:08d}" for number in [*ids, _KNOWN[999]]]


def order_ids():
    """The ids in the order of the shipped labels."""
    places = {}
    # "crane" is there twice, in both orders the bird first.
    for wnid, name in zip(make_sorted_ids(), read_imagenet_classes("sorted-wnid"), strict=True):
        places.setdefault(name, []).append(wnid)
    return [places[name].pop(0) for name in read_imagenet_classes()]


def label_of(wnid):
    return order_ids().index(wnid)


def build_cls_loc(root):
    """As on Kaggle: the folder ILSVRC beside two lists of classes and labels."""
    names = read_imagenet_classes("sorted-wnid")
    rows = zip(make_sorted_ids(), names, strict=True)
    write(root / "LOC_synset_mapping.txt", "".join(f"{wnid} {name}\n" for wnid, name in rows))
    train = root / "ILSVRC/Data/CLS-LOC/train"
    write(train / f"{TENCH}/{TENCH}_10026.JPEG", make_jpeg(seed=1))
    write(train / f"{KIT_FOX}/{KIT_FOX}_1.JPEG", make_jpeg(seed=2))
    # The one PNG and one of the CMYK files of the real set, under their real names.
    write(train / f"{SHEEPDOG}/{SHEEPDOG}_2933.JPEG", make_png(seed=3))
    write(train / f"{VINE_SNAKE}/{VINE_SNAKE}_1309.JPEG", make_cmyk_jpeg(seed=4))
    boxes = root / "ILSVRC/Annotations/CLS-LOC"
    fish = [write_object(TENCH, (13, 22, 45, 39)), write_object(TENCH, (1, 1, 50, 40))]
    xml = write_xml(f"{TENCH}_10026", fish, folder=TENCH)
    write(boxes / f"train/{TENCH}/{TENCH}_10026.xml", xml)
    for number, wnid in enumerate([KIT_FOX, TENCH, KIT_FOX], start=1):
        name = f"ILSVRC2012_val_{number:08d}"
        write(root / f"ILSVRC/Data/CLS-LOC/val/{name}.JPEG", make_jpeg(seed=10 + number))
        xml = write_xml(name, [write_object(wnid, (2, 3, 4, 5))], folder="val")
        write(boxes / f"val/{name}.xml", xml)
    return root


def write_map_clsloc(path):
    lines = [
        f"{wnid} {number} {name.split(',')[0].replace(' ', '_')}\n"
        for number, (wnid, name) in enumerate(
            zip(order_ids(), read_imagenet_classes(), strict=True), start=1
        )
    ]
    write(path, "".join(lines))


def build_det(root):
    """ILSVRC with both years' training folders, an extra one, and the development kit."""
    lines = [f"n{2672000 + number:08d} {number} thing_{number}\n" for number in range(1, 201)]
    lines[0] = "n02672831 1 accordion\n"
    lines[6] = "n02764044 7 baby_bed\n"
    write(root / "devkit/data/map_det.txt", "".join(lines))
    places = {
        "train/ILSVRC2013_train/n02672831/n02672831_11478": [
            write_bare_object("n02672831", (11, 6, 40, 30)),
            write_bare_object("n02764044", (45, 35, 60, 50)),
        ],
        "train/ILSVRC2014_train_0000/ILSVRC2014_train_00000001": [
            write_bare_object("n02764044", (0, 0, 49, 39)),
        ],
        "val/ILSVRC2012_val_00000001": [],
    }
    for seed, (name, objects) in enumerate(places.items()):
        write(root / f"Data/DET/{name}.JPEG", make_jpeg(seed=seed))
        xml = write_xml(name.rpartition("/")[2], objects, folder="ILSVRC2013_train")
        write(root / f"Annotations/DET/{name}.xml", xml)
    extra = "train/ILSVRC2013_train_extra0/ILSVRC2013_train_00000001"
    write(root / f"Data/DET/{extra}.JPEG", make_jpeg(seed=9))
    return root
