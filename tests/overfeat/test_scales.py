"""Images on canvases: where they lie, how boxes come back, what is drawn around them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from overfeat import scales
from overfeat.geometry import map_size, window_boxes
from overfeat.scales import Canvas, Placement, check_ladder, is_rising, place, render, shrink
from overfeat.targets import decode_edges, encode_edges
from overfeat.zoo import ACCURATE, FAST
from tests.overfeat.builders import FEW, MANY, make_image

LADDERS = {architecture.name: architecture.scales for architecture in (ACCURATE, FAST)}
canvases = st.builds(Canvas, st.integers(221, 600), st.integers(221, 600))
ladder_canvases = st.sampled_from([canvas for ladder in LADDERS.values() for canvas in ladder])
image_sides = st.integers(1, 4000)
PLAIN = {"mean": torch.zeros(3, 1, 1), "std": torch.ones(3, 1, 1)}


def draw_boxes_inside(height, width):
    """Boxes anywhere inside an image, thin ones too."""
    fractions = st.tuples(*[st.floats(0, 1)] * 4)

    def scale(values):
        x, y = sorted(values[:2]), sorted(values[2:])
        box = (x[0] * width, y[0] * height, x[1] * width, y[1] * height)
        return np.array([box], dtype=np.float32)

    return fractions.map(scale)


def shrink_to(image, ladder):
    """Reduce an image to what a ladder needs."""
    height, width = image.shape[:2]
    return shrink(image, [place(canvas, height=height, width=width) for canvas in ladder])


def upload(image):
    return torch.tensor(image).permute(2, 0, 1)


@MANY
@given(canvases, image_sides, image_sides)
def test_a_fitted_image_lies_inside_its_canvas_and_in_its_middle(canvas, height, width):
    placement = place(canvas, height=height, width=width)
    right = placement.canvas.width - placement.fitted_width - placement.left
    bottom = placement.canvas.height - placement.fitted_height - placement.top
    assert min(placement.top, placement.left) >= 0
    assert right - placement.left in {0, 1}
    assert bottom - placement.top in {0, 1}


@MANY
@given(canvases, image_sides, image_sides)
def test_a_fitted_image_keeps_its_aspect_and_fills_one_side(canvas, height, width):
    placement = place(canvas, height=height, width=width)
    fitted = placement.fitted_height, placement.fitted_width
    assert fitted[0] == placement.canvas.height or fitted[1] == placement.canvas.width
    factor = min(placement.canvas.height / height, placement.canvas.width / width)
    assert abs(fitted[0] - height * factor) <= 0.5 or fitted[0] == 1
    assert abs(fitted[1] - width * factor) <= 0.5 or fitted[1] == 1


@MANY
@given(canvases, image_sides, image_sides)
def test_a_turned_image_lies_on_the_turned_canvas(canvas, height, width):
    assume(height != width)
    upright = place(canvas, height=height, width=width)
    turned = place(canvas, height=width, width=height)
    assert turned.canvas == Canvas(upright.canvas.width, upright.canvas.height)
    assert (turned.fitted_height, turned.fitted_width) == (
        upright.fitted_width,
        upright.fitted_height,
    )
    assert (turned.top, turned.left) == (upright.left, upright.top)


def test_only_a_portrait_image_turns_the_canvas():
    canvas = Canvas(281, 317)
    assert place(canvas, height=640, width=480).canvas == Canvas(317, 281)
    assert place(canvas, height=480, width=640).canvas == canvas
    assert place(canvas, height=500, width=500).canvas == canvas


@MANY
@given(st.data(), canvases, image_sides, image_sides)
def test_boxes_on_a_canvas_come_back_to_the_image(data, canvas, height, width):
    boxes = data.draw(draw_boxes_inside(height, width))
    placement = place(canvas, height=height, width=width)
    on_canvas = placement.to_canvas(boxes)
    assert on_canvas.dtype == np.float32
    assert np.abs(placement.to_image(on_canvas) - boxes).max() <= 1e-2


@MANY
@given(st.data(), ladder_canvases, st.integers(20, 4000), st.integers(20, 4000))
def test_a_box_survives_the_way_to_a_window_and_back(data, canvas, height, width):
    boxes = data.draw(draw_boxes_inside(height, width))
    placement = place(canvas, height=height, width=width)
    architecture = ACCURATE if canvas in ACCURATE.scales else FAST
    rows = map_size(architecture, placement.canvas.height, "fine")
    cols = map_size(architecture, placement.canvas.width, "fine")
    cell = data.draw(st.integers(0, rows - 1)), data.draw(st.integers(0, cols - 1))
    window = window_boxes(architecture, rows, cols, "fine")[cell][None]
    edges = encode_edges(placement.to_canvas(boxes), window)
    assert np.abs(placement.to_image(decode_edges(edges, window)) - boxes).max() <= 1e-2


@MANY
@given(canvases, image_sides, image_sides)
def test_the_whole_image_takes_the_fitted_rectangle(canvas, height, width):
    placement = place(canvas, height=height, width=width)
    whole = np.array([[0, 0, width, height]], dtype=np.float32)
    left, top = placement.left, placement.top
    expected = [left, top, left + placement.fitted_width, top + placement.fitted_height]
    assert np.allclose(placement.to_canvas(whole), [expected], atol=1e-3)


@MANY
@given(canvases, image_sides, image_sides, st.integers(1, 250))
def test_a_window_counts_when_it_holds_a_pixel_of_the_image(canvas, height, width, side):
    placement = place(canvas, height=height, width=width)
    drawn = np.zeros((placement.canvas.height, placement.canvas.width), dtype=bool)
    rows = slice(placement.top, placement.top + placement.fitted_height)
    cols = slice(placement.left, placement.left + placement.fitted_width)
    drawn[rows, cols] = True
    y, x = np.meshgrid(np.arange(0, 601, 37), np.arange(0, 601, 41), indexing="ij")
    windows = np.stack([x, y, x + side, y + side], axis=-1).astype(np.float32)
    literal = [
        [drawn[int(b) : int(d), int(a) : int(c)].any() for a, b, c, d in row] for row in windows
    ]
    assert placement.sees_image(windows).tolist() == literal


def test_the_windows_above_and_below_a_panorama_do_not_count():
    placement = place(Canvas(461, 569), height=1, width=1000)
    windows = window_boxes(ACCURATE, 21, 30, "fine")
    counted = placement.sees_image(windows)
    # The image is row 230 of the canvas; a window is 221 rows high.
    assert counted.all(axis=1).tolist() == [12 * row <= 230 < 12 * row + 221 for row in range(21)]
    assert (~counted).sum() == 2 * 30


@pytest.mark.parametrize("ladder", sorted(LADDERS))
def test_some_window_sees_an_image_of_one_pixel_at_every_scale(ladder):
    architecture = {"accurate": ACCURATE, "fast": FAST}[ladder]
    for canvas in LADDERS[ladder]:
        rows, cols = (map_size(architecture, x, "coarse") for x in (canvas.height, canvas.width))
        windows = window_boxes(architecture, rows, cols, "coarse")
        assert place(canvas, height=1, width=5000).sees_image(windows).any()


@FEW
@given(
    st.builds(Canvas, st.integers(20, 60), st.integers(20, 60)),
    st.integers(1, 90),
    st.integers(1, 90),
)
def test_rendering_pads_with_zeros_and_the_rest_is_the_image(canvas, height, width):
    placement = place(canvas, height=height, width=width)
    image = np.full((height, width, 3), 90, dtype=np.uint8)
    mean = torch.tensor([10.0, 20.0, 30.0]).view(3, 1, 1)
    std = torch.tensor([2.0, 5.0, 4.0]).view(3, 1, 1)
    drawn = render(upload(image), placement, mean=mean, std=std)
    assert drawn.shape == (3, placement.canvas.height, placement.canvas.width)
    expected = np.zeros(drawn.shape, dtype=np.float32)
    rows = slice(placement.top, placement.top + placement.fitted_height)
    cols = slice(placement.left, placement.left + placement.fitted_width)
    for channel, value in enumerate((40.0, 14.0, 15.0)):
        expected[channel, rows, cols] = value
    assert np.allclose(drawn.numpy(), expected, atol=1e-4)


def test_an_image_of_the_canvas_size_is_drawn_pixel_for_pixel():
    image = make_image(245, 281)
    drawn = render(upload(image), place(Canvas(245, 281), height=245, width=281), **PLAIN)
    assert np.array_equal(drawn.numpy(), image.transpose(2, 0, 1))


@pytest.mark.parametrize(("top", "left"), [(-30, -70), (-30, 10), (15, -70)])
def test_a_placement_that_sticks_out_is_cut_by_the_canvas(top, left):
    image = make_image(120, 160)
    placement = Placement(
        canvas=Canvas(100, 90),
        image_height=120,
        image_width=160,
        fitted_height=120,
        fitted_width=160,
        top=top,
        left=left,
    )
    drawn = render(upload(image), placement, **PLAIN).numpy().transpose(1, 2, 0)
    expected = np.zeros((100, 90, 3))
    visible = image[max(0, -top) : 100 - top, max(0, -left) : 90 - left]
    y, x = max(0, top), max(0, left)
    expected[y : y + visible.shape[0], x : x + visible.shape[1]] = visible
    assert np.array_equal(drawn, expected)


@pytest.mark.parametrize("side", [90, 300, 700])
@pytest.mark.parametrize(("top", "left"), [(-40, -25), (10, -25), (-40, 30)])
def test_bytes_are_resized_to_within_a_grey_level_of_what_floats_give(side, top, left):
    placement = Placement(
        canvas=Canvas(100, 90),
        image_height=200,
        image_width=260,
        fitted_height=side,
        fitted_width=round(side * 1.3),
        top=top,
        left=left,
    )
    image = upload(make_image(200, 260))
    floats = render(image, placement, **PLAIN)
    rounded = render(image, placement, **PLAIN, in_bytes=True)
    assert rounded.shape == (3, 100, 90)
    # Half a level for the columns, half for the rows.
    assert (rounded - floats).abs().max() <= 1.001
    assert torch.equal(rounded, rounded.round())


@pytest.mark.parametrize("in_bytes", [False, True])
def test_an_image_that_is_fitted_to_one_column_keeps_its_rows(in_bytes):
    image = np.zeros((4000, 4, 3), np.uint8)
    image[:2000, :, 0] = image[2000:, :, 2] = 200
    placement = place(Canvas(245, 245), height=4000, width=4)
    drawn = render(upload(image), placement, **PLAIN, in_bytes=in_bytes)[:, :, placement.left]
    assert placement.fitted_width == 1
    assert drawn[0].round().tolist() == [200.0] * 122 + [100.0] + [0.0] * 122
    assert drawn[2].round().tolist() == [0.0] * 122 + [100.0] + [200.0] * 122


def test_a_mark_in_the_image_is_drawn_where_its_box_is_on_the_canvas():
    image = np.zeros((300, 640, 3), dtype=np.uint8)
    image[60:120, 400:480] = 255
    placement = place(Canvas(281, 317), height=300, width=640)
    drawn = render(upload(image), placement, **PLAIN)[0].numpy()
    rows, cols = np.nonzero(drawn > 127)
    box = placement.to_canvas(np.array([[400, 60, 480, 120]], dtype=np.float32))[0]
    found = [cols.min(), rows.min(), cols.max() + 1, rows.max() + 1]
    assert np.abs(found - box).max() <= 1


def test_shrinking_gives_the_size_of_the_largest_scale():
    image = make_image(1200, 1600)
    assert shrink_to(image, ACCURATE.scales).shape == (427, 569, 3)
    assert shrink_to(image.transpose(1, 0, 2), ACCURATE.scales).shape == (569, 427, 3)


@pytest.mark.parametrize("size", [(427, 569), (1, 1), (5, 5), (461, 461), (569, 12)])
def test_an_image_not_larger_than_the_largest_scale_stays_the_same_array(size):
    image = make_image(*size)
    assert shrink_to(image, ACCURATE.scales) is image


@FEW
@given(image_sides.filter(lambda side: side < 700), image_sides.filter(lambda side: side < 700))
def test_a_shrunk_image_is_placed_like_the_original(height, width):
    image = np.zeros((height, width, 3), dtype=np.uint8)
    scales = (Canvas(245, 245), Canvas(281, 317))
    small = shrink_to(image, scales)
    assert small.shape[0] <= height
    assert small.shape[1] <= width
    placements = [place(canvas, height=height, width=width) for canvas in scales]
    sizes = [(placement.fitted_height, placement.fitted_width) for placement in placements]
    assert small.shape[:2] == (height, width) or small.shape[:2] == max(sizes)


@pytest.mark.parametrize("factor", [1, 8])
def test_a_flat_image_stays_flat_however_much_it_is_shrunk(factor):
    for value in (1, 128, 255):
        image = np.full((300 * factor, 500 * factor, 3), value, dtype=np.uint8)
        small = shrink_to(image, [Canvas(245, 245)])
        assert (small == value).all()


def test_shrinking_is_within_one_level_of_exact_arithmetic():
    image = make_image(900, 1300)
    small = shrink_to(image, [Canvas(245, 317)])
    exact = torch.nn.functional.interpolate(
        upload(image)[None].double(), size=small.shape[:2], mode="bilinear", antialias=True
    )
    assert np.abs(exact[0].permute(1, 2, 0).numpy() - small).max() <= 1


def test_shrinking_gives_the_same_bits_on_one_and_two_threads():
    image = make_image(1500, 2100)
    threads = torch.get_num_threads()
    results = []
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            results.append(shrink_to(image, ACCURATE.scales))
    finally:
        torch.set_num_threads(threads)
    assert np.array_equal(*results)


def test_a_read_only_image_is_shrunk_without_a_warning():
    """Arrays from Ray's object store are read-only; torch warns of memory it could write to."""
    image = make_image(700, 900)
    expected = shrink_to(image, ACCURATE.scales)
    image.setflags(write=False)
    assert np.array_equal(shrink_to(image, ACCURATE.scales), expected)


@pytest.mark.parametrize("view", [np.s_[:, ::-1], np.s_[..., ::-1], np.s_[::2, ::3]])
def test_a_view_of_an_image_is_shrunk_like_its_copy(view):
    image = make_image(1400, 1800)[view]
    small = [shrink_to(array, ACCURATE.scales) for array in (image, image.copy())]
    assert np.array_equal(*small)


@pytest.mark.parametrize(
    "text", ["281", "281x", "x317", "281x317x3", "-5x30", "281*317", "", "axb"]
)
def test_a_scale_of_another_form_is_refused(text):
    with pytest.raises(ValueError, match=r"expected HEIGHTxWIDTH"):
        Canvas.parse(text)


@MANY
@given(canvases)
def test_a_scale_is_read_from_what_it_prints(canvas):
    assert Canvas.parse(str(canvas)) == canvas


@pytest.mark.parametrize(("height", "width"), [(0, 5), (5, 0)])
def test_a_canvas_and_an_image_need_pixels(height, width):
    with pytest.raises(ValueError, match=f"{height}x{width}"):
        Canvas(height, width)
    with pytest.raises(ValueError, match=f"{height}x{width}"):
        place(Canvas(245, 245), height=height, width=width)


def test_a_ladder_needs_a_canvas_and_room_for_a_window():
    check_ladder([Canvas(221, 221)], window=221)
    with pytest.raises(ValueError, match="at least one"):
        check_ladder([], window=221)
    with pytest.raises(ValueError, match=r"received 220x400, expected at least 221x221"):
        check_ladder([Canvas(245, 245), Canvas(220, 400)], window=221)


def test_a_ladder_rises_if_no_scale_is_smaller_than_the_one_before_it():
    low, wide, high = Canvas(245, 245), Canvas(221, 300), Canvas(281, 317)
    assert is_rising([])
    assert is_rising([high])
    assert is_rising([low, wide, high])
    assert is_rising([low, low])
    assert not is_rising([low, high, wide])
    assert not is_rising([wide, low])


def place_in_the_middle(side, *, fitted, height, width):
    """A canvas that shows the middle of an image that is much longer."""
    return Placement(
        canvas=Canvas(side, side),
        image_height=height,
        image_width=width,
        fitted_height=fitted[0],
        fitted_width=fitted[1],
        top=-(fitted[0] - side) // 2,
        left=-(fitted[1] - side) // 2,
    )


@pytest.mark.parametrize(("width", "factor"), [(3000, 2.56), (2999, 2.56), (24000, 0.4)])
def test_cutting_far_parts_off_moves_a_long_image_by_less_than_a_pixel(width, factor, monkeypatch):
    # A slope of one grey level per canvas pixel: a shift of one pixel would show as one level.
    slope = np.arange(width) * factor % 200
    image = np.broadcast_to(slope[:, None].astype(np.uint8), (100, width, 3))
    fitted = (256, round(width * factor))
    placement = place_in_the_middle(221, fitted=fitted, height=100, width=width)
    cut = render(upload(image), placement, **PLAIN)
    monkeypatch.setattr(scales, "FAR_SIDES", 10**9)
    whole = render(upload(image), placement, **PLAIN)
    assert cut.shape == whole.shape == (3, 221, 221)
    assert (cut - whole).abs().median() <= 1


def test_a_strip_of_one_pixel_is_drawn_without_enlarging_all_of_it():
    image = np.full((1, 20_000, 3), 77, dtype=np.uint8)
    placement = place_in_the_middle(221, fitted=(256, 5_120_000), height=1, width=20_000)
    # Enlarged whole it would be 16 GB.
    assert (render(upload(image), placement, **PLAIN) == 77).all()
