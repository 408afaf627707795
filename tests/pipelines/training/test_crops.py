"""Do the labels of a crop's windows fit its pixels?"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from overfeat.checkpoint import NYU_NORMALIZATION
from overfeat.geometry import map_size, window_boxes
from overfeat.scales import Canvas
from overfeat.targets import IGNORED, TargetConfig, decode_edges
from overfeat.zoo import TINY
from pipelines.errors import InputError
from pipelines.training.crops import CropConfig, CropMaker, TrainingImage

SIDE = 317
BACKGROUND = 7
BOX = (60.0, 50.0, 190.0, 170.0)


def make_maker(**changes):
    settings = {"side": SIDE, "colour_jitter": 0.0, "object_share": 1.0}
    return CropMaker(
        architecture=TINY,
        normalization=NYU_NORMALIZATION,
        ladder=(Canvas(245, 245), Canvas(317, 389)),
        background=BACKGROUND,
        targets=TargetConfig(),
        config=CropConfig(**settings | changes),
        context=False,
    )


def make_image(*boxes, height=240, width=320):
    """A dark picture with bright rectangles."""
    pixels = np.zeros((height, width, 3), np.uint8)
    for x_min, y_min, x_max, y_max in boxes:
        pixels[int(y_min) : int(y_max), int(x_min) : int(x_max)] = 255
    return TrainingImage(
        pixels=pixels,
        boxes_xyxy=np.array(boxes, np.float32).reshape(-1, 4),
        labels=np.arange(len(boxes), dtype=np.int64) + 3,
    )


def bright_bounds(canvas):
    """Corners of the bright pixels: brighter than half way from black to white."""
    rows, columns = np.nonzero(canvas[0] > (127.5 - 118.38) / 61.9)
    return np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])


def window_grid():
    cells = map_size(TINY, SIDE, "fine")
    return window_boxes(TINY, cells, cells, "fine").reshape(-1, 4)


@pytest.mark.parametrize("portrait", [False, True])
def test_the_edges_of_a_window_bound_the_object_in_the_pixels(portrait):
    maker, image = make_maker(), make_image(BOX)
    checked = 0
    for seed in range(30):
        crop = maker.draw(image, np.random.default_rng(seed), portrait=portrait)
        found = crop.labels == 3
        assert set(np.unique(crop.labels)) <= {3, BACKGROUND, IGNORED}
        if not found.any():
            continue
        boxes = decode_edges(crop.edges[found], window_grid()[found])
        # Every window that shows the object says the same of it.
        np.testing.assert_allclose(boxes - boxes[:1], 0, atol=0.01)
        expected = np.clip(boxes[0], 0, SIDE)
        np.testing.assert_allclose(bright_bounds(crop.canvas), expected, atol=1.5)
        checked += 1
    assert checked >= 10


def test_windows_without_an_object_have_no_edges():
    crop = make_maker().draw(make_image(BOX), np.random.default_rng(0), portrait=True)
    assert (crop.edges[crop.labels != 3] == 0).all()
    assert (crop.edges[crop.labels == 3] != 0).any()


def test_an_image_without_objects_is_all_background():
    for portrait in (False, True):
        crop = make_maker().draw(make_image(), np.random.default_rng(0), portrait=portrait)
        assert (crop.labels == BACKGROUND).all()


def test_a_portrait_shows_its_object_in_the_middle_window():
    maker, image = make_maker(), make_image(BOX)
    for seed in range(20):
        crop = maker.draw(image, np.random.default_rng(seed), portrait=True)
        assert (crop.labels == 3).any()
        x_min, y_min, x_max, y_max = bright_bounds(crop.canvas)
        filled = max(x_max - x_min, y_max - y_min) / TINY.window
        assert 0.5 - 0.02 <= filled <= 0.95 + 0.02
        centre = np.array([x_min + x_max, y_min + y_max]) / 2
        assert np.abs(centre - SIDE / 2).max() <= 0.05 * SIDE + 2


def test_a_crop_is_of_the_given_side_and_the_padding_is_the_mean_colour():
    small = make_image((2.0, 2.0, 18.0, 18.0), height=20, width=200)
    crop = make_maker().draw(small, np.random.default_rng(0), portrait=False)
    assert crop.canvas.shape == (3, SIDE, SIDE)
    assert crop.canvas.dtype == np.float32
    assert len(crop.labels) == len(crop.edges) == len(window_grid())
    black, white = (0 - 118.38) / 61.9, (255 - 118.38) / 61.9
    assert (crop.canvas == 0).mean() > 0.5
    assert crop.canvas.min() == pytest.approx(black, abs=0.01)
    assert crop.canvas.max() == pytest.approx(white, abs=0.01)


def test_a_crop_is_a_function_of_its_random_numbers():
    maker, image = make_maker(colour_jitter=0.2), make_image(BOX)
    crops = [maker.draw(image, np.random.default_rng(seed), portrait=False) for seed in (5, 5, 6)]
    assert np.array_equal(crops[0].canvas, crops[1].canvas)
    assert np.array_equal(crops[0].edges, crops[1].edges)
    assert not np.array_equal(crops[0].canvas, crops[2].canvas)


def test_the_scales_of_the_crops_reach_both_ends_of_the_ladder_and_lie_evenly_between():
    maker = make_maker(scale_jitter=0.1, spread=0.05)
    maker = replace(maker, ladder=(Canvas(245, 245), Canvas(317, 317), Canvas(389, 461)))
    image = make_image((80.0, 60.0, 240.0, 180.0))
    draws = [maker.draw(image, np.random.default_rng(seed), portrait=False) for seed in range(160)]
    bounds = np.array([bright_bounds(crop.canvas) for crop in draws])
    # Seen in the pixels, to one in a hundred: an object of 160 pixels that lies within each crop.
    found = np.log((bounds[:, 2] - bounds[:, 0]) / 160)
    # The picture is 320 pixels wide.
    ends = np.log([245 / 320 / 1.1, 461 / 320 * 1.1])
    np.testing.assert_allclose([found.min(), found.max()], ends, atol=0.02)
    counts, _ = np.histogram(found, bins=8, range=(ends[0] - 0.02, ends[1] + 0.02))
    assert counts.min() > 160 / 8 / 2


def test_colour_jitter_changes_brightness_and_contrast_and_not_the_padding():
    small = make_image((2.0, 2.0, 18.0, 18.0), height=20, width=200)
    plain, jittered = (
        make_maker(colour_jitter=jitter).draw(small, np.random.default_rng(5), portrait=False)
        for jitter in (0.0, 0.3)
    )
    assert np.array_equal(plain.labels, jittered.labels)
    padding = plain.canvas == 0
    assert (jittered.canvas[padding] == 0).all()
    before, after = plain.canvas[~padding], jittered.canvas[~padding]
    gain, shift = np.polyfit(before, after, 1)
    np.testing.assert_allclose(after, gain * before + shift, atol=1e-4)
    assert abs(gain - 1) > 0.01
    assert abs(shift) > 0.01


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("object_share", 1.5),
        ("spread", -0.1),
        ("spread", math.inf),
        ("scale_jitter", -2.0),
        ("colour_jitter", math.nan),
        ("colour_jitter", math.inf),
        ("portrait_spread", -1.0),
        ("portrait_fill", (0.9, 0.5)),
        ("portrait_fill", (0.9, math.inf)),
    ],
)
def test_a_setting_out_of_range_is_refused(name, value):
    with pytest.raises(InputError, match=f"--{name.replace('_', '-')}: received"):
        CropConfig(**{name: value})
