"""How do records become samples? Read, annotated, checked by decoding; the bytes stay as they are.

An image that cannot be read, decoded or annotated becomes a reject with a reason. One whose class
is known without its annotation is kept for that, without boxes.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipelines import storage
from pipelines.errors import ImageError, ImageReason, StorageError, TransientStorageError
from pipelines.images import ImageLimits, decode_image
from pipelines.images.formats import ImageFormat, identify_format
from pipelines.images.headers import read_header
from pipelines.shards.frames import Frame, settle_objects
from pipelines.shards.records import Annotation, Record
from pipelines.shards.rejects import AnnotationError, AnnotationReason, Reject
from pipelines.shards.samples import Sample, SampleMetadata
from pipelines.storage import ObjectBytes, ObjectInfo

ReadAnnotation = Callable[[Record, Sequence[bytes], Mapping[str, int]], Annotation]
"""Makes an annotation of a record, the bytes of the files beside it, and the labels of classes."""

_EXTENSIONS: Final = {
    ImageFormat.JPEG: "jpg",
    ImageFormat.PNG: "png",
    ImageFormat.WEBP: "webp",
    ImageFormat.GIF: "gif",
    ImageFormat.BMP: "bmp",
    ImageFormat.TIFF: "tif",
}
_LIMITS: Final = ImageLimits()
_CHUNK: Final = 64
"""Records read at a time (assumed: enough to keep the store's connections busy)."""
_JPEG_QUALITY: Final = 95
"""Of images that are shrunk (assumed: more adds bytes, not detail)."""


def read_samples(
    records: Sequence[Record],
    labels: Mapping[str, int],
    max_side: int | None,
    *,
    read_annotation: ReadAnnotation,
) -> Iterator[Sample | Reject]:
    """Make samples of files.

    Args:
        records: In the order of their samples.
        labels: Label of each of the source's words for a class.
        max_side: Longest side of an image in pixels; None to keep all bytes.
        read_annotation: Of the source.

    Yields:
        A sample or a reject for each record; both for an image that is kept without its boxes.

    Raises:
        TransientStorageError: A store did not answer: to leave an image out for that would make
            other shards of the same input.
        StorageError: An image was denied, which a store answers as well to credentials that may
            read none.
    """
    for start in range(0, len(records), _CHUNK):
        chunk = records[start : start + _CHUNK]
        answers = iter(_read_files(chunk))
        for record in chunk:
            image, *beside = (next(answers) for _ in range(1 + len(record.beside)))
            try:
                data = _check(image)
                try:
                    annotation = read_annotation(record, _check_beside(record, beside), labels)
                    yield make_sample(record, data, annotation, max_side)
                except AnnotationError as error:
                    yield from _keep_class(record, data, error, max_side)
            except (ImageError, AnnotationError) as error:
                yield _reject(record, error.reason, error.message)


def make_sample(
    record: Record, data: bytes, annotation: Annotation, max_side: int | None
) -> Sample:
    """Make the sample of one image.

    Args:
        record: Its key and name.
        data: The encoded image.
        annotation: What its source says.
        max_side: Longest side in pixels; None to keep the bytes.

    Returns:
        The sample, with the bytes as they are unless the image is larger.

    Raises:
        ImageError: The image is damaged.
        AnnotationError: The annotation does not fit it.
    """
    pixels = decode_image(data, _LIMITS)
    header = read_header(identify_format(data), data, _LIMITS.max_frames)
    frame = Frame(
        width=header.width,
        height=header.height,
        orientation=header.orientation,
        max_side=max_side,
    )
    objects = settle_objects(annotation, frame)
    width, height = frame.sample_size
    is_shrunk = frame.sample_size != frame.seen_size
    return Sample(
        key=record.key,
        image=_shrink(pixels, (width, height)) if is_shrunk else data,
        extension="jpg" if is_shrunk else _EXTENSIONS[header.format],
        metadata=SampleMetadata(
            width=width,
            height=height,
            original_name=record.name,
            label=annotation.label,
            objects=objects,
        ),
    )


def _keep_class(
    record: Record, data: bytes, error: AnnotationError, max_side: int | None
) -> Iterator[Sample | Reject]:
    """Make a sample without boxes of an image whose annotation is wrong, if its class is known.

    Raises:
        AnnotationError: Nothing is known of it.
    """
    if record.label is None:
        raise error
    yield make_sample(record, data, Annotation(label=record.label), max_side)
    yield _reject(record, AnnotationReason.BAD_BOXES, error.message)


def _reject(record: Record, reason: ImageReason | AnnotationReason, message: str) -> Reject:
    return Reject(name=record.name, reason=str(reason), message=message)


def _read_files(records: Sequence[Record]) -> list[ObjectBytes | ImageError]:
    """Read the image of each record and the files beside it, one after the other."""
    infos: list[ObjectInfo] = []
    for record in records:
        assert record.image is not None
        infos += [record.image, *(ObjectInfo(uri=uri) for uri in record.beside)]
    return storage.read_objects(infos, max_bytes=_LIMITS.max_bytes)


def _check(answer: ObjectBytes | ImageError) -> bytes:
    if not isinstance(answer, ImageError):
        return answer.data
    if answer.reason is ImageReason.UNAVAILABLE:
        raise TransientStorageError(f"{answer.message}; run the same command again")
    if answer.reason is ImageReason.ACCESS_DENIED:
        raise StorageError(
            f"{answer.message}; mend the credentials, on the workers too, then run the same "
            "command again. If nobody may read it, pack the others into another --output"
        )
    raise answer


def _check_beside(record: Record, answers: Sequence[ObjectBytes | ImageError]) -> list[bytes]:
    found = []
    for uri, answer in zip(record.beside, answers, strict=True):
        try:
            found.append(_check(answer))
        except ImageError as error:
            is_missing = error.reason is ImageReason.NOT_FOUND
            reason = AnnotationReason.UNLABELLED if is_missing else AnnotationReason.BAD_ANNOTATION
            raise AnnotationError(reason, f"{uri}: {error.message}") from error
    return found


def _shrink(pixels: NDArray[np.uint8], size: tuple[int, int]) -> bytes:
    """Resize and encode as JPEG: upright, without metadata."""
    buffer = io.BytesIO()
    shrunk = Image.fromarray(pixels).resize(size, Image.Resampling.LANCZOS)
    shrunk.save(buffer, "JPEG", quality=_JPEG_QUALITY)
    return buffer.getvalue()
