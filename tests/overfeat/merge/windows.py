"""Windows to merge: few places, so that duplicates and ties are common, and free ones."""

from __future__ import annotations

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st

SEVERAL = settings(max_examples=60, deadline=None, derandomize=True)
MANY = settings(SEVERAL, max_examples=300)

grid_boxes = st.tuples(
    st.integers(0, 6), st.integers(0, 6), st.sampled_from([0, 8, 16]), st.sampled_from([8, 16])
).map(lambda v: (4 * v[0], 4 * v[1], 4 * v[0] + v[2], 4 * v[1] + v[3]))
free_boxes = st.tuples(*[st.integers(0, 3200)] * 2, *[st.integers(0, 1900)] * 2).map(
    lambda v: (v[0] / 64, v[1] / 64, (v[0] + v[2]) / 64, (v[1] + v[3]) / 64)
)
windows = st.tuples(st.one_of(grid_boxes, free_boxes), st.sampled_from([0.0, 0.25, 0.3, 0.5, 1.0]))
sets_of_windows = st.lists(windows, max_size=9)
crowds = st.integers(0, 2**32).map(lambda seed: make_crowd(seed, crowded=seed % 2 == 0))


def make_arrays(windows):
    boxes = np.array([box for box, _ in windows], dtype=np.float32).reshape(-1, 4)
    return boxes, np.array([probability for _, probability in windows], dtype=np.float32)


def make_crowd(seed, *, count=40, crowded=True):
    """Many windows: in few places with equal sizes and probabilities, or anywhere."""
    random = np.random.default_rng(seed)
    if crowded:
        corner = 4.0 * random.integers(0, 8, (count, 2))
        sides = random.choice([16.0, 24.0], (count, 2))
        probabilities = random.choice([0.25, 0.5, 0.75], count)
    else:
        corner = random.uniform(0, 120, (count, 2))
        sides = random.uniform(20, 60, (count, 2))
        probabilities = random.uniform(0.1, 1, count)
    boxes = np.hstack([corner, corner + sides]).astype(np.float32)
    return boxes, probabilities.astype(np.float32)


def overlap_literally(first, second):
    """IoU of two boxes, written out; 0 for two empty ones."""
    sides = [max(0.0, min(first[2 + a], second[2 + a]) - max(first[a], second[a])) for a in (0, 1)]
    shared = sides[0] * sides[1]
    areas = [(b[2] - b[0]) * (b[3] - b[1]) for b in (first, second)]
    union = areas[0] + areas[1] - shared
    return shared / union if union else 0.0


def make_lists(boxes, probabilities):
    return [[float(edge) for edge in box] for box in boxes], [float(p) for p in probabilities]
