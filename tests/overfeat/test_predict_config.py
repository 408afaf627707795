"""What a user may ask of a model."""

from __future__ import annotations

import pytest

from overfeat import Canvas, PredictConfig
from tests.overfeat.builders import describe


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"score_threshold": 0.0}, "score threshold: received 0.0"),
        ({"score_threshold": 1.1}, "score threshold: received 1.1"),
        ({"score_threshold": float("nan")}, "score threshold: received nan"),
        ({"max_boxes": 0}, "max_boxes: received 0, expected at least 1"),
        ({"top_classes": 0}, "top_classes: received 0"),
        ({"batch_pixels": 0}, "batch_pixels: received 0"),
        ({"views": "sparse"}, "'sparse', expected one of dense, ten-view, centre-crop, original"),
        ({"stride": "finest"}, "stride: received 'finest', expected one of fine, coarse"),
        ({"merged_classes": "all"}, "merged_classes: received 'all', expected one of each, any"),
    ],
)
@pytest.mark.usefixtures("without_shape_checks")
def test_settings_out_of_range_are_refused(fields, named):
    with pytest.raises(ValueError, match=named) as error:
        PredictConfig(**fields)
    describe(error)


@pytest.mark.parametrize("views", ["ten-view", "centre-crop", "original"])
def test_crops_have_no_ladder(views):
    with pytest.raises(ValueError, match=f"scales: received them with views '{views}'") as error:
        PredictConfig(views=views, scales=(Canvas(245, 245),))
    describe(error)


def test_a_threshold_of_one_and_a_single_box_are_allowed():
    PredictConfig(score_threshold=1.0, max_boxes=1, top_classes=1, batch_pixels=1)
