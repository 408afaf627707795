"""Does the shipped model find digits in scenes that are composed otherwise than its own?

`python -m benchmarks.other_scenes`, five minutes. Upright digits in a plain colour, each in a cell
of a grid, over photographs that no split of the digit scenes uses; handwriting of the test split.
"""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
from PIL import Image

import overfeat
from overfeat.predict_config import PredictConfig
from overfeat.predictor import Predictor
from pipelines.average_precision import Evaluation, FoundBox, KnownImage, measure
from pipelines.images import ImageLimits, decode_image
from pipelines.shards.digit_scenes import CLASSES, SOURCES
from pipelines.shards.photographs import load_handwriting, load_photograph

SCENES = 200
SEED = 7
PHOTOGRAPHS = ("camera", "coins", "hubble_deep_field", "moon")
SIDES = (320, 640)
SHARES = (0.35, 0.9)
"""Longer side of a digit's picture, as a part of its cell's shorter side."""
EDGES = {"crisp": 0.12, "soft": 1.0}
"""Within which part of the range of ink, 0 to 1, a pixel is neither ink nor background."""
CONTRAST = 150
"""Least difference of brightness between ink and background, 0 to 255."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Digit:
    """A digit in a scene."""

    label: int
    """Which one."""
    box_xyxy: tuple[float, float, float, float]
    """Its ink, in pixels of the scene."""


def compose(rng: np.random.Generator, *, edge: float) -> tuple[bytes, list[Digit]]:
    """Compose a scene.

    Args:
        rng: Source of every choice.
        edge: One of `EDGES`.

    Returns:
        A JPEG, and its digits.
    """
    height, width = rng.integers(SIDES[0], SIDES[1] + 1, size=2)
    photograph = load_photograph(str(rng.choice(PHOTOGRAPHS)))
    pixels = np.asarray(photograph.convert("RGB").resize((width, height)), np.float32).copy()
    rows, cols = rng.integers(1, 3, size=2)
    digits = []
    for row, col in np.ndindex(int(rows), int(cols)):
        cell = pixels[
            row * height // rows : (row + 1) * height // rows,
            col * width // cols : (col + 1) * width // cols,
        ]
        label, (left, top, right, bottom) = draw_digit(cell, rng, edge=edge)
        y, x = row * height // rows, col * width // cols
        digits.append(Digit(label=label, box_xyxy=(x + left, y + top, x + right, y + bottom)))
    buffer = io.BytesIO()
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(buffer, "JPEG", quality=90)
    return buffer.getvalue(), digits


def draw_digit(
    cell: np.ndarray, rng: np.random.Generator, *, edge: float
) -> tuple[int, tuple[float, float, float, float]]:
    """Draw one digit anywhere in a part of a scene.

    Args:
        cell: RGB (height, width, 3), float32; drawn into.
        rng: Source of every choice.
        edge: One of `EDGES`.

    Returns:
        Its label, and its box in pixels of the cell.
    """
    pictures, labels = load_handwriting()
    index = int(rng.choice(np.array(SOURCES["test"].digits)))
    side = int(min(cell.shape[:2]) * rng.uniform(*SHARES))
    small = Image.fromarray((pictures[index] * (255 / pictures[index].max())).astype(np.uint8))
    ink_share = np.asarray(small.resize((side, side), Image.Resampling.BICUBIC), np.float32) / 255
    alpha = ((ink_share - 0.5) / edge + 0.5).clip(0, 1)
    top, left = (int(rng.integers(room - side + 1)) for room in cell.shape[:2])
    part = cell[top : top + side, left : left + side]
    is_dark = part.mean() < 255 - CONTRAST
    ink = rng.uniform(part.mean() + CONTRAST, 255, 3) if is_dark else rng.uniform(0, 60, 3)
    part += alpha[..., None] * (ink - part)
    ys, xs = np.nonzero(alpha > 0.5)  # noqa: PLR2004 (half covered)
    box = (left + xs.min(), top + ys.min(), left + xs.max() + 1, top + ys.max() + 1)
    return int(labels[index]), (float(box[0]), float(box[1]), float(box[2]), float(box[3]))


def measure_scenes(model: Predictor, edge: float) -> Evaluation:
    """Detect the digits of all scenes.

    Args:
        model: What detects them.
        edge: One of `EDGES`.

    Returns:
        Mean average precision and its parts.
    """
    rng, known, found = np.random.default_rng(SEED), list[KnownImage](), list[FoundBox]()
    for number in range(SCENES):
        image, digits = compose(rng, edge=edge)
        known.append(
            KnownImage(
                key=str(number),
                image=image,
                boxes_xyxy=np.array([digit.box_xyxy for digit in digits], np.float32),
                labels=np.array([digit.label for digit in digits], np.int64),
            )
        )
        boxes = model.detect(decode_image(image, ImageLimits()), PredictConfig(score_threshold=0.5))
        for label, evidence, (x_min, y_min, x_max, y_max) in zip(
            boxes.label_ids, boxes.evidence, boxes.boxes_xyxy.tolist(), strict=True
        ):
            box = (x_min, y_min, x_max, y_max)
            found.append(
                FoundBox(image=number, label_id=int(label), rank_by=float(evidence), box_xyxy=box)
            )
    return measure(known, found, list(CLASSES))


def main() -> None:
    """Print what the shipped model reaches."""
    model = overfeat.load("demo")
    print(f"{SCENES} scenes, seed {SEED}")
    print("| ink | mAP at IoU 0.50 | at 0.50:0.95 | recall at IoU 0.50 |\n|---|---|---|---|")
    for name, edge in EDGES.items():
        reached = measure_scenes(model, edge)
        numbers = (reached.map_50, reached.map_50_95, reached.recall_50)
        print(f"| {name} | {' | '.join(f'{number:.2f}' for number in numbers)} |", flush=True)


if __name__ == "__main__":
    main()
