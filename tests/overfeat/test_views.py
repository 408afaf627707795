"""Which views of an image there are, where crops lie, and in which batches views are looked at."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from overfeat.scales import Canvas, place
from overfeat.views import View, ViewPlan, place_crop, plan_batches, prepare_image
from tests.overfeat.builders import FEW, MANY, make_image

LADDER = (Canvas(245, 245), Canvas(281, 317))
sides = st.integers(1, 900)


def make_plan(**fields):
    return ViewPlan(**{"views": "dense", "scales": LADDER, "window": 221, "flips": False} | fields)


def list_plan(sizes, *, batch_pixels=2_000_000, **fields):
    return list(plan_batches(sizes, make_plan(**fields), batch_pixels=batch_pixels))


def list_crops(height, width, **fields):
    """Top, left and side of each crop in the scaled image."""
    placements = make_plan(**fields).place(height=height, width=width)
    return [(-where.top, -where.left, where.canvas.height) for where in placements]


def test_every_image_has_its_views_by_scale_then_flip():
    sizes = [(300, 400), (400, 300), (50, 50)]
    plan = list_plan(sizes, flips=True)
    for image, (height, width) in enumerate(sizes):
        own = [view for batch in plan for view in batch if view.image == image]
        placements = [place(canvas, height=height, width=width) for canvas in LADDER]
        assert own == [
            View(image, placement, flipped, scale)
            for scale, placement in enumerate(placements)
            for flipped in (False, True)
        ]


@FEW
@given(
    st.lists(st.tuples(sides, sides), max_size=9),
    st.booleans(),
    st.sampled_from([1, 100_000, 160_000, 2_000_000]),
)
def test_a_batch_has_equal_canvases_and_not_more_pixels_than_allowed(sizes, flips, batch_pixels):
    plan = list_plan(sizes, flips=flips, batch_pixels=batch_pixels)
    for batch in plan:
        canvas = batch[0].placement.canvas
        assert {view.placement.canvas for view in batch} == {canvas}
        pixels = len(batch) * canvas.height * canvas.width
        assert pixels <= batch_pixels or len(batch) == 1
    seen = [(view.image, view.placement.canvas, view.flipped) for batch in plan for view in batch]
    assert len(seen) == len(set(seen)) == len(sizes) * len(LADDER) * (2 if flips else 1)


def test_a_batch_holds_as_many_views_as_fit():
    batches = list_plan([(300, 300)] * 5, scales=LADDER[:1], batch_pixels=2 * 245 * 245)
    assert [[view.image for view in batch] for batch in batches] == [[0, 1], [2, 3], [4]]


@FEW
@given(st.lists(st.tuples(sides, sides), min_size=1, max_size=4), st.booleans())
def test_of_ten_views_of_each_image_half_are_mirrored(sizes, flips):
    plan = list_plan(sizes, views="ten-view", flips=flips)
    for image in range(len(sizes)):
        own = [view for batch in plan for view in batch if view.image == image]
        assert sorted((view.scale, view.flipped) for view in own) == [
            (crop, flipped) for crop in range(5) for flipped in (False, True)
        ]


@pytest.mark.parametrize("views", ["centre-crop", "original"])
def test_the_one_crop_is_mirrored_only_when_asked(views):
    for flips, expected in ((False, [False]), (True, [False, True])):
        (*batches,) = list_plan([(300, 400)], views=views, flips=flips)
        assert [view.flipped for batch in batches for view in batch] == expected


def test_five_crops_are_the_corners_and_the_centre_of_the_central_square():
    # The short side becomes 256; the central square begins at column (384 - 256) / 2 = 64.
    crops = list_crops(512, 768, views="ten-view", window=224)
    assert crops == [
        (0, 64, 224),
        (0, 96, 224),
        (32, 64, 224),
        (32, 96, 224),
        (16, 80, 224),
    ]
    upright = list_crops(768, 512, views="ten-view", window=224)
    assert upright == [(x, y, side) for y, x, side in [crops[i] for i in (0, 2, 1, 3, 4)]]


def test_the_centre_crop_is_the_window_in_the_middle():
    assert list_crops(512, 768, views="centre-crop", window=224) == [(16, 80, 224)]
    assert list_crops(256, 256, views="centre-crop", window=221) == [(17, 17, 221)]


@pytest.mark.parametrize("window", [221, 231])
def test_the_original_program_takes_231_pixels_from_the_middle_for_every_network(window):
    """`-resize 231x231^`, then a square of the short side at (long - short) / 2, rounded down."""
    assert list_crops(231, 300, views="original", window=window) == [(0, 34, 231)]
    assert list_crops(462, 1000, views="original", window=window) == [(0, 134, 231)]
    assert list_crops(1000, 462, views="original", window=window) == [(134, 0, 231)]


@MANY
@given(sides, sides, st.sampled_from(["ten-view", "centre-crop", "original"]))
def test_a_crop_is_filled_by_the_image(height, width, views):
    for where in make_plan(views=views).place(height=height, width=width):
        assert min(where.fitted_height, where.fitted_width) == (231 if views == "original" else 256)
        assert where.top <= 0 <= where.top + where.fitted_height - where.canvas.height
        assert where.left <= 0 <= where.left + where.fitted_width - where.canvas.width


@MANY
@given(sides, sides)
def test_a_crop_is_taken_from_an_image_of_its_own_proportions(height, width):
    where = place_crop(221, 256, (0.5, 0.5), height=height, width=width)
    factor = 256 / min(height, width)
    assert abs(where.fitted_height - height * factor) <= 0.5
    assert abs(where.fitted_width - width * factor) <= 0.5


def test_a_box_in_a_crop_comes_back_to_the_image():
    # Twice the size of the scaled image; the last corner begins at row 32, column 64 + 32.
    where = make_plan(views="ten-view", window=224).place(height=512, width=768)[3]
    box = np.array([[0, 0, 100, 50]], dtype=np.float32)
    assert View(0, where, flipped=False).to_image(box).tolist() == [[192, 64, 392, 164]]
    # In the mirrored crop its first columns are the last ones: 224 - 100 = 124.
    mirrored = View(0, where, flipped=True).to_image(box)
    assert mirrored.tolist() == [[192 + 2 * 124, 64, 192 + 2 * 224, 164]]


def test_an_image_is_reduced_to_the_largest_of_all_plans():
    image = make_image(1000, 1200)
    small, large = make_plan(), make_plan(scales=(Canvas(300, 400),))
    # The larger one fits 300 rows; ten views scale the short side to 256.
    for plans, rows in (
        ([small], 264),
        ([small, large], 300),
        ([large, small], 300),
        ([make_plan(views="ten-view")], 256),
        ([make_plan(views="original")], 231),
    ):
        prepared = prepare_image(image, plans)
        assert prepared.pixels.shape[0] == rows
        assert (prepared.height, prepared.width) == (1000, 1200)


def test_a_plan_without_room_for_a_window_is_refused():
    with pytest.raises(ValueError, match=r"received 245x245, expected at least 250x250"):
        make_plan(window=250)
