"""Feature vectors: which cells there are, what they see, and what becomes of them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from overfeat import Canvas, FeatureConfig, PredictConfig
from overfeat.features import cell_boxes, cells_in_region, collect_features, pool_cells
from overfeat.scales import place
from overfeat.views import View
from overfeat.zoo import ALEXNET_2012, FAST, TINY
from tests.overfeat import literal
from tests.overfeat.builders import (
    describe,
    make_image,
    make_member,
    make_predictor,
)

LADDER = (Canvas(245, 245), Canvas(257, 293))
# How far apart the cells of some layers of `tiny` are, and how many pixels each sees, worked out
# by hand: conv1 is 7 wide with step 2, pool1 takes 3 of its cells, conv2 7 cells of pool1.
SEEN = {
    "standardize": (1, 1),
    "conv1": (2, 7),
    "conv1_relu": (2, 7),
    "pool1": (6, 11),
    "conv2": (6, 47),
}


def collect(model, image, *, layer=None, pool="none", **fields):
    """The features that `predict` gives of one image."""
    config = PredictConfig(
        **{"scales": LADDER, "stride": "coarse"} | fields,
        features=FeatureConfig(layer=layer, pool=pool),
    )
    (found,) = model.predict([model.prepare(image, config)], config, ("features",))
    return found.features


def draw(member, image, canvas):
    return literal.draw(image, canvas, member.config.normalization)


def activate(member, drawn, layer, stride):
    with torch.inference_mode():
        values = member.network.activations(drawn.pixels[None], layer=layer, stride=stride)
    return values[0].numpy()


def list_seen(drawn, shape, *, step, size):
    """Whether each cell sees a pixel of the image."""
    rows, cols = shape
    inside = np.zeros(drawn.pixels.shape[1:], dtype=bool)
    inside[drawn.top : drawn.top + drawn.height, drawn.left : drawn.left + drawn.width] = True
    return [
        [
            inside[step * row : step * row + size, step * col : step * col + size].any()
            for col in range(cols)
        ]
        for row in range(rows)
    ]


@pytest.mark.parametrize("stride", ["fine", "coarse"])
@pytest.mark.parametrize("layer", ["conv2", "pool6", "fc7", "fc7_relu", "fc9"])
@pytest.mark.parametrize("architecture", [TINY, ALEXNET_2012])
def test_every_cell_of_every_scale_is_a_vector_with_its_place(architecture, layer, stride):
    layer = layer if architecture is TINY else {"pool6": "pool5", "fc9": "fc8"}.get(layer, layer)
    member, image = make_member(architecture), make_image(200, 230)
    found = collect(make_predictor(architecture), image, layer=layer, stride=stride)
    assert found.layer == layer
    start = 0
    for scale, canvas in enumerate(LADDER):
        values = activate(member, draw(member, image, canvas), layer, stride)
        channels, rows, cols = values.shape
        part = slice(start, start + rows * cols)
        assert (found.scale[part] == scale).all()
        places = [(row, col) for row in range(rows) for col in range(cols)]
        assert list(zip(found.row[part], found.col[part], strict=True)) == places
        assert np.allclose(found.vectors[part], values.reshape(channels, -1).T, atol=1e-4)
        start += rows * cols
    assert len(found) == len(found.scale) == start


@pytest.mark.parametrize("layer", sorted(SEEN))
@pytest.mark.parametrize("size", [(20, 245), (245, 20)])
def test_cells_that_see_only_padding_are_left_out(window_model, layer, size):
    member, image = make_member(), make_image(*size)
    step, seen = SEEN[layer]
    drawn = draw(member, image, LADDER[0])
    values = activate(member, drawn, layer, "coarse")
    counted = np.array(list_seen(drawn, values.shape[1:], step=step, size=seen))
    assert 0 < counted.mean() < 0.5
    found = collect(window_model, image, layer=layer, scales=LADDER[:1])
    assert list(zip(found.row, found.col, strict=True)) == list(
        zip(*np.nonzero(counted), strict=True)
    )
    assert np.allclose(found.vectors, values[:, counted].T, atol=1e-4)


@pytest.mark.parametrize(("pool", "reduce"), [("mean", np.mean), ("max", np.max)])
@pytest.mark.parametrize("layer", ["conv1", "conv2"])
def test_pooling_takes_the_cells_that_see_the_image(window_model, layer, pool, reduce):
    member, image = make_member(), make_image(20, 245)
    found = collect(window_model, image, layer=layer, pool=pool)
    step, seen = SEEN[layer]
    expected = []
    for canvas in LADDER:
        drawn = draw(member, image, canvas)
        values = activate(member, drawn, layer, "coarse")
        counted = np.array(list_seen(drawn, values.shape[1:], step=step, size=seen))
        expected.append(reduce(values[:, counted], axis=1))
        everywhere = reduce(values, axis=(1, 2))
        assert pool == "max" or not np.allclose(expected[-1], everywhere, atol=1e-2)
    assert np.allclose(found.vectors, expected, atol=1e-4)
    assert found.scale.tolist() == [0, 1]
    assert found.row.tolist() == found.col.tolist() == [0, 0]


def test_windows_of_the_classifier_that_miss_a_panorama_are_left_out(window_model):
    found = collect(
        window_model, make_image(3, 461), scales=(Canvas(461, 461),), stride="fine", layer="fc8"
    )
    # 21 x 21 windows; the first row and the last one miss the image.
    assert sorted(set(found.row.tolist())) == list(range(1, 20))
    assert len(found) == 19 * 21


def test_mirror_images_have_no_features(window_model):
    image = make_image(200, 240)
    plain, asked = collect(window_model, image), collect(window_model, image, flips=True)
    assert np.array_equal(plain.vectors, asked.vectors)
    assert np.array_equal(plain.scale, asked.scale)


def test_crops_are_numbered_like_scales(window_model):
    member, image = make_member(), make_image(256, 300)
    found = collect(window_model, image, scales=(), views="ten-view", layer="fc8")
    assert found.scale.tolist() == [0, 1, 2, 3, 4]
    for number, (y, x) in enumerate([(0, 22), (0, 57), (35, 22), (35, 57), (17, 39)]):
        crop = image[y : y + 221, x : x + 221]
        values = activate(member, draw(member, crop, Canvas(221, 221)), "fc8", "coarse")
        assert np.allclose(found.vectors[number], values[:, 0, 0], atol=1e-4)


def test_a_layer_is_called_by_its_name_or_by_its_number(window_model):
    image = make_image(200, 240)
    for number, name in ((20, "fc7"), (21, "fc7_relu"), (22, "fc8"), (None, "fc8")):
        by_number = collect(window_model, image, layer=number, pool="mean")
        by_name = collect(window_model, image, layer=name, pool="mean")
        assert by_number.layer == by_name.layer == name
        assert np.array_equal(by_number.vectors, by_name.vectors)


def test_a_convolution_is_taken_before_its_relu_and_its_relu_after(window_model):
    image = make_image(200, 240)
    for layer in ("conv3", "fc8"):
        before, after = (
            collect(window_model, image, layer=name) for name in (layer, f"{layer}_relu")
        )
        assert before.vectors.min() < 0
        assert np.array_equal(after.vectors, np.maximum(before.vectors, 0))


def test_coarse_features_are_every_third_of_the_fine_ones(window_model):
    image = make_image(245, 245)
    ladder = (Canvas(281, 317),)
    fine = collect(window_model, image, stride="fine", scales=ladder, layer="fc8")
    coarse = collect(window_model, image, stride="coarse", scales=ladder, layer="fc8")
    chosen = (fine.row % 3 == 0) & (fine.col % 3 == 0)
    assert np.array_equal(fine.row[chosen], 3 * coarse.row)
    assert np.array_equal(fine.col[chosen], 3 * coarse.col)
    assert np.allclose(fine.vectors[chosen], coarse.vectors, atol=1e-4)


def test_features_beside_other_tasks_are_the_same_as_alone():
    model, image = make_predictor(background=True, regressor="single"), make_image(200, 240)
    config = PredictConfig(
        scales=LADDER, flips=True, score_threshold=0.3, features=FeatureConfig(pool="none")
    )
    prepared = [model.prepare(image, config)]
    (together,) = model.predict(prepared, config, ("classify", "localize", "detect", "features"))
    (features,) = model.predict(prepared, config, ("features",))
    (boxes,) = model.predict(prepared, config, ("detect",))
    (classes,) = model.predict(prepared, config, ("classify",))
    (guesses,) = model.predict(prepared, config, ("localize",))
    assert features.detections is features.classification is features.guesses is None
    assert np.array_equal(together.features.vectors, features.features.vectors)
    assert np.array_equal(together.features.row, features.features.row)
    assert np.array_equal(together.detections.boxes_xyxy, boxes.detections.boxes_xyxy)
    assert np.array_equal(together.classification.scores, classes.classification.scores)
    assert np.array_equal(together.guesses.boxes_xyxy, guesses.guesses.boxes_xyxy)


def test_the_features_of_an_image_do_not_depend_on_its_neighbours(window_model):
    images = [make_image(200, 240), make_image(300, 180), make_image(180, 90)]
    config = PredictConfig(scales=LADDER, features=FeatureConfig(pool="none", layer="fc8"))
    prepared = [window_model.prepare(image, config) for image in images]
    together = window_model.predict(prepared, config, ("features",))
    for image, found in zip(images, together, strict=True):
        alone = collect(window_model, image, layer="fc8", stride="fine")
        assert np.array_equal(found.features.scale, alone.scale)
        assert np.allclose(found.features.vectors, alone.vectors, atol=1e-4)


def test_changing_features_changes_nothing_later(window_model):
    image = make_image(230, 257)
    for pool in ("none", "mean", "max"):
        for layer in ("standardize", "conv1", "fc7", "fc9"):
            first = window_model.extract(image, layer=layer, pool=pool)
            kept = first.copy()
            again = window_model.extract(image, layer=layer, pool=pool)
            first[:] = -1
            assert np.array_equal(again, kept)
            assert np.array_equal(window_model.extract(image, layer=layer, pool=pool), kept)


@pytest.mark.parametrize(("pool", "reduce"), [("mean", np.mean), ("max", np.max)])
@pytest.mark.parametrize("stride", ["fine", "coarse"])
@pytest.mark.parametrize("layer", ["conv2", "fc8", "fc9"])
def test_extract_pools_all_cells(window_model, layer, stride, pool, reduce):
    image = make_image(260, 300)
    whole = window_model.extract(image, layer=layer, stride=stride)
    pooled = window_model.extract(image, layer=layer, stride=stride, pool=pool)
    assert pooled.dtype == np.float32
    assert np.allclose(pooled, reduce(whole, axis=(1, 2)), atol=1e-5)


def pool_literally(whole, reduce, region, *, start, step, size):
    """Pool the cells centred in a region of the image, or else the one nearest to its middle."""
    centres = {
        (row, col): (start + step * col + size / 2, start + step * row + size / 2)
        for row in range(whole.shape[1])
        for col in range(whole.shape[2])
    }
    x_min, y_min, x_max, y_max = region
    chosen = [cell for cell, (x, y) in centres.items() if x_min <= x < x_max and y_min <= y < y_max]
    if not chosen:
        middle = np.array([(x_min + x_max) / 2, (y_min + y_max) / 2])
        chosen = [min(centres, key=lambda cell: np.square(centres[cell] - middle).sum())]
    rows, cols = zip(*chosen, strict=True)
    return reduce(whole[:, rows, cols], axis=1)


@pytest.mark.parametrize(
    ("layer", "stride", "start", "step", "size"),
    [
        ("conv2", "fine", 0, 6, 47),
        ("conv3", "coarse", -12, 12, 77),
        ("fc8", "fine", 0, 12, 221),
        ("fc8", "coarse", 0, 36, 221),
    ],
)
@pytest.mark.parametrize(
    "region",
    [
        (100.0, 120.0, 180.0, 160.0),
        (110.5, 110.5, 122.5, 122.5),  # from one window's centre to the next
        (0.0, 0.0, 20.0, 20.0),
        (290.0, 250.0, 300.0, 260.0),
        (150.0, 130.0, 150.5, 130.5),
        (60.0, 111.0, 240.0, 122.0),  # between two rows of windows
        (-50.0, -50.0, 1000.0, 1000.0),
    ],
)
def test_a_region_pools_the_cells_centred_in_it(
    window_model, region, layer, stride, start, step, size
):
    image, asked = make_image(260, 300), {"layer": layer, "stride": stride}
    whole = window_model.extract(image, **asked)
    for pool, reduce in (("mean", np.mean), ("max", np.max)):
        expected = pool_literally(whole, reduce, region, start=start, step=step, size=size)
        found = window_model.extract(image, **asked, pool=pool, region=region)
        assert np.allclose(found, expected, atol=1e-5)


def test_the_box_of_a_detection_is_a_region(window_model):
    image = make_image(260, 300)
    box = np.array([10, 20, 200, 150], dtype=np.float32)
    by_array = window_model.extract(image, layer="conv3", pool="mean", region=box)
    by_corners = window_model.extract(
        image, layer="conv3", pool="mean", region=(10.0, 20.0, 200.0, 150.0)
    )
    assert np.array_equal(by_array, by_corners)


def test_a_region_needs_a_pooling(window_model):
    with pytest.raises(ValueError, match=r"extract: received a region without pool") as error:
        window_model.extract(make_image(230, 230), region=(0.0, 0.0, 10.0, 10.0))
    describe(error)


@pytest.mark.parametrize(
    "region",
    [
        (0.0, 0.0, 10.0),
        (0.0, 0.0, 10.0, 10.0, 10.0),
        (10.0, 0.0, 5.0, 10.0),
        (0.0, 0.0, 10.0, 0.0),
        (0.0, 0.0, float("nan"), 10.0),
    ],
)
def test_a_region_that_is_no_box_is_refused(window_model, region):
    with pytest.raises(ValueError, match=r"region: received \(.*\), expected x_min") as error:
        window_model.extract(make_image(230, 230), pool="mean", region=region)
    describe(error)


@pytest.mark.usefixtures("without_shape_checks")
def test_a_pooling_that_is_not_there_is_refused(window_model):
    expected = r"feature pool: received 'sum', expected none, mean or max"
    with pytest.raises(ValueError, match=expected):
        FeatureConfig(pool="sum")
    with pytest.raises(ValueError, match=expected):
        window_model.extract(make_image(230, 230), pool="sum")


def test_a_layer_that_is_not_there_is_refused_before_anything_is_computed(window_model):
    config = PredictConfig(features=FeatureConfig(layer="fc77"))
    with pytest.raises(ValueError, match=r"layer: received 'fc77', expected one of .*fc8_relu"):
        window_model.predict(
            [window_model.prepare(make_image(50, 50), config)], config, ("features",)
        )


@pytest.mark.parametrize(("architecture", "window"), [(TINY, 221), (FAST, 231)])
def test_extract_refuses_what_features_of_scales_enlarge(architecture, window):
    model, image = make_predictor(architecture), make_image(100, 150)
    with pytest.raises(ValueError, match=rf"received 100x150 .* at least {window}x{window}"):
        model.extract(image)
    assert len(collect(model, image, scales=(Canvas(window, window),))) == 1


def test_the_cells_of_the_classifier_are_windows_and_those_of_the_trunk_fields():
    """A window is nominal: with its zero-padding, `tiny` sees 317 pixels from -48 on."""
    assert cell_boxes(TINY, "fc9", 1, 2, "fine")[0].tolist() == [
        [0, 0, 221, 221],
        [12, 0, 233, 221],
    ]
    for layer in ("fc7", "fc7_relu"):
        assert cell_boxes(TINY, layer, 2, 1, "coarse")[1, 0].tolist() == [0, 36, 221, 257]
    assert cell_boxes(TINY, "conv1", 1, 2, "fine")[0, 1].tolist() == [2, 0, 9, 7]
    # conv3 is padded by a cell of 12 pixels; it reads 3 cells of pool2, which reads 2 of conv2.
    assert cell_boxes(TINY, "conv3", 1, 1, "fine")[0, 0].tolist() == [-12, -12, 65, 65]


def test_the_nearest_cell_stands_for_a_region_between_centres():
    boxes = cell_boxes(TINY, "fc8", 3, 4, "fine")
    chosen = cells_in_region(boxes, (111.0, 123.0, 112.0, 124.0))
    assert np.argwhere(chosen).tolist() == [[1, 0]]
    assert cells_in_region(boxes, (0.0, 0.0, 1.0, 1.0)).sum() == 1


def test_cells_are_ordered_by_row_then_column():
    values = torch.arange(12.0).reshape(1, 3, 4)
    counted = np.zeros((3, 4), dtype=bool)
    counted[[2, 0, 1], [1, 3, 0]] = True
    assert pool_cells(values, counted, "none").tolist() == [[3], [4], [9]]
    assert pool_cells(values, counted, "mean").tolist() == [[pytest.approx(16 / 3)]]
    assert pool_cells(values, counted, "max").tolist() == [[9]]


def test_half_precision_is_averaged_in_single_precision():
    """2048 + 1 is 2048 in float16."""
    values = torch.ones(1, 50, 60, dtype=torch.float16)
    view = View(0, place(Canvas(245, 245), height=245, width=245), flipped=False)
    found = collect_features(values, TINY, "conv2", view, stride="fine", pool="mean")
    assert found.vectors.dtype == np.float32
    assert found.vectors.tolist() == [[1.0]]
