"""Is a crop told by the same place at the scale below, and does training learn to listen?"""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import given
from hypothesis import strategies as st

import overfeat
from overfeat.architectures import narrow
from overfeat.checkpoint import Normalization, read_config, write_config
from overfeat.network import OverFeat, initialize
from overfeat.scales import Canvas, Placement, place, render
from overfeat.zoo import TINY
from pipelines.errors import InputError
from pipelines.training.context import (
    TwoScales,
    draw_lower_scale,
    join_lower_scales,
    make_blank_lower_scale,
)
from pipelines.training.examples import make_blank
from pipelines.training.run import plan_job
from tests.builders import make_checkpoint, write_scenes
from tests.overfeat.builders import FEW
from tests.pipelines.training.test_examples import make, make_maker, make_metadata, make_object
from tests.pipelines.training.tiny_training import make_train_config, train_here

HEIGHT, WIDTH = 400, 500
LADDER = (Canvas(245, 245), Canvas(389, 389), Canvas(605, 605))
SIDE, CELLS, FIRST, STEP = 317, 9, 110, 12
"""A crop, its map, the pixel in the middle of its first window, and the next window's distance."""


def show_places():
    """An image whose red says how far to the right a pixel is, from 0 to 1, its green how low."""
    x = np.broadcast_to((np.arange(WIDTH) + 0.5) / WIDTH, (HEIGHT, WIDTH))
    y = np.broadcast_to((np.arange(HEIGHT)[:, None] + 0.5) / HEIGHT, (HEIGHT, WIDTH))
    return torch.from_numpy(np.stack([x, y, np.ones_like(x)]) * 255).to(torch.uint8)


def draw_places(placement):
    zero, one = torch.zeros(3, 1, 1), torch.full((3, 1, 1), 255.0)
    return render(show_places(), placement, mean=zero, std=one).numpy()


def crop_at(factor, top, left):
    return Placement(
        canvas=Canvas(SIDE, SIDE),
        image_height=HEIGHT,
        image_width=WIDTH,
        fitted_height=round(HEIGHT * factor),
        fitted_width=round(WIDTH * factor),
        top=top,
        left=left,
    )


def tell(placement):
    return draw_lower_scale(placement, ladder=LADDER, architecture=TINY, draw=draw_places)


def scales_of(canvas):
    """Pixels of an image of places in which red rises by 1 along rows, and green along columns."""
    scales = []
    for channel, axis in ((0, 0), (1, 1)):
        shown = canvas[channel].max(axis=axis)[(canvas[2] > 0.99).any(axis=axis)]
        scales.append((len(shown) - 1) / (shown[-1] - shown[0]))
    return np.array(scales)


def test_the_lower_scale_is_smaller_by_the_step_of_the_ladder():
    wide = [place(canvas, height=HEIGHT, width=WIDTH).fitted_width for canvas in LADDER]
    for below, at in pairwise(wide):
        for jitter in (0.95, 1.0, 1.1):
            placement = crop_at(at * jitter / WIDTH, top=-20, left=-30)
            ratios = scales_of(draw_places(placement)) / scales_of(tell(placement).canvas)
            assert ratios == pytest.approx(at / below, rel=0.02)


@FEW
@given(st.floats(0.65, 1.3), st.integers(-250, 60), st.integers(-350, 60))
def test_each_window_is_told_by_the_nearest_one_that_evaluation_has(factor, top, left):
    placement = crop_at(factor, top, left)
    lower = tell(placement)
    wide = [place(canvas, height=HEIGHT, width=WIDTH) for canvas in LADDER]
    at = min(wide, key=lambda one: abs(np.log(one.fitted_width / placement.fitted_width)))
    below = wide[wide.index(at) - 1]
    # Per pixel of the image, at the lower crop.
    lower_factor = factor * below.fitted_width / at.fitted_width
    half = TINY.window / 2 / lower_factor
    axes = (
        (lower.rows, top, HEIGHT, below.top, below.fitted_height, below.canvas.height),
        (lower.cols, left, WIDTH, below.left, below.fitted_width, below.canvas.width),
    )
    for axis, (chosen, start, length, edge, fitted, frame) in enumerate(axes):
        assert chosen.shape == (CELLS, CELLS)
        assert (chosen.sum(axis=1) == 1).all()
        low, high = (-edge / fitted * length + half, (frame - edge) / fitted * length - half)
        low, high = min(low, length / 2), max(high, length / 2)
        wanted = np.clip((STEP * np.arange(CELLS) + FIRST + 0.5 - start) / factor, low, high)
        middle = [FIRST + STEP * int(place) for place in chosen.argmax(axis=1)]
        seen = lower.canvas[1 - axis].max(axis=1 - axis)[middle] * length
        # Padding shows no place.
        inside = (wanted > 5) & (wanted < length - 5)
        assert (np.abs(seen - wanted) < STEP / 2 / lower_factor + 3)[inside].all(), axis


def test_the_lowest_scale_is_told_nothing_and_sees_no_blank_canvas():
    placement = crop_at(245 / WIDTH * 1.05, top=20, left=30)
    lower = tell(placement)
    assert not lower.rows.any()
    assert np.array_equal(lower.canvas, draw_places(placement))


def test_of_equal_scales_the_larger_is_told():
    wide, square = Canvas(245, 400), Canvas(245, 245)
    tall = Placement(
        canvas=Canvas(SIDE, SIDE),
        image_height=300,
        image_width=300,
        fitted_height=245,
        fitted_width=245,
        top=0,
        left=0,
    )
    lower = draw_lower_scale(tall, ladder=(square, wide), architecture=TINY, draw=draw_places)
    assert lower.rows.any()


@pytest.fixture(scope="module")
def network():
    made = OverFeat(narrow(TINY, divisor=4), outputs=3, context=True)
    initialize(made, seed=3)
    return made.eval()


def test_a_crop_is_told_what_the_chosen_windows_say(network):
    source = np.random.default_rng(1)
    lowers = [
        replace(
            make_blank_lower_scale(SIDE, CELLS),
            canvas=source.normal(size=(3, SIDE, SIDE)).astype(np.float32),
            rows=np.eye(CELLS, dtype=np.float32)[source.integers(CELLS, size=CELLS)],
            cols=np.eye(CELLS, dtype=np.float32)[source.integers(CELLS, size=CELLS)],
        )
        for _ in range(2)
    ]
    batch = join_lower_scales(lowers)
    canvases = torch.from_numpy(source.normal(size=(2, 3, SIDE, SIDE)).astype(np.float32))
    with torch.inference_mode():
        told = network(batch.canvases, "fine").context
        context = torch.stack(
            [
                values[:, one.rows.argmax(axis=1)][:, :, one.cols.argmax(axis=1)]
                for values, one in zip(told, lowers, strict=True)
            ]
        )
        expected = network(canvases, "fine", context=context).logits
        found = TwoScales(network)(canvases, batch.canvases, batch.rows, batch.cols).logits
        untold = network(canvases, "fine").logits
    assert torch.equal(found, expected)
    assert not torch.allclose(found, untold)


def test_who_is_told_nothing_says_what_a_network_without_context_says(network):
    blank = make_blank(SIDE, CELLS, context=True)
    canvases = torch.full((1, 3, SIDE, SIDE), 0.5)
    with torch.inference_mode():
        lower = (blank.lower.canvases + 1, blank.lower.rows, blank.lower.cols)
        found = TwoScales(network)(canvases, *lower).logits
        assert torch.equal(found, network(canvases, "fine").logits)


def test_context_changes_nothing_else_of_an_example():
    plain, metadata = make_maker("joint"), make_metadata(make_object())
    told = replace(plain, context=True)
    for seed in range(5):
        one, other = make(plain, metadata, seed=seed), make(told, metadata, seed=seed)
        assert one.lower is None
        assert other.lower is not None
        assert np.array_equal(one.canvas, other.canvas)
        assert np.array_equal(one.labels, other.labels)
        assert one.seed == other.seed


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    return write_scenes(tmp_path_factory.mktemp("scenes"), 10)


@pytest.fixture(scope="module")
def trained(scenes, tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    config = make_train_config(
        scenes,
        folder,
        task="detect",
        context=True,
        scales=("245x245", "317x317"),
        recipe={"averaging": 0.0, "epochs": 1},
    )
    train_here(config)
    return config, folder


def test_detect_with_context_learns_to_listen(trained):
    config, folder = trained
    tensors = safetensors.torch.load_file(folder / "model.safetensors")
    first = plan_job(config, str(folder)).checkpoint.build_network()
    initialize(first, seed=config.seed, std=config.recipe.init_std)
    before = first.context["fc7"].weight
    assert (tensors["context.fc7.weight"] - before).norm() > 1e-3 * before.norm()


def test_the_checkpoint_has_context_and_the_scales_it_was_trained_for(trained):
    _, folder = trained
    model = overfeat.load(folder)
    assert model.members[0].config.context
    assert model.members[0].config.ladder == (Canvas(245, 245), Canvas(317, 317))
    model.detect(np.zeros((240, 320, 3), np.uint8))


def test_boxes_put_on_a_classifier_leave_its_context_and_its_scales(trained, scenes, tmp_path):
    _, folder = trained
    config = make_train_config(scenes, tmp_path, task="localize", weights=str(folder))
    checkpoint = plan_job(config, str(tmp_path)).checkpoint
    assert checkpoint.context
    assert checkpoint.scales == (Canvas(245, 245), Canvas(317, 317))
    without = make_checkpoint(tmp_path / "base", classes=("red", "green"))
    assert not plan_job(replace(config, weights=without), str(tmp_path)).checkpoint.context


@pytest.mark.parametrize("scales", [(), ("317x317",)])
def test_context_needs_a_ladder_that_rises(scenes, tmp_path, scales):
    """The base's falls."""
    ladder = ("317x317", "245x245")
    base = make_checkpoint(tmp_path / "base", classes=("red", "green"), scales=ladder)
    config = make_train_config(scenes, tmp_path, weights=base, context=True, scales=scales)
    received = " ".join(scales or ladder)
    with pytest.raises(InputError, match=f"--context: .* received {received}; give --scales"):
        plan_job(config, str(tmp_path))


def test_what_a_base_loses_is_said(trained, scenes, tmp_path, caplog):
    _, folder = trained
    plan_job(make_train_config(scenes, tmp_path, weights=str(folder)), str(tmp_path))
    assert "its context is left out without --context" in caplog.text
    base = make_checkpoint(tmp_path / "base", classes=("red", "green"))
    plan_job(make_train_config(scenes, tmp_path, weights=base, task="detect"), str(tmp_path))
    assert "its boxes are left out, for --task detect has none" in caplog.text


def test_pixels_stay_normalised_as_the_base_has_them(scenes, tmp_path):
    base = Path(make_checkpoint(tmp_path / "base", classes=("red", "green")))
    other = Normalization(mean=(1.0, 2.0, 3.0), std=(4.0, 5.0, 6.0))
    write_config(base, replace(read_config(base), normalization=other))
    config = make_train_config(scenes, tmp_path, weights=str(base))
    assert plan_job(config, str(tmp_path)).checkpoint.normalization == other


@pytest.mark.parametrize("task", ["classify", "localize"])
def test_windows_that_are_not_told_refuse_context(scenes, tmp_path, task):
    with pytest.raises(InputError, match=f"--context: .* received {task}"):
        make_train_config(scenes, tmp_path, task=task, weights="demo", context=True)


@pytest.mark.parametrize(
    ("scales", "message"),
    [
        (("200x245",), "received 200x245, expected at least 221x221"),
        (("317x317", "245x245"), "received 317x317 245x245, expected the smallest first"),
        (("large",), "^--scales: received 'large', expected HEIGHTxWIDTH"),
    ],
)
def test_scales_that_make_no_ladder_are_refused(scenes, tmp_path, scales, message):
    with pytest.raises(InputError, match=message):
        make_train_config(scenes, tmp_path, scales=scales)
