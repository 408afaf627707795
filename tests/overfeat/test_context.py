"""Context: what a scale is told by the next lower one, and what it makes of it."""

from __future__ import annotations

from math import hypot

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from overfeat import Canvas, FeatureConfig, PredictConfig
from overfeat.context import align_context
from overfeat.geometry import map_size
from overfeat.predictor import Predictor
from overfeat.scales import Placement, place
from overfeat.views import View
from overfeat.zoo import FAST, TINY
from tests.overfeat import literal
from tests.overfeat.builders import FEW, make_image, make_member, run_trunk

LADDER = (Canvas(245, 245), Canvas(281, 317), Canvas(317, 389))
# Window and step of the output cells.
GRIDS = {
    ("tiny", "fine"): (221, 12),
    ("tiny", "coarse"): (221, 36),
    ("fast", "fine"): (231, 16),
    ("fast", "coarse"): (231, 32),
}


def find_centre(view, row, col, *, window, step):
    """The middle of a window, in pixels of the image."""
    where = view.placement
    x, y = step * col + window / 2, step * row + window / 2
    if view.flipped:
        x = where.canvas.width - x
    return (
        (x - where.left) * where.image_width / where.fitted_width,
        (y - where.top) * where.image_height / where.fitted_height,
    )


def find_distances(view, row, col, lower_view, lower_shape, **grid):
    """How far each window of the lower scale is from one window, in pixels of the image."""
    x, y = find_centre(view, row, col, **grid)
    rows, cols = lower_shape
    distances = np.zeros(lower_shape)
    for lower_row in range(rows):
        for lower_col in range(cols):
            lower_x, lower_y = find_centre(lower_view, lower_row, lower_col, **grid)
            distances[lower_row, lower_col] = hypot(x - lower_x, y - lower_y)
    return distances


def make_views(size, canvases, *, flipped):
    height, width = size
    return [
        View(0, place(canvas, height=height, width=width), flipped, scale)
        for scale, canvas in enumerate(canvases)
    ]


def find_shape(architecture, view, stride):
    canvas = view.placement.canvas
    return tuple(map_size(architecture, side, stride) for side in (canvas.height, canvas.width))


@FEW
@given(
    st.sampled_from([TINY, FAST]),
    st.sampled_from(["fine", "coarse"]),
    st.booleans(),
    st.tuples(st.integers(20, 700), st.integers(20, 700)),
    st.tuples(st.integers(231, 300), st.integers(231, 300)),
    st.tuples(st.integers(231, 340), st.integers(231, 340)),
)
def test_every_window_is_told_by_the_nearest_one_of_the_lower_scale(
    architecture, stride, flipped, size, lower_sides, sides
):
    canvases = (Canvas(*lower_sides), Canvas(*sides))
    lower_view, view = make_views(size, canvases, flipped=flipped)
    lower_shape = find_shape(architecture, lower_view, stride)
    shape = find_shape(architecture, view, stride)
    count = lower_shape[0] * lower_shape[1]
    numbers = torch.arange(float(count)).reshape(1, *lower_shape)
    told = align_context(
        torch.cat([numbers, -numbers]),
        architecture,
        lower_view=lower_view,
        view=view,
        shape=shape,
        stride=stride,
    )
    assert told.shape == (2, *shape)
    assert torch.equal(told[1], -told[0])
    window, step = GRIDS[architecture.name, stride]
    for row in range(shape[0]):
        for col in range(shape[1]):
            distances = find_distances(
                view, row, col, lower_view, lower_shape, window=window, step=step
            )
            chosen = distances.flatten()[int(told[0, row, col])]
            # Two windows may be equally near, up to rounding.
            assert chosen <= distances.min() + 1e-3 * max(size)


def test_of_two_windows_equally_near_the_first_one_tells():
    image = {"image_height": 221, "image_width": 257, "fitted_height": 221, "fitted_width": 257}
    whole = Placement(**image, canvas=Canvas(221, 257), top=0, left=0)
    # The one window of this canvas is shifted by half of the 36 pixels between the lower ones.
    middle = Placement(**image, canvas=Canvas(221, 221), top=0, left=-18)
    told = align_context(
        torch.tensor([[[1.0, 2.0]]]),
        TINY,
        lower_view=View(0, whole, flipped=False),
        view=View(0, middle, flipped=False),
        shape=(1, 1),
        stride="coarse",
    )
    assert told.tolist() == [[[1]]]


def fully_connect(layer, patches):
    """A convolution over a whole patch, as a product."""
    return patches @ layer.weight.flatten(1).T + layer.bias


def cut_patches(member, pixels):
    """The pooled top map that each window reads, flattened: rows x cols x values."""
    top = run_trunk(member.network, pixels[None])[0]
    rows, cols = (side - 3 * 5 + 1 for side in top.shape[1:])
    patches = [
        [F.max_pool2d(top[:, y : y + 15, x : x + 15], 3).flatten() for x in range(cols)]
        for y in range(rows)
    ]
    return torch.stack([torch.stack(row) for row in patches])


def classify_by_hand(member, patches, told):
    """The classifier on each window, what it is told added to its first layer's values."""
    classifier = member.network.classifier
    first = fully_connect(classifier["fc7"], patches)
    second = fully_connect(classifier["fc8"], F.relu(first if told is None else first + told))
    return fully_connect(classifier["fc9"], F.relu(second)).softmax(dim=-1)


def predict_by_hand(member, image, ladder, *, flips):
    """The mean over views of the spatial maxima, each scale told by the next lower one."""
    maxima = []
    for flipped in (False, True)[: 1 + flips]:
        views = make_views(image.shape[:2], ladder, flipped=flipped)
        told = None
        for number, view in enumerate(views):
            pixels = literal.draw(image, ladder[number], member.config.normalization).pixels
            patches = cut_patches(member, pixels.flip(-1) if flipped else pixels)
            probabilities = classify_by_hand(member, patches, told)
            maxima.append(probabilities.amax(dim=(0, 1)))
            lower = fully_connect(member.network.context["fc7"], patches)
            if number + 1 < len(views):
                told = tell(lower, view, views[number + 1])
    return torch.stack(maxima).mean(dim=0)[: len(member.config.classes)].numpy()


def tell(lower, lower_view, view):
    """Take for each window of a view the values of the nearest one below."""
    rows, cols = find_shape(TINY, view, "fine")
    told = []
    for row in range(rows):
        for col in range(cols):
            distances = find_distances(
                view, row, col, lower_view, lower.shape[:2], window=221, step=12
            )
            told.append(lower.flatten(0, 1)[int(distances.argmin())])
    return torch.stack(told).reshape(rows, cols, -1)


def by_class(classification):
    return classification.scores[np.argsort(classification.label_ids)]


@pytest.mark.parametrize("size", [(200, 240), (245, 170), (150, 150)])
@pytest.mark.parametrize("flips", [False, True])
def test_a_network_with_context_reads_each_scale_with_the_next_lower_one(size, flips):
    member, image = make_member(context=True, background=True), make_image(*size)
    with torch.inference_mode():
        expected = predict_by_hand(member, image, LADDER, flips=flips)
    found = Predictor([member]).classify(image, PredictConfig(scales=LADDER, flips=flips))
    assert np.allclose(by_class(found), expected, atol=1e-5)


def test_the_lowest_scale_is_told_nothing():
    """On one scale a network with context is the same network without it."""
    told, plain = make_member(context=True), make_member()
    weights = told.network.state_dict()
    plain.network.load_state_dict({name: weights[name] for name in plain.network.state_dict()})
    image = make_image(200, 240)
    for scales in (LADDER[:1], LADDER[1:2]):
        config = PredictConfig(scales=scales)
        found = [Predictor([member]).classify(image, config) for member in (told, plain)]
        assert np.array_equal(found[0].scores, found[1].scores)
    both = PredictConfig(scales=LADDER[:2])
    found = [by_class(Predictor([member]).classify(image, both)) for member in (told, plain)]
    assert not np.allclose(*found, atol=1e-2)


def test_crops_have_no_lower_scale():
    told, plain = make_member(context=True), make_member()
    weights = told.network.state_dict()
    plain.network.load_state_dict({name: weights[name] for name in plain.network.state_dict()})
    image, config = make_image(256, 300), PredictConfig(views="ten-view")
    found = [Predictor([member]).classify(image, config) for member in (told, plain)]
    assert np.array_equal(found[0].scores, found[1].scores)


@pytest.mark.parametrize("batch_pixels", [1, 150_000, 2_000_000])
def test_each_image_of_a_batch_is_told_by_its_own_lower_scale(batch_pixels):
    """Portrait and landscape images, whose batches are mixed anew at every scale."""
    model = Predictor([make_member(context=True, background=True, regressor="single")])
    sizes = [(200, 240), (240, 200), (150, 150), (230, 220), (100, 245)]
    images = [make_image(*size, seed=seed) for seed, size in enumerate(sizes)]
    config = PredictConfig(scales=LADDER, flips=True, batch_pixels=batch_pixels)
    together = model.classify(images, config)
    for image, found in zip(images, together, strict=True):
        alone = model.classify(image, PredictConfig(scales=LADDER, flips=True))
        assert np.allclose(by_class(found), by_class(alone), atol=1e-4)


def test_features_of_a_network_with_context_are_those_that_it_classifies_with():
    model, image = Predictor([make_member(context=True)]), make_image(200, 240)
    config = PredictConfig(scales=LADDER[:2], features=FeatureConfig(layer="fc9", pool="none"))
    (found,) = model.predict([model.prepare(image, config)], config, ("features",))
    for scale, each in enumerate(model.map_classes(image, config)):
        logits = torch.tensor(found.features.vectors[found.features.scale == scale])
        expected = each.probabilities.reshape(3, -1).T
        assert np.allclose(logits.softmax(dim=1).numpy(), expected, atol=1e-5)
