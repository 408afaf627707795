"""Pictures and grids of windows that are easy to reason about."""

from __future__ import annotations

import numpy as np


def make_photograph(height, width, level=128):
    return np.full((height, width, 3), level, dtype=np.uint8)


def make_cells(rows, cols, *, step=12, window=30, left=0.0, top=0.0):
    """Windows as a network has them: one every `step` pixels, the first one at (left, top)."""
    y, x = np.meshgrid(top + step * np.arange(rows), left + step * np.arange(cols), indexing="ij")
    return np.stack([x, y, x + window, y + window], axis=-1).astype(np.float32)


def make_heat(rows, cols, **hot):
    """No heat, but for the cells named in `hot`, such as r1c2=0.9."""
    heat = np.zeros((rows, cols), dtype=np.float32)
    for name, value in hot.items():
        row, col = name[1:].split("c")
        heat[int(row), int(col)] = value
    return heat


def relative_luminance(colors):
    """As WCAG 2 defines it, of colours in the last axis."""
    share = np.asarray(colors) / 255
    linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
    return linear @ np.array([0.2126, 0.7152, 0.0722])
