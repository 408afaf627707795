"""What is in COCO? Objects of 80 classes with masks, crowds, and the keypoints of persons.

annotations/instances_train2017.json
annotations/person_keypoints_train2017.json    read too where it is there
train2017/000000000009.jpg                     or images/train2017/
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, Final

from pipelines import storage
from pipelines.errors import InputError
from pipelines.shards.config import ShardsConfig
from pipelines.shards.keys import make_keys
from pipelines.shards.records import Annotation, Listing, Record
from pipelines.shards.rejects import AnnotationError, AnnotationReason
from pipelines.shards.sources.coco_objects import parse_object
from pipelines.shards.sources.layout import list_images, locate, open_input, require_folder

_START: Final = "instances_"
_MOST_SIDE: Final = 2**16
"""Pixels; a JPEG cannot have more."""


def list_records(config: ShardsConfig) -> Listing:
    """List the images of a split; files that its JSON does not name will be rejected.

    The JSON is read whole: about 3 GB of memory for train2017 (assumed, as pycocotools takes).

    Args:
        config: Where they are.

    Returns:
        Records whose note holds their objects, in the order of the JSON.

    Raises:
        InputError: The split or a part of the data set is missing or wrong.
    """
    root = open_input(config.input)
    folder = storage.join_uri(root, "annotations")
    uri = storage.join_uri(folder, f"{_START}{config.split}.json")
    content = _read_json(uri)
    if content is None:
        names = storage.list_names(folder)
        found = sorted(name[len(_START) : -5] for name in names if name.startswith(_START))
        known = ", ".join(found) or "none"
        raise InputError(f"--split: no {uri}, expected one of: {known}")
    persons = _read_json(storage.join_uri(folder, f"person_keypoints_{config.split}.json"))
    pictures = require_folder(root, [config.split, f"images/{config.split}"])
    try:
        return _make_listing(content, persons or {}, pictures)
    except (KeyError, TypeError, AttributeError) as error:
        kind = type(error).__name__
        raise InputError(f"{uri}: not COCO's JSON of instances ({kind}: {error})") from error


def read_annotation(
    record: Record, _files: Sequence[bytes], labels: Mapping[str, int]
) -> Annotation:
    """Read the objects of one image.

    Args:
        record: With the note that `list_records` wrote.
        labels: Label of each number of a category, as text.

    Returns:
        The objects; none in an image that was searched in vain.

    Raises:
        AnnotationError: The JSON does not name the image, or says something that cannot be.
    """
    if record.note is None:
        raise AnnotationError(AnnotationReason.UNLABELLED, "the JSON of the split does not name it")
    note = json.loads(record.note)
    try:
        width, height = _read_size(note["size"])
        objects = tuple(
            parse_object(one, labels, width=width, height=height) for one in note["objects"]
        )
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        words = f"{type(error).__name__}: {error}"
        raise AnnotationError(AnnotationReason.BAD_ANNOTATION, words) from error
    return Annotation(size=(width, height), objects=objects)


# Bounds what a mask of a size that nothing has confirmed may cost.
def _read_size(size: Sequence[int]) -> tuple[int, int]:
    width, height = int(size[0]), int(size[1])
    if not (0 < width <= _MOST_SIDE and 0 < height <= _MOST_SIDE):
        raise ValueError(f"an image of {width} x {height} pixels")
    return width, height


def _make_listing(content: dict[str, Any], persons: dict[str, Any], pictures: str) -> Listing:
    categories = sorted(content["categories"], key=lambda category: int(category["id"]))
    objects = _group_objects(content["annotations"], persons.get("annotations", []))
    images = dict(list_images(pictures))
    named = [str(image["file_name"]) for image in content["images"]]
    known = set(named)
    strange = [name for name in images if name not in known]
    notes = [
        json.dumps({"size": [image["width"], image["height"]], "objects": objects[image["id"]]})
        for image in content["images"]
    ]
    names = [*named, *strange]
    return Listing(
        classes=tuple(str(category["name"]) for category in categories),
        class_ids=tuple(str(category["id"]) for category in categories),
        keypoints=_name_keypoints(persons),
        records=[
            Record(
                key=key,
                name=name,
                image=locate(pictures, name, images),
                note=note,
            )
            for key, name, note in zip(
                make_keys(names), names, [*notes, *(None for _ in strange)], strict=True
            )
        ],
    )


def _group_objects(
    annotations: Sequence[dict[str, Any]], persons: Sequence[dict[str, Any]]
) -> Mapping[int, list[dict[str, Any]]]:
    """Group objects by image; a person has the same number in both files."""
    keypoints = {person["id"]: person["keypoints"] for person in persons}
    kept = ("category_id", "bbox", "iscrowd", "segmentation")
    grouped: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for one in annotations:
        values = {name: one[name] for name in kept if name in one}
        if (points := keypoints.get(one["id"], one.get("keypoints"))) is not None:
            values["keypoints"] = points
        grouped[one["image_id"]].append(values)
    return grouped


def _name_keypoints(persons: Mapping[str, Any]) -> tuple[str, ...]:
    categories = persons.get("categories", [])
    return tuple(next((one["keypoints"] for one in categories if "keypoints" in one), ()))


def _read_json(uri: str) -> dict[str, Any] | None:
    try:
        content = json.loads(storage.read_bytes(uri))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise InputError(f"{uri}: is not JSON ({error})") from error
    if not isinstance(content, dict):
        raise InputError(f"{uri}: expected a JSON object with images, annotations and categories")
    return content
