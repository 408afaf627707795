"""What does an annotation file of PASCAL VOC say? ImageNet writes the same kind of XML.

Corners name the first and the last pixel inside. VOC counts pixels from 1: the box 1, 1, 10, 10 has
10 x 10 pixels at the upper left corner. ImageNet counts from 0 (assumed: its files hold zeros, and
ends that are one less than the width).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from xml.etree import ElementTree as ET

from pipelines.shards.records import Annotation
from pipelines.shards.rejects import AnnotationError, AnnotationReason
from pipelines.shards.samples import Box, ObjectMetadata, PartMetadata


def parse_voc_xml(data: bytes, labels: Mapping[str, int], *, first_pixel: int) -> Annotation:
    """Read the XML of one image.

    Args:
        data: The file.
        labels: Label of each name of a class.
        first_pixel: Number of the first row and column: 1 in VOC, 0 in ImageNet.

    Returns:
        The size that it says the image has, and the objects, in the file's order.

    Raises:
        AnnotationError: It is not such a file, or names a class that is none.
    """
    try:
        root = ET.fromstring(data)
        return Annotation(
            size=_read_size(root),
            objects=tuple(_read_object(one, labels, first_pixel) for one in root.iter("object")),
        )
    except (ET.ParseError, ValueError, LookupError) as error:
        raise AnnotationError(AnnotationReason.BAD_ANNOTATION, f"XML: {error}") from error


def convert_box(x_min: float, y_min: float, x_max: float, y_max: float, *, first_pixel: int) -> Box:
    """Turn corners that are both inside into half-open pixels.

    Args:
        x_min: First column.
        y_min: First row.
        x_max: Last column.
        y_max: Last row.
        first_pixel: Number of the first row and column.

    Returns:
        x_min, y_min, x_max, y_max.
    """
    end = first_pixel - 1
    return x_min - first_pixel, y_min - first_pixel, x_max - end, y_max - end


def _read_object(
    element: ET.Element, labels: Mapping[str, int], first_pixel: int
) -> ObjectMetadata:
    name = _text(element, "name")
    if name not in labels:
        raise ValueError(f"an object of the class {name!r}, which the set does not have")
    parts = tuple(
        PartMetadata(name=_text(part, "name"), box_xyxy=_read_box(part, first_pixel))
        for part in element.findall("part")
    )
    actions = element.find("actions")
    return ObjectMetadata(
        label=labels[name],
        box_xyxy=_read_box(element, first_pixel),
        difficult=_read_flag(element, "difficult"),
        truncated=_read_flag(element, "truncated"),
        parts=parts or None,
        actions=None if actions is None else {one.tag: one.text == "1" for one in actions},
    )


def _read_size(root: ET.Element) -> tuple[int, int] | None:
    """Width and height; None where the file does not know them."""
    element = root.find("size")
    if element is None:
        return None
    width, height = int(_text(element, "width")), int(_text(element, "height"))
    return (width, height) if width and height else None


def _read_box(element: ET.Element, first_pixel: int) -> Box:
    box = element.find("bndbox")
    if box is None:
        raise ValueError("an object without bndbox")
    corners = [float(_text(box, name)) for name in ("xmin", "ymin", "xmax", "ymax")]
    if not all(map(math.isfinite, corners)):
        raise ValueError(f"a bndbox at {corners}")
    # Some of ImageNet's name the corners in the wrong order.
    (left, right), (top, bottom) = sorted(corners[::2]), sorted(corners[1::2])
    return convert_box(left, top, right, bottom, first_pixel=first_pixel)


def _read_flag(element: ET.Element, name: str) -> bool:
    # Left out in some files of VOC 2012 and of ImageNet, where it means no.
    return element.find(name) is not None and _text(element, name) == "1"


def _text(element: ET.Element, name: str) -> str:
    text = element.findtext(name)
    if text is None:
        raise ValueError(f"no {name} in {element.tag}")
    return text.strip()
