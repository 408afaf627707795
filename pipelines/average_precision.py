"""How well do boxes fit the objects that are there? Mean average precision by pycocotools."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from pipelines.shards.samples import SampleMetadata


@dataclass(frozen=True, kw_only=True, slots=True)
class KnownImage:
    """An image whose objects are known."""

    key: str
    """Its name in the shards."""
    image: bytes
    """Encoded pixels."""
    boxes_xyxy: NDArray[np.float32]
    """Objects (n, 4), in pixels of the image."""
    labels: NDArray[np.int64]
    """Class of each object (n,)."""
    crowds: NDArray[np.bool_] | None = None
    """Which are crowds (n,), of which any part may be found, or none; None for none of them."""
    difficult: NDArray[np.bool_] | None = None
    """Which may be found or not (n,); None for none of them."""
    is_unboxed: bool = False
    """Whether it shows a class and nobody has drawn where: then no box on it is wrong."""

    @classmethod
    def of(cls, key: str, image: bytes, metadata: SampleMetadata) -> KnownImage:
        """Take what a sample's metadata says.

        Args:
            key: Of the sample.
            image: Encoded pixels; empty if nobody will look at them.
            metadata: What is known.

        Returns:
            The image with its objects.
        """
        objects = metadata.objects
        return cls(
            key=key,
            image=image,
            boxes_xyxy=np.array([one.box_xyxy for one in objects], np.float32).reshape(-1, 4),
            labels=np.array([one.label for one in objects], np.int64),
            crowds=np.array([one.crowd for one in objects], np.bool_),
            difficult=np.array([one.difficult for one in objects], np.bool_),
            is_unboxed=metadata.label is not None and not objects,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluation:
    """Detection quality."""

    map_50: float
    """Mean over classes of the average precision at IoU 0.5."""
    map_50_95: float
    """The same, averaged over IoU 0.50, 0.55, ... 0.95."""
    recall_50: float
    """Part of the objects found at IoU 0.5 with at most 100 boxes an image, mean over classes."""
    per_class_50: dict[str, float]
    """Average precision at IoU 0.5 of each class that has objects."""
    images: int
    """Samples measured: not those that show a class and have no boxes drawn."""
    objects: int
    """Their objects that are to be found: no crowds, and none that is difficult."""
    boxes: int
    """Boxes that were measured, those on other objects too."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FoundBox:
    """One detection."""

    image: int
    """Position of the sample."""
    label_id: int
    """Class."""
    rank_by: float
    """What boxes are ranked by: the evidence."""
    box_xyxy: tuple[float, float, float, float]
    """Corners, in pixels of the image."""


def measure(
    samples: Sequence[KnownImage], found: Sequence[FoundBox], classes: Sequence[str]
) -> Evaluation:
    """Compute average precision with pycocotools.

    Crowds and difficult objects are as in training: whether one is found or missed changes nothing.
    Nor do boxes on an image that shows a class, where nobody has drawn boxes.

    Args:
        samples: Images with their objects.
        found: Detections.
        classes: Names of the classes.

    Returns:
        Mean average precision and its parts; 0 where nothing was found, or is to be found.
    """
    images = [image for image, sample in enumerate(samples) if not sample.is_unboxed]
    measured = set(images)
    found = [box for box in found if box.image in measured]
    truth = _coco_truth({image: samples[image] for image in images}, classes)
    objects = sum(not one["iscrowd"] for one in truth["annotations"])
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = truth
        coco.createIndex()
        results = coco.loadRes([_coco_box(box) for box in found]) if found else _no_boxes()
        evaluation = _BoxEvaluation(coco, results, "bbox")
        evaluation.params.imgIds = images
        evaluation.params.catIds = list(range(len(classes)))
        evaluation.evaluate()
        evaluation.accumulate()
    # Axes: IoU threshold, recall, class, area range (0: all), boxes per image (last: 100).
    precision = evaluation.eval["precision"][:, :, :, 0, -1]
    recall = evaluation.eval["recall"][0, :, 0, -1]
    per_class = {
        name: float(precision[0, :, index].mean())
        for index, name in enumerate(classes)
        if precision[0, 0, index] >= 0
    }
    return Evaluation(
        map_50=_mean(precision[0]),
        map_50_95=_mean(precision),
        recall_50=_mean(recall),
        per_class_50=per_class,
        images=len(images),
        objects=objects,
        boxes=len(found),
    )


def _mean(values: np.ndarray) -> float:
    """Mean over what pycocotools could measure: it marks classes without objects with -1."""
    known = values[values >= 0]
    return float(known.mean()) if known.size else 0.0


class _BoxEvaluation(COCOeval):  # type: ignore[misc]  # it has no types
    """Ignores difficult objects too: COCOeval forgets `ignore` for all but `iscrowd`.

    That also lets several boxes fall on one object, as the VOC devkit does with difficult ones; but
    any part of a crowd counts as found, and of a difficult object only what overlaps the whole.
    """

    def computeIoU(self, imgId: int, catId: int) -> Any:  # noqa: ANN401, N802 (its own)
        truth = self.cocoGt.imgToAnns[imgId]
        for one in truth:
            one["iscrowd"] = one["is_part_enough"]
        overlaps = super().computeIoU(imgId, catId)
        for one in truth:
            one["iscrowd"] = one["ignore"]  # COCOeval's copy of it
        return overlaps


def _coco_truth(samples: Mapping[int, KnownImage], classes: Sequence[str]) -> dict[str, Any]:
    annotations = [
        {
            "image_id": image,
            "category_id": int(label),
            "bbox": _xywh(box.tolist()),
            "area": float((box[2] - box[0]) * (box[3] - box[1])),
            "iscrowd": int(is_crowd or is_difficult),
            "is_part_enough": int(is_crowd),
        }
        for image, sample in samples.items()
        for box, label, is_crowd, is_difficult in zip(
            sample.boxes_xyxy,
            sample.labels,
            *(_flags(some, len(sample.labels)) for some in (sample.crowds, sample.difficult)),
            strict=True,
        )
    ]
    return {
        "images": [{"id": image} for image in samples],
        "categories": [{"id": index, "name": name} for index, name in enumerate(classes)],
        # pycocotools takes id 0 for "no match".
        "annotations": [{"id": number, **one} for number, one in enumerate(annotations, start=1)],
    }


def _flags(flags: NDArray[np.bool_] | None, count: int) -> NDArray[np.bool_]:
    return np.zeros(count, np.bool_) if flags is None else flags


def _no_boxes() -> COCO:
    """What `loadRes` would make of none, which it refuses."""
    results = COCO()
    results.dataset = {"annotations": []}
    return results


def _coco_box(box: FoundBox) -> dict[str, Any]:
    return {
        "image_id": box.image,
        "category_id": box.label_id,
        "bbox": _xywh(box.box_xyxy),
        "score": box.rank_by,
    }


def _xywh(box: Sequence[float]) -> list[float]:
    return [box[0], box[1], box[2] - box[0], box[3] - box[1]]
