"""Name what an image shows: all scales, the older protocols' crops, and a committee.

python examples/classify.py [IMAGE]
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from PIL import Image

import overfeat
from overfeat import Canvas, PredictConfig

SCENE = Path(__file__).with_name("scene.jpg")
PROTOCOLS = {
    "six scales, fine": PredictConfig(),
    "six scales, fine, flips": PredictConfig(flips=True),
    "one scale, coarse": PredictConfig(scales=(Canvas(245, 245),), stride="coarse"),
    "ten views": PredictConfig(views="ten-view"),
    "centre crop": PredictConfig(views="centre-crop"),
    "as the 2014 program": PredictConfig(views="original"),
}


def main(image_path: str | Path = SCENE) -> None:
    """Print the two best classes of each protocol."""
    image = np.asarray(Image.open(image_path).convert("RGB"))
    model = overfeat.load("demo")
    for name, config in PROTOCOLS.items():
        print(f"{name:24}", _best_two(model.classify(image, config)))
    # Networks of equal classes vote together; two of the same one agree with each other.
    committee = overfeat.load(["demo", "demo"])
    print(f"{'a committee':24}", _best_two(committee.classify(image)))


def _best_two(found: overfeat.Classification) -> str:
    return "  ".join(f"{found.labels[rank]} {found.scores[rank]:.3f}" for rank in range(2))


if __name__ == "__main__":
    main(*sys.argv[1:])
