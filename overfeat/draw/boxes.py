"""What do boxes look like on their image?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Real, UInt8
from PIL import Image, ImageDraw

from overfeat.draw.checks import check_image
from overfeat.draw.colors import color_of
from overfeat.draw.outlines import choose_line_width, draw_outline, place_corners
from overfeat.draw.tags import draw_tag, lay_out_tags
from overfeat.draw.text import load_font_for


def draw_boxes(
    image: UInt8[np.ndarray, "h w 3"],
    boxes_xyxy: Real[np.ndarray, "n 4"],
    labels: Sequence[str],
    scores: Sequence[float] | Float[np.ndarray, " n"] | None = None,
    *,
    width: int | None = None,
) -> UInt8[np.ndarray, "h w 3"]:
    """Draw boxes with their labels and scores on a copy of an image.

    The first box lies on top, so pass the best one first. A tag stands above its box, or inside or
    below where there is no room or another tag; it never leaves the image. A box is clipped to the
    image, a label too long for the image is shortened, and in an image too small for any text only
    the outlines are drawn. Pillow's built-in font covers ASCII.

    Args:
        image: RGB pixels; not modified.
        boxes_xyxy: finite half-open pixels of `image` (x_min, y_min, x_max, y_max).
        labels: one for each box.
        scores: one for each box, written after the label with two decimals.
        width: of the lines, in pixels, at least 1; by default it follows the image's size.

    Returns:
        A new array, (h, w, 3), uint8, in the frame of `image`.

    Raises:
        ValueError: a shape, a count, a corner or the width is not as above.
    """
    check_image("draw_boxes", image)
    _check_boxes(boxes_xyxy, labels, scores)
    shorter = min(image.shape[:2])
    if width is None:
        width = choose_line_width(shorter)
    if width < 1:
        raise ValueError(f"draw_boxes: width is {width} pixels, need at least 1")
    pixels = image.copy()
    corners = [place_corners(box, image.shape[:2]) for box in boxes_xyxy]
    for box, label in reversed(list(zip(corners, labels, strict=True))):
        draw_outline(pixels, box, color_of(label), width)
    canvas = Image.fromarray(pixels)
    pen = ImageDraw.Draw(canvas)
    font = load_font_for(shorter)
    for tag in reversed(lay_out_tags(canvas.size, corners, labels, scores, font)):
        draw_tag(pen, tag, font)
    return np.array(canvas)


def _check_boxes(
    boxes_xyxy: np.ndarray, labels: Sequence[str], scores: Sequence[float] | np.ndarray | None
) -> None:
    if boxes_xyxy.shape[1:] != (4,):
        raise ValueError(
            f"draw_boxes: boxes_xyxy has the shape {boxes_xyxy.shape}, expected (n, 4); "
            "no boxes are np.empty((0, 4))"
        )
    for name, values in (("labels", labels), ("scores", scores)):
        if values is not None and len(values) != len(boxes_xyxy):
            raise ValueError(
                f"draw_boxes: {len(values)} {name} for {len(boxes_xyxy)} boxes, expected as many"
            )
    is_sound = np.isfinite(boxes_xyxy).all(axis=1)
    is_sound &= (boxes_xyxy[:, :2] <= boxes_xyxy[:, 2:]).all(axis=1)
    if not is_sound.all():
        worst = int(np.argmin(is_sound))
        raise ValueError(
            f"draw_boxes: box {worst} is {boxes_xyxy[worst].tolist()}, "
            "expected finite x_min <= x_max and y_min <= y_max"
        )
