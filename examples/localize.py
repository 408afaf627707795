"""Guess what an image shows, and where: five classes with a box each.

python examples/localize.py [IMAGE]
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from PIL import Image

import overfeat

SCENE = Path(__file__).with_name("scene.jpg")


def main(image_path: str | Path = SCENE) -> None:
    """Print the guesses, best first."""
    image = np.asarray(Image.open(image_path).convert("RGB"))
    guesses = overfeat.load("demo").localize(image)
    for rank in range(len(guesses)):
        corners = " ".join(f"{corner:6.1f}" for corner in guesses.boxes_xyxy[rank])
        print(f"{rank + 1}  {guesses.labels[rank]}  {guesses.scores[rank]:.2f}  {corners}")


if __name__ == "__main__":
    main(*sys.argv[1:])
