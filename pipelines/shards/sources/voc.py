"""What is in PASCAL VOC 2007 and 2012? Objects of 20 classes; parts, actions and masks of some.

VOC2012/ImageSets/Main/train.txt            a name a line; also Segmentation, Action, Layout
VOC2012/JPEGImages/2007_000027.jpg
VOC2012/Annotations/2007_000027.xml
VOC2012/SegmentationObject/2007_000027.png  pixel = number of the object in the XML, 255 = void
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipelines import storage
from pipelines.errors import ImageError, InputError
from pipelines.images import ImageLimits, decode_image
from pipelines.shards.config import ShardsConfig
from pipelines.shards.keys import make_keys
from pipelines.shards.masks import encode_mask
from pipelines.shards.records import Annotation, Listing, Record
from pipelines.shards.rejects import AnnotationError, AnnotationReason
from pipelines.shards.sources.layout import (
    find_folder,
    list_images,
    locate,
    open_input,
    read_lines,
    require_folder,
)
from pipelines.shards.sources.voc_xml import parse_voc_xml

CLASSES: Final = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
    "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train",
    "tvmonitor",
)  # fmt: skip

_YEARS: Final = ("VOC2007", "VOC2008", "VOC2009", "VOC2010", "VOC2011", "VOC2012")
_VOID: Final = 255
"""Pixels along the borders of objects that belong to none."""


def list_records(config: ShardsConfig) -> Listing:
    """List the images of a split.

    Args:
        config: Which year's folder, and which list.

    Returns:
        Records with their XML, and the picture of their masks if there is one, beside them.

    Raises:
        InputError: The split or a part of the data set is missing.
    """
    root = _find_year(open_input(config.input))
    stems = _read_split(root, config)
    pictures = require_folder(root, ["JPEGImages"])
    images = dict(list_images(pictures))
    masked = storage.list_names(storage.join_uri(root, "SegmentationObject"))
    names = [f"{stem}.jpg" for stem in stems]
    return Listing(
        classes=CLASSES,
        class_ids=CLASSES,
        records=[
            Record(
                key=key,
                name=name,
                image=locate(pictures, name, images),
                beside=_find_beside(root, stem, masked),
            )
            for key, name, stem in zip(make_keys(names), names, stems, strict=True)
        ],
    )


def read_annotation(
    _record: Record, files: Sequence[bytes], labels: Mapping[str, int]
) -> Annotation:
    """Read the objects of one image.

    Args:
        files: Its XML, and the picture of its masks if there is one.
        labels: Label of each name of a class.

    Returns:
        The objects, with their masks.

    Raises:
        AnnotationError: One of the files is wrong, or they do not fit each other.
    """
    annotation = parse_voc_xml(files[0], labels, first_pixel=1)
    if len(files) == 1:
        return annotation
    numbers = _read_object_numbers(files[1])
    size = annotation.size or (numbers.shape[1], numbers.shape[0])
    found = set(np.unique(numbers).tolist()) - {0, _VOID}
    if numbers.shape != size[::-1] or any(one > len(annotation.objects) for one in found):
        raise AnnotationError(
            AnnotationReason.BAD_ANNOTATION,
            f"masks of {numbers.shape[1]} x {numbers.shape[0]} pixels for objects {sorted(found)}; "
            f"the XML has {len(annotation.objects)} in {size[0]} x {size[1]} pixels",
        )
    objects = tuple(
        replace(one, mask=encode_mask(numbers == at)) if at in found else one
        for at, one in enumerate(annotation.objects, start=1)
    )
    return replace(annotation, size=size, objects=objects)


# Finds the folder of one year: the input itself, or the only one in it.
def _find_year(root: str) -> str:
    if find_folder(root, ["ImageSets"]):
        return root
    places = [f"{prefix}{year}" for prefix in ("", "VOCdevkit/") for year in _YEARS]
    years = [place for place in places if find_folder(root, [f"{place}/ImageSets"])]
    if len(years) != 1:
        found = " and ".join(years) or "no ImageSets/, nor a folder such as VOC2012/"
        raise InputError(f"--input {root}: {found} there; expected the folder of one year")
    return storage.join_uri(root, years[0])


# Reads the names of a list; those of Action and Layout name an image once an object.
def _read_split(root: str, config: ShardsConfig) -> list[str]:
    folder = storage.join_uri(root, "ImageSets", config.image_set)
    lists = {name.removesuffix(".txt") for name in storage.list_names(folder)}
    if config.split not in lists:
        # Lists such as aeroplane_train are of one class.
        known = ", ".join(sorted(name for name in lists if "_" not in name)) or "none"
        raise InputError(f"--split: no {config.split}.txt in {folder}, expected one of: {known}")
    lines = read_lines(storage.join_uri(folder, f"{config.split}.txt"))
    return list(dict.fromkeys(line.split()[0] for line in lines))


def _find_beside(root: str, stem: str, masked: set[str]) -> tuple[str, ...]:
    xml = storage.join_uri(root, "Annotations", f"{stem}.xml")
    picture = f"{stem}.png"
    if picture not in masked:
        return (xml,)
    return xml, storage.join_uri(root, "SegmentationObject", picture)


# Reads the indices of a palette picture, (height, width).
def _read_object_numbers(data: bytes) -> NDArray[np.uint8]:
    try:
        # The one decoder knows damage and bombs, but gives colours, not indices.
        decode_image(data, ImageLimits())
    except ImageError as error:
        raise AnnotationError(AnnotationReason.BAD_ANNOTATION, f"masks: {error}") from error
    with Image.open(io.BytesIO(data)) as picture:
        if picture.mode not in {"P", "L"}:
            raise AnnotationError(
                AnnotationReason.BAD_ANNOTATION,
                f"masks: a picture of mode {picture.mode}, expected one with a palette",
            )
        return np.asarray(picture)
