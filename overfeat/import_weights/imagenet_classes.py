"""In which order do published networks tell the 1000 classes of ImageNet?"""

from __future__ import annotations

import csv
from importlib import resources
from typing import Literal

ClassOrder = Literal["ilsvrc2012", "sorted-wnid"]
"""`ilsvrc2012`: the ids of the challenge's devkit, as in the 2014 program's networks.
`sorted-wnid`: the WordNet ids sorted as text, as in Caffe's and torchvision's."""


def read_imagenet_classes(order: ClassOrder = "ilsvrc2012") -> tuple[str, ...]:
    """Read the 1000 labels in the order of a network's outputs.

    Args:
        order: Whose order.

    Returns:
        Labels; "crane" is there twice, the bird at 428 and the machine at 544 (at 134 and 517 of
        the sorted ones).
    """
    text = (resources.files("overfeat") / "data" / "imagenet_classes.csv").read_text("utf-8")
    column = {"ilsvrc2012": "nyu_index", "sorted-wnid": "sorted_wnid_index"}[order]
    rows = sorted(csv.DictReader(text.splitlines()), key=lambda row: int(row[column]))
    return tuple(row["label"] for row in rows)
