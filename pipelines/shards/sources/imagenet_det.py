"""What is in ILSVRC DET? All objects of 200 classes in every image that has an XML file.

Data/DET/train/ILSVRC2013_train/n02672831/n02672831_11478.JPEG
Data/DET/train/ILSVRC2014_train_0000/ILSVRC2014_train_00000001.JPEG
Data/DET/val/ILSVRC2012_val_00000001.JPEG
Annotations/DET/...xml alike; devkit/data/map_det.txt
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath

from pipelines import storage
from pipelines.errors import InputError
from pipelines.shards.config import ShardsConfig
from pipelines.shards.keys import make_keys
from pipelines.shards.records import Annotation, Listing, Record
from pipelines.shards.rejects import AnnotationError, AnnotationReason
from pipelines.shards.sources.imagenet_classes import read_det_classes
from pipelines.shards.sources.layout import find_folder, list_images, open_input, require_folder
from pipelines.shards.sources.voc_xml import parse_voc_xml

_SPLITS = ("train", "val")


def list_records(config: ShardsConfig) -> Listing:
    """List the images of `train` or `val`; `test` has no annotations.

    Args:
        config: Where they are.

    Returns:
        Records with their XML beside them. The extra training images, which have none, are listed
        too, and will be rejected as unlabelled.

    Raises:
        InputError: The split or a part of the data set is missing.
    """
    root = open_input(config.input)
    if config.split not in _SPLITS:
        raise InputError(f"--split: received {config.split!r}, expected one of train, val")
    classes, ids = read_det_classes(root)
    images = list(list_images(require_folder(root, _place("Data", config.split))))
    annotations = _list_annotations(root, config.split)
    keys = make_keys([name for name, _ in images])
    return Listing(
        classes=classes,
        class_ids=ids,
        records=[
            Record(
                key=key, name=name, image=info, beside=annotations.get(_without_suffix(name), ())
            )
            for key, (name, info) in zip(keys, images, strict=True)
        ],
    )


def read_annotation(
    _record: Record, files: Sequence[bytes], labels: Mapping[str, int]
) -> Annotation:
    """Read the objects of one image.

    Args:
        files: Its XML, if it has one.
        labels: Label of each WordNet id.

    Returns:
        The objects; none in an image that was searched in vain.

    Raises:
        AnnotationError: It has no XML, or a wrong one.
    """
    if not files:
        raise AnnotationError(AnnotationReason.UNLABELLED, "it has no XML file")
    return parse_voc_xml(files[0], labels, first_pixel=0)


def _place(what: str, split: str) -> tuple[str, ...]:
    return f"{what}/DET/{split}", f"ILSVRC/{what}/DET/{split}"


def _list_annotations(root: str, split: str) -> dict[str, tuple[str, ...]]:
    folder = find_folder(root, _place("Annotations", split))
    if folder is None:
        raise InputError(f"--input {root}: no folder Annotations/DET/{split}/ there; unpack it too")
    uris = (info.uri for info in storage.iter_objects(folder))
    return {_without_suffix(storage.relative_to(uri, folder)): (uri,) for uri in uris}


def _without_suffix(name: str) -> str:
    return str(PurePosixPath(name).with_suffix(""))
