"""How does an image of the bucket become a small picture inside the page?

Few images are read at a time and one is decoded at a time, so memory does not grow with the number
of pictures. What cannot be shown is replaced by the reason, never by an exception.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from overfeat.draw import draw_boxes
from pipelines import storage
from pipelines.errors import ImageError, ImageReason, PipelineError
from pipelines.images import ImageLimits, decode_image
from pipelines.report.load import ShownImage
from pipelines.storage import ObjectBytes

IMAGES_AT_ONCE = 4
"""Encoded images in memory; hides the latency of an object store."""
MAX_ENLARGEMENT = 4
"""Small images are enlarged, or their labels would hide them, but not to a blur."""
BOXES_AT_MOST = 50
"""Boxes in a picture: with more, nothing else of it would be seen."""
JPEG_QUALITY = 82


@dataclass(frozen=True, kw_only=True, slots=True)
class Picture:
    """What stands on the page for one image: a picture, or the reason why there is none."""

    data_uri: str | None = None
    """A JPEG as a `data:` URI."""
    width: int = 0
    height: int = 0
    """Pixels of the JPEG."""
    problem: str | None = None
    """Why there is no picture."""


def make_pictures(images: Sequence[ShownImage], *, thumbnail_px: int) -> Iterator[Picture]:
    """Read images, shrink them and draw their boxes.

    Args:
        images: what the tables know of them.
        thumbnail_px: the longer side of each picture, in pixels.

    Yields:
        One picture for each image, in order.
    """
    for start in range(0, len(images), IMAGES_AT_ONCE):
        some = images[start : start + IMAGES_AT_ONCE]
        for shown, answer in zip(some, _read(some), strict=True):
            try:
                yield _make_picture(shown, answer, thumbnail_px)
            except ImageError as error:
                yield Picture(problem=str(error))


def _read(images: Sequence[ShownImage]) -> Sequence[ObjectBytes | ImageError]:
    objects = [shown.listed for shown in images]
    try:
        return storage.read_objects(objects, max_bytes=ImageLimits().max_bytes)
    except PipelineError as error:
        # No client for the store, as where the page is made without the credentials of the run.
        return [ImageError(ImageReason.UNAVAILABLE, str(error))] * len(objects)


def _make_picture(
    shown: ShownImage, answer: ObjectBytes | ImageError, thumbnail_px: int
) -> Picture:
    if isinstance(answer, ImageError):
        raise answer
    pixels = decode_image(answer.data, ImageLimits())
    if pixels.shape[:2] != (shown.height, shown.width):
        raise ImageError(
            ImageReason.CHANGED,
            f"{pixels.shape[1]} x {pixels.shape[0]} pixels, "
            f"but {shown.width} x {shown.height} when it was annotated",
        )
    scale = min(MAX_ENLARGEMENT, thumbnail_px / max(pixels.shape[:2]))
    small = _resize(pixels, scale)
    boxes = shown.boxes[:BOXES_AT_MOST]
    boxes_xyxy = np.array([box.xyxy for box in boxes]).reshape(-1, 4) * scale
    drawn = draw_boxes(
        small, boxes_xyxy, [box.label for box in boxes], [box.score for box in boxes]
    )
    return _encode(drawn)


def _resize(pixels: np.ndarray, scale: float) -> np.ndarray:
    height, width = (max(1, round(side * scale)) for side in pixels.shape[:2])
    method = Image.Resampling.LANCZOS
    return np.array(Image.fromarray(pixels).resize((width, height), method, reducing_gap=2))


def _encode(pixels: np.ndarray) -> Picture:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=JPEG_QUALITY, optimize=True)
    text = base64.b64encode(buffer.getvalue()).decode("ascii")
    height, width = pixels.shape[:2]
    return Picture(data_uri=f"data:image/jpeg;base64,{text}", width=width, height=height)
