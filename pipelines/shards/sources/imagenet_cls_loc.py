"""What is in ILSVRC CLS-LOC? One class an image, and boxes for some of them.

Data/CLS-LOC/train/n01440764/n01440764_10026.JPEG    or ILSVRC2012_img_train/, train/
Data/CLS-LOC/val/ILSVRC2012_val_00000001.JPEG        or ILSVRC2012_img_val/, val/
Annotations/CLS-LOC/...xml                           or ILSVRC2012_bbox_train_v2/, ..._val_v3/
ILSVRC2012_validation_ground_truth.txt               or LOC_val_solution.csv
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Final

from overfeat.import_weights import read_imagenet_classes
from pipelines import storage
from pipelines.errors import InputError
from pipelines.shards.config import ShardsConfig
from pipelines.shards.keys import make_keys
from pipelines.shards.records import Annotation, Listing, Record
from pipelines.shards.rejects import AnnotationError, AnnotationReason
from pipelines.shards.sources.imagenet_classes import find_cls_loc_ids, place_in_devkit
from pipelines.shards.sources.layout import (
    find_file,
    find_folder,
    list_images,
    open_input,
    read_lines,
    require_folder,
)
from pipelines.shards.sources.voc_xml import parse_voc_xml

_IMAGES: Final = {
    "train": (
        "Data/CLS-LOC/train",
        "ILSVRC/Data/CLS-LOC/train",
        "ILSVRC2012_img_train",
        "train",
    ),
    "val": ("Data/CLS-LOC/val", "ILSVRC/Data/CLS-LOC/val", "ILSVRC2012_img_val", "val"),
}
_ANNOTATIONS: Final = {
    "train": (
        "Annotations/CLS-LOC/train",
        "ILSVRC/Annotations/CLS-LOC/train",
        "ILSVRC2012_bbox_train_v2",
    ),
    "val": (
        "Annotations/CLS-LOC/val",
        "ILSVRC/Annotations/CLS-LOC/val",
        "ILSVRC2012_bbox_val_v3",
    ),
}
_TRUTHS: Final = (
    *place_in_devkit("ILSVRC2012_validation_ground_truth.txt"),
    "ILSVRC2012_devkit_t12/data/ILSVRC2012_validation_ground_truth.txt",
    *place_in_devkit("ILSVRC2014_clsloc_validation_ground_truth.txt"),
    *place_in_devkit("ILSVRC2015_clsloc_validation_ground_truth.txt"),
)
"""A line an image, in the order of their numbers: the class, 1 to 1000."""
_SOLUTIONS: Final = ("LOC_val_solution.csv", "../LOC_val_solution.csv")


def list_records(config: ShardsConfig) -> Listing:
    """List the images of `train` or `val`; `test` has no labels.

    Args:
        config: Where they are.

    Returns:
        Records whose label is known from their folder or the ground truth.

    Raises:
        InputError: The split or a part of the data set is missing.
    """
    root = open_input(config.input)
    if config.split not in _IMAGES:
        raise InputError(f"--split: received {config.split!r}, expected one of train, val")
    images = list(list_images(require_folder(root, _IMAGES[config.split])))
    names = [name for name, _ in images]
    ids = find_cls_loc_ids(root, _list_train_folders(root, config.split, names))
    labels = {wnid: label for label, wnid in enumerate(ids)}
    if config.split == "train":
        known = [labels.get(name.split("/")[0]) for name in names]
    else:
        truth = _read_truth(root, labels)
        known = [truth.get(PurePosixPath(name).stem) for name in names]
    boxes = _list_annotations(root, config.split)
    return Listing(
        classes=read_imagenet_classes(),
        class_ids=ids,
        records=[
            Record(key=key, name=name, image=info, label=label, beside=boxes.get(_stem(name), ()))
            for key, (name, info), label in zip(make_keys(names), images, known, strict=True)
        ],
    )


def read_annotation(
    record: Record, files: Sequence[bytes], labels: Mapping[str, int]
) -> Annotation:
    """Read what is known about one image.

    Args:
        record: Of the image.
        files: Its XML, if it has one.
        labels: Label of each WordNet id.

    Returns:
        The label, and the boxes of its objects if they were drawn.

    Raises:
        AnnotationError: It has no label, or its XML is wrong.
    """
    boxes = parse_voc_xml(files[0], labels, first_pixel=0) if files else Annotation()
    # Without a list of validation labels the boxes tell: they are all of the image's class.
    label = next(iter(one.label for one in boxes.objects), None)
    label = label if record.label is None else record.label
    if label is None:
        raise AnnotationError(
            AnnotationReason.UNLABELLED, "in no folder of a class, nor in the ground truth"
        )
    return Annotation(size=boxes.size, label=label, objects=boxes.objects)


def _list_train_folders(root: str, split: str, names: Iterable[str]) -> Iterable[str]:
    """Name the folders of the training images, lazily: to list them all may take minutes."""
    if split != "train":
        folder = find_folder(root, _IMAGES["train"])
        names = (name for name, _ in list_images(folder)) if folder else ()
    return (name.split("/")[0] for name in names if "/" in name)


def _list_annotations(root: str, split: str) -> dict[str, tuple[str, ...]]:
    """Find the XML files by the name of their image, however deep they lie."""
    folder = find_folder(root, _ANNOTATIONS[split])
    if folder is None:
        return {}
    uris = (info.uri for info in storage.iter_objects(folder))
    return {_stem(uri): (uri,) for uri in uris if uri.endswith(".xml")}


# Reads the labels of the validation images by their names; empty without a list of them.
def _read_truth(root: str, labels: Mapping[str, int]) -> dict[str, int]:
    if uri := find_file(root, _TRUTHS):
        try:
            numbers = [int(line) for line in read_lines(uri)]
        except ValueError as error:
            raise InputError(f"{uri}: expected a number of a class a line ({error})") from error
        return {f"ILSVRC2012_val_{at:08d}": number - 1 for at, number in enumerate(numbers, 1)}
    if uri := find_file(root, _SOLUTIONS):
        rows = [line.replace(",", " ").split() for line in read_lines(uri)[1:]]
        return {row[0]: labels[row[1]] for row in rows if row[1:] and row[1] in labels}
    return {}


def _stem(name: str) -> str:
    return PurePosixPath(name).stem
