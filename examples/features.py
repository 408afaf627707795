"""Train a classifier of one's own on the network's features, with scikit-learn.

python examples/features.py
"""

from __future__ import annotations

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from overfeat import FeatureExtractor

SIDE = 240
PER_CLASS = 24


def main() -> None:
    """Print how many unseen pictures of stripes are named rightly."""
    rng = np.random.default_rng(0)
    labels = np.array(["across", "down", "slanted"] * PER_CLASS)
    images = np.stack([draw_stripes(label, rng) for label in labels])
    learner = make_pipeline(
        FeatureExtractor("demo", layer="conv6_relu", pool="max"), LogisticRegression(max_iter=1000)
    )
    half = len(labels) // 2
    learner.fit(images[:half], labels[:half])
    right = learner.predict(images[half:]) == labels[half:]
    print(f"{right.sum()} of {len(right)} unseen pictures named rightly")


def draw_stripes(label: str, rng: np.random.Generator) -> np.ndarray:
    """Draw stripes of random colours, width and phase: an RGB uint8 picture."""
    y, x = np.mgrid[:SIDE, :SIDE]
    along = {"across": y, "down": x, "slanted": x + y}[label]
    wave = np.sin(along * rng.uniform(0.1, 0.4) + rng.uniform(0, 6))[..., None]
    colours = rng.uniform(0, 255, size=(2, 3))
    return np.asarray(np.where(wave > 0, colours[0], colours[1]), dtype=np.uint8)


if __name__ == "__main__":
    main()
