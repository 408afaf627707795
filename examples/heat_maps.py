"""Draw where a class is seen, one map per scale.

python examples/heat_maps.py [IMAGE [PICTURE [LABEL]]]
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from PIL import Image

import overfeat
from overfeat.draw import draw_heat_maps

SCENE = Path(__file__).with_name("scene.jpg")


def main(
    image_path: str | Path = SCENE, picture: str = "heat_maps.png", label: str | None = None
) -> None:
    """Print the highest probability of each scale, and save the maps of the best class."""
    image = np.asarray(Image.open(image_path).convert("RGB"))
    model = overfeat.load("demo")
    label = label or model.classify(image).labels[0]
    if label not in model.classes:
        sys.exit(f"label: received {label!r}, expected one of {', '.join(model.classes)}")
    maps = model.map_classes(image)
    heats = [one.probabilities[model.classes.index(label)] for one in maps]
    titles = [
        f"{one.canvas}: {heat.shape[0]}x{heat.shape[1]} windows"
        for one, heat in zip(maps, heats, strict=True)
    ]
    for title, heat in zip(titles, heats, strict=True):
        print(f"{title:24} {label}: at most {heat.max():.2f}")
    drawn = draw_heat_maps(
        image, heats, [one.windows_xyxy for one in maps], titles, label=label, columns=3
    )
    Image.fromarray(drawn).save(picture)


if __name__ == "__main__":
    main(*sys.argv[1:])
