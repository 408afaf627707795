"""Pictures: as large as asked, with their boxes in the right place."""

from __future__ import annotations

import base64
import io

import numpy as np
from PIL import Image

from overfeat.draw import color_of
from pipelines.report.load import ShownBox, ShownImage
from pipelines.report.pictures import BOXES_AT_MOST, IMAGES_AT_ONCE, MAX_ENLARGEMENT, make_pictures
from pipelines.storage import ObjectInfo


def save_image(path, width, height):
    Image.fromarray(np.full((height, width, 3), 90, dtype=np.uint8)).save(path)
    return path


def describe(path, width, height, *boxes):
    shown = tuple(ShownBox(label="cat", score=0.9, evidence=1.0, xyxy=box) for box in boxes)
    listed = ObjectInfo(uri=str(path))
    return ShownImage(listed=listed, width=width, height=height, classes=(), boxes=shown, n_below=0)


def open_picture(picture):
    data = base64.b64decode(picture.data_uri.removeprefix("data:image/jpeg;base64,"))
    return np.array(Image.open(io.BytesIO(data)))


def test_the_longer_side_is_the_one_asked_for(tmp_path):
    path = save_image(tmp_path / "a.png", 300, 600)
    (picture,) = make_pictures([describe(path, 300, 600)], thumbnail_px=200)
    assert (picture.width, picture.height) == (100, 200)
    assert open_picture(picture).shape == (200, 100, 3)


def test_a_tiny_image_is_enlarged_but_not_without_end(tmp_path):
    path = save_image(tmp_path / "a.png", 16, 8)
    (picture,) = make_pictures([describe(path, 16, 8)], thumbnail_px=400)
    assert (picture.width, picture.height) == (16 * MAX_ENLARGEMENT, 8 * MAX_ENLARGEMENT)


def test_boxes_shrink_with_the_image(tmp_path):
    path = save_image(tmp_path / "a.png", 800, 800)
    shown = describe(path, 800, 800, (200, 400, 600, 720))
    pixels = open_picture(next(make_pictures([shown], thumbnail_px=400))).astype(int)
    near = np.abs(pixels - color_of("cat")).sum(axis=2) < 60
    rows, columns = np.nonzero(near[200:])
    assert abs(columns.min() - 100) <= 1
    assert abs(columns.max() - 299) <= 1
    assert abs(rows.max() + 200 - 359) <= 1


def test_of_very_many_boxes_the_best_are_drawn(tmp_path):
    path = save_image(tmp_path / "a.png", 400, 400)
    best = [(10, 10, 200, 200)] * BOXES_AT_MOST
    few, many = (
        next(make_pictures([describe(path, 400, 400, *boxes)], thumbnail_px=400))
        for boxes in (best, [*best, (220, 220, 380, 380)])
    )
    assert few == many


def test_pictures_come_in_the_order_of_the_images(tmp_path):
    shown = []
    for width in range(70, 70 + 2 * IMAGES_AT_ONCE + 1):
        path = save_image(tmp_path / f"{width}.png", width, 10)
        shown.append(describe(path, width, 10))
    shown[3] = describe(tmp_path / "gone.png", 73, 10)
    pictures = list(make_pictures(shown, thumbnail_px=64))
    assert [picture.data_uri is None for picture in pictures] == [x == 3 for x in range(9)]
    assert pictures[3].problem.startswith("not_found")
