"""Find the objects of an image and draw their boxes.

python examples/detect.py [IMAGE [PICTURE]]
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from PIL import Image

import overfeat
from overfeat.draw import draw_boxes

SCENE = Path(__file__).with_name("scene.jpg")


def main(image_path: str | Path = SCENE, picture: str = "boxes.png") -> None:
    """Print the boxes, best first, and save the picture."""
    image = np.asarray(Image.open(image_path).convert("RGB"))
    model = overfeat.load("demo")
    found = model.detect(image)
    for rank in range(len(found)):
        corners = " ".join(f"{corner:6.1f}" for corner in found.boxes_xyxy[rank])
        score = f"{found.scores[rank]:.2f} {found.evidence[rank]:7.1f}"
        print(f"{found.labels[rank]}  {score}  {corners}")
    drawn = draw_boxes(image, found.boxes_xyxy[:3], found.labels[:3], found.scores[:3])
    Image.fromarray(drawn).save(picture)


if __name__ == "__main__":
    main(*sys.argv[1:])
