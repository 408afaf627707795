"""COCO's own tools, as a reader of the shards would use them."""

from __future__ import annotations

import warnings

import numpy as np
from pycocotools import mask as coco_mask


def read_mask(encoded):
    """Bool (height, width) of COCO run lengths."""
    with warnings.catch_warnings():
        # pycocotools 2.0.11 still speaks the array protocol of NumPy 1.
        warnings.simplefilter("ignore", DeprecationWarning)
        return np.asarray(coco_mask.decode(encoded), np.bool_)
