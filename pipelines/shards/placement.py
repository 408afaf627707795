"""Where may an object stand, so that border and later objects leave enough of everyone's ink?"""

from __future__ import annotations

from typing import Final

import numpy as np

MAX_LOST_PERCENT: Final = 20
"""Share of an object's ink that border and later objects together may take."""
PLACE_TRIES: Final = 200


class InkMap:
    """Whose ink is visible at each pixel of a scene, and how much ink each object has left."""

    def __init__(self, *, width: int, height: int) -> None:
        self._owner = np.zeros((height, width), np.uint8)
        # Entry 0 stands for pixels without ink: it may lose everything.
        self._total = np.zeros(1, np.int64)
        self._visible = np.zeros(1, np.int64)

    def find_place(self, ink: np.ndarray, rng: np.random.Generator) -> tuple[int, int] | None:
        """Try random places until one leaves every object, the new one too, enough ink.

        Args:
            ink: Bool (height, width): the new object's ink, cropped to its tight bounds.
            rng: Every draw comes from it.

        Returns:
            Left and top of the ink in the scene (negative where the border cuts it), or None after
            `PLACE_TRIES` tries.
        """
        height, width = self._owner.shape
        # A quarter of the extent may lie outside: it seldom holds less than a fifth of the ink.
        slack_y, slack_x = ink.shape[0] // 4, ink.shape[1] // 4
        total = int(ink.sum())
        for _ in range(PLACE_TRIES):
            left = int(rng.integers(-slack_x, width - ink.shape[1] + slack_x + 1))
            top = int(rng.integers(-slack_y, height - ink.shape[0] + slack_y + 1))
            if self._leaves_enough(ink, (left, top), total):
                return left, top
        return None

    def put(self, ink: np.ndarray, place: tuple[int, int]) -> np.ndarray:
        """Lay an object on top of the others.

        Args:
            ink: Bool (height, width), as given to `find_place`.
            place: Left and top of the ink in the scene.

        Returns:
            Bool (height, width) of the scene: the object's ink inside the image.
        """
        region, inside = self._overlap(ink, place)
        mask = np.zeros(self._owner.shape, np.bool_)
        mask[region] = inside
        lost = np.bincount(self._owner[mask], minlength=len(self._total))
        self._visible = np.append(self._visible - lost, inside.sum())
        self._total = np.append(self._total, ink.sum())
        self._owner[mask] = len(self._total) - 1
        return mask

    def _leaves_enough(self, ink: np.ndarray, place: tuple[int, int], total: int) -> bool:
        region, inside = self._overlap(ink, place)
        if not _is_enough(np.int64(inside.sum()), np.int64(total)):
            return False
        lost = np.bincount(self._owner[region][inside], minlength=len(self._total))
        return bool(_is_enough((self._visible - lost)[1:], self._total[1:]).all())

    def _overlap(
        self, ink: np.ndarray, place: tuple[int, int]
    ) -> tuple[tuple[slice, slice], np.ndarray]:
        """The part of the scene under the ink's rectangle, and the ink there."""
        left, top = place
        height, width = self._owner.shape
        rows = slice(max(0, top), min(height, top + ink.shape[0]))
        columns = slice(max(0, left), min(width, left + ink.shape[1]))
        inside = ink[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left]
        return (rows, columns), inside


def _is_enough(visible: np.ndarray | np.int64, total: np.ndarray | np.int64) -> np.ndarray:
    return np.asarray(100 * visible >= (100 - MAX_LOST_PERCENT) * total)
