"""Draw how one pass over a canvas evaluates all windows: the geometry of dense evaluation.

python examples/dense_evaluation.py [IMAGE [PICTURE]]

Left: an image on a canvas of 281x317, the centres of its windows coloured by the offset at which
the last pooling is taken, one window (white) and what that window really sees (dashed, with the
zero-padding around the canvas). Right: the map of each offset, and all of them interleaved.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw

from overfeat.checkpoint import NYU_NORMALIZATION
from overfeat.geometry import map_size, receptive_field, window_boxes
from overfeat.scales import Canvas, place, render
from overfeat.zoo import ACCURATE

SCENE = Path(__file__).with_name("scene.jpg")
CANVAS = Canvas(281, 317)
SHOWN = (2, 5)  # row and column of the window that is drawn
ZOOM = 2
MARGIN = 60  # canvas pixels around the canvas, to show zero-padding
CELL = 44  # of the maps on the right
OFFSETS = ACCURATE.offset_pool.stride
# One colour per offset: its row decides the hue, its column how light it is.
COLOURS = [
    [(230, 90, 60), (245, 140, 110), (255, 195, 175)],
    [(60, 160, 80), (115, 200, 130), (180, 235, 190)],
    [(70, 110, 220), (125, 160, 240), (190, 210, 255)],
]


def main(image_path: str | Path = SCENE, picture: str = "dense_evaluation.png") -> None:
    """Print the sizes of the maps, and save the picture."""
    rows, cols = (map_size(ACCURATE, side, "fine") for side in (CANVAS.height, CANVAS.width))
    coarse = [map_size(ACCURATE, side, "coarse") for side in (CANVAS.height, CANVAS.width)]
    print(f"{CANVAS}: {OFFSETS * OFFSETS} maps of {coarse[0]}x{coarse[1]} -> {rows}x{cols} windows")
    left = draw_canvas(image_path, rows, cols)
    right = draw_maps(rows, cols, height=left.height)
    whole = Image.new("RGB", (left.width + right.width, left.height), "white")
    whole.paste(left, (0, 0))
    whole.paste(right, (left.width, 0))
    whole.save(picture)


def draw_canvas(image_path: str | Path, rows: int, cols: int) -> Image.Image:
    """Draw the canvas, the centres of its windows, and one window."""
    side = (ZOOM * (CANVAS.width + 2 * MARGIN), ZOOM * (CANVAS.height + 2 * MARGIN))
    drawing = Image.new("RGB", side, "white")
    drawing.paste(render_canvas(image_path), (ZOOM * MARGIN, ZOOM * MARGIN))
    pen = ImageDraw.Draw(drawing)
    windows = window_boxes(ACCURATE, rows, cols, "fine")
    for row, col in np.ndindex(rows, cols):
        x, y = to_picture((windows[row, col, :2] + windows[row, col, 2:]) / 2)
        colour = COLOURS[row % OFFSETS][col % OFFSETS]
        radius = 9 if (row, col) == SHOWN else 6
        pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour, outline="black")
    x0, y0, x1, y1 = to_picture(windows[SHOWN])
    pen.rectangle((x0, y0, x1, y1), outline="white", width=4)
    field = receptive_field(ACCURATE, stride="fine").boxes(rows, cols)[SHOWN]
    draw_dashes(pen, to_picture(field))
    pen.text(
        (12, 10),
        f"canvas {CANVAS}, windows of {ACCURATE.window} px every 12 px",
        "black",
        font_size=24,
    )
    legend = f"white: window {SHOWN}; dashed: its receptive field of 317 px"
    pen.text((12, drawing.height - 40), legend, "black", font_size=24)
    return drawing


def render_canvas(image_path: str | Path) -> Image.Image:
    """Draw the image on the canvas as the network gets it, back in pixels from 0 to 255."""
    image = np.array(Image.open(image_path).convert("RGB"))
    if image.shape[0] > image.shape[1]:
        sys.exit(f"{image_path}: portrait, expected a landscape image: the drawn canvas is one")
    placement = place(CANVAS, height=image.shape[0], width=image.shape[1])
    mean, std = (
        torch.tensor(values).view(3, 1, 1)
        for values in (NYU_NORMALIZATION.mean, NYU_NORMALIZATION.std)
    )
    pixels = torch.from_numpy(image).permute(2, 0, 1)
    canvas = render(pixels, placement, mean=mean, std=std) * std + mean
    drawn = Image.fromarray(canvas.round().byte().permute(1, 2, 0).numpy())
    return drawn.resize((ZOOM * drawn.width, ZOOM * drawn.height), Image.Resampling.NEAREST)


def to_picture(corners: np.ndarray) -> list[float]:
    """Canvas pixels -> pixels of the picture."""
    return [float(ZOOM * (corner + MARGIN)) for corner in corners]


def draw_dashes(pen: ImageDraw.ImageDraw, box: list[float], dash: int = 14) -> None:
    """Draw a dashed rectangle."""
    x0, y0, x1, y1 = box
    for start in np.arange(0, max(x1 - x0, y1 - y0), 2 * dash):
        x, y = x0 + start, y0 + start
        for edge in (y0, y1):
            if x < x1:
                pen.line((x, edge, min(x + dash, x1), edge), fill="black", width=3)
        for edge in (x0, x1):
            if y < y1:
                pen.line((edge, y, edge, min(y + dash, y1)), fill="black", width=3)


def draw_maps(rows: int, cols: int, *, height: int) -> Image.Image:
    """Draw the map of each offset, and below them the map that they interleave to."""
    drawing = Image.new("RGB", (cols * CELL + 2 * CELL, height), "white")
    pen = ImageDraw.Draw(drawing)
    pen.text((CELL, 10), "one map per offset of the last pooling", "black", font_size=24)
    for dy, dx in np.ndindex(OFFSETS, OFFSETS):
        for k_row, k_col in np.ndindex(rows // OFFSETS, cols // OFFSETS):
            row = dy * (rows // OFFSETS) + k_row
            col = dx * (cols // OFFSETS) + k_col
            gap = (CELL // 2 + dx * CELL // 4, 50 + dy * CELL // 4)
            draw_cell(pen, gap, (row, col), (OFFSETS * k_row + dy, OFFSETS * k_col + dx))
    top = 80 + (rows + 1) * CELL
    pen.text(
        (CELL, top - 35), f"interleaved: {rows}x{cols}, index = 3 k + offset", "black", font_size=24
    )
    for row, col in np.ndindex(rows, cols):
        draw_cell(pen, (CELL, top), (row, col), (row, col))
    return drawing


def draw_cell(
    pen: ImageDraw.ImageDraw, origin: tuple[int, int], at: tuple[int, int], cell: tuple[int, int]
) -> None:
    """Draw one output cell: its colour is that of its offset."""
    x, y = origin[0] + at[1] * CELL, origin[1] + at[0] * CELL
    colour = COLOURS[cell[0] % OFFSETS][cell[1] % OFFSETS]
    pen.rectangle(
        (x, y, x + CELL, y + CELL), fill=colour, outline="black", width=3 if cell == SHOWN else 1
    )
    pen.text(
        (x + CELL / 2, y + CELL / 2), f"{cell[0]},{cell[1]}", "black", font_size=16, anchor="mm"
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
