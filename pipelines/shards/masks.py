"""How are masks written? As the run lengths of COCO, whatever a source has.

pycocotools does the work: other programs read the same masks with it.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


def encode_mask(mask: NDArray[np.bool_]) -> dict[str, Any]:
    """Write a mask as COCO run lengths.

    Args:
        mask: Bool (height, width).

    Returns:
        `size` as [height, width] and `counts` as text, fit for JSON.
    """
    from pycocotools import mask as coco_mask

    return _as_json(coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8)))


def decode_mask(encoded: Mapping[str, Any]) -> NDArray[np.bool_]:
    """Read a mask: the inverse of `encode_mask`.

    Args:
        encoded: COCO run lengths.

    Returns:
        Bool (height, width).
    """
    from pycocotools import mask as coco_mask

    with warnings.catch_warnings():
        # pycocotools 2.0.11 still speaks the array protocol of NumPy 1.
        warnings.simplefilter("ignore", DeprecationWarning)
        return np.asarray(coco_mask.decode(dict(encoded)), np.bool_)


def encode_polygons(
    polygons: Sequence[Sequence[float]], *, width: int, height: int
) -> dict[str, Any]:
    """Fill polygons as COCO's own tools do.

    Args:
        polygons: Each x, y, x, y, ... in half-open pixels, at least three corners.
        width: Of the image in pixels.
        height: Of the image in pixels.

    Returns:
        Run lengths of the pixels that lie in any of them.
    """
    from pycocotools import mask as coco_mask

    return _as_json(coco_mask.merge(coco_mask.frPyObjects(list(polygons), height, width)))


def encode_counts(counts: Sequence[int], *, width: int, height: int) -> dict[str, Any]:
    """Compress run lengths that are written as numbers, as COCO does those of crowds.

    Args:
        counts: Pixels outside, inside, outside, ... down the columns; they add up to the image.
        width: Of the image in pixels.
        height: Of the image in pixels.

    Returns:
        The same run lengths, compressed.
    """
    from pycocotools import mask as coco_mask

    encoded = coco_mask.frPyObjects({"size": [height, width], "counts": counts}, height, width)
    return _as_json(encoded)


def _as_json(encoded: Mapping[str, Any]) -> dict[str, Any]:
    return {"size": [int(side) for side in encoded["size"]], "counts": encoded["counts"].decode()}
