"""Which real photographs and handwriting are on this machine, and how are they read?

They ship inside the scikit-image and scikit-learn packages: nothing is ever downloaded, and neither
package is imported for a photograph.
"""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image

from pipelines.errors import InputError

_INSTALL: Final = (
    "digit scenes need scikit-learn and scikit-image: pip install 'overfeat-at-scale[scenes]'"
)
_SKIMAGE_FOLDER: Final = ("skimage", "data")
_SKLEARN_FOLDER: Final = ("sklearn", "datasets/images")

PHOTOGRAPHS: Final[dict[str, tuple[tuple[str, str], str]]] = {
    "astronaut": (_SKIMAGE_FOLDER, "astronaut.png"),
    "brick": (_SKIMAGE_FOLDER, "brick.png"),
    "camera": (_SKIMAGE_FOLDER, "camera.png"),
    "chelsea": (_SKIMAGE_FOLDER, "chelsea.png"),
    "china": (_SKLEARN_FOLDER, "china.jpg"),
    "coffee": (_SKIMAGE_FOLDER, "coffee.png"),
    "coins": (_SKIMAGE_FOLDER, "coins.png"),
    "flower": (_SKLEARN_FOLDER, "flower.jpg"),
    "grass": (_SKIMAGE_FOLDER, "grass.png"),
    "gravel": (_SKIMAGE_FOLDER, "gravel.png"),
    "hubble_deep_field": (_SKIMAGE_FOLDER, "hubble_deep_field.jpg"),
    "moon": (_SKIMAGE_FOLDER, "moon.png"),
    "motorcycle_left": (_SKIMAGE_FOLDER, "motorcycle_left.png"),
    "motorcycle_right": (_SKIMAGE_FOLDER, "motorcycle_right.png"),
    "rocket": (_SKIMAGE_FOLDER, "rocket.jpg"),
}
"""Photograph name -> ((package, folder in it), file name)."""


def find_photograph(name: str) -> Path:
    """Find the file of a photograph inside its installed package.

    Args:
        name: A key of `PHOTOGRAPHS`.

    Returns:
        The path of a PNG or JPEG file that exists.

    Raises:
        InputError: The package is not installed, or this version of it ships no such file.
    """
    (package, folder), file_name = PHOTOGRAPHS[name]
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        raise InputError(f"photograph {name}: the package {package} is not installed; {_INSTALL}")
    path = Path(spec.origin).parent / folder / file_name
    if not path.is_file():
        raise InputError(f"photograph {name}: {path} is not in the installed package; {_INSTALL}")
    return path


@cache
def load_photograph(name: str) -> Image.Image:
    """Read a photograph as RGB pixels, once per process.

    Args:
        name: A key of `PHOTOGRAPHS`.

    Returns:
        An RGB image; callers must not write into it.
    """
    with Image.open(find_photograph(name)) as image:
        return image.convert("RGB")


@cache
def load_handwriting() -> tuple[np.ndarray, np.ndarray]:
    """Read scikit-learn's 1797 handwritten digits, once per process.

    Returns:
        Ink, uint8 (1797, 8, 8) with values 0 to 16, and labels, int64 (1797,) with values 0 to 9.

    Raises:
        InputError: scikit-learn is not installed.
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise InputError(
            f"handwritten digits: the package sklearn is not installed; {_INSTALL}"
        ) from error
    digits = load_digits()
    return digits.images.astype(np.uint8), digits.target.astype(np.int64)
