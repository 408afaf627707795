"""Merge the same windows by four methods: greedy, NMS, soft-NMS and box fusion, side by side.

python examples/merging.py [IMAGE [PICTURE]]
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

import overfeat
from overfeat import PredictConfig
from overfeat.draw import draw_boxes
from overfeat.merge import MERGES

SCENE = Path(__file__).with_name("scene.jpg")
SHOWN = 4


def main(image_path: str | Path = SCENE, picture: str = "merging.png") -> None:
    """Print how many boxes each method leaves, and save the pictures in a row."""
    image = np.asarray(Image.open(image_path).convert("RGB"))
    model = overfeat.load("demo")
    pictures = []
    for name, method in MERGES.items():
        found = model.detect(image, PredictConfig(merge=method(), max_boxes=1000))
        print(f"{name:9} {int(found.n_windows.sum()):5} windows  {len(found):4} boxes")
        best = slice(0, SHOWN)
        drawn = draw_boxes(image, found.boxes_xyxy[best], found.labels[best], found.scores[best])
        titled = Image.fromarray(drawn)
        ImageDraw.Draw(titled).text((8, drawn.shape[0] - 28), name, "white", font_size=20)
        pictures.append(np.asarray(titled))
    Image.fromarray(np.concatenate(pictures, axis=1)).save(picture)


if __name__ == "__main__":
    main(*sys.argv[1:])
