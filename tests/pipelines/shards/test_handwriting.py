from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.shards.handwriting import InkStyle, bound_ink, write_digit
from pipelines.shards.photographs import load_handwriting

FEW = settings(max_examples=60, deadline=None, derandomize=True)


@FEW
@given(
    digit=st.integers(0, 1796),
    height=st.integers(48, 512),
    angle=st.floats(-15, 15),
)
def test_ink_is_exactly_as_high_as_asked_after_the_rotation(digit, height, angle):
    ink = write_digit(load_handwriting()[0][digit], height=height, style=InkStyle(angle=angle))

    assert bound_ink(ink.mask) == (0, 0, ink.mask.shape[1], height)
    assert ink.alpha.size == (ink.mask.shape[1], height)


@pytest.mark.parametrize("angle", [-15.0, -7.5, 0.0, 7.5, 15.0])
def test_a_bar_leans_by_the_angle_counter_clockwise(angle):
    bar = np.zeros((8, 8), np.uint8)
    bar[:, 3:5] = 16

    mask = write_digit(bar, height=200, style=InkStyle(angle=angle)).mask

    y, x = np.nonzero(mask)
    # The corners at both ends do not lean.
    rows = np.arange(50, 150)
    slope = np.polyfit(rows, [x[y == row].mean() for row in rows], 1)[0]
    assert np.degrees(np.arctan(slope)) == pytest.approx(angle, abs=1.5)


def test_the_edge_is_antialiased_and_the_mask_is_what_is_covered_by_half():
    ink = write_digit(load_handwriting()[0][0], height=120, style=InkStyle())

    alpha = np.asarray(ink.alpha)
    assert (ink.mask == (alpha >= 128)).all()
    assert (alpha[ink.mask] == 255).mean() > 0.8
    assert 0.01 < ((alpha > 0) & (alpha < 255)).mean() < 0.2


@pytest.mark.parametrize("digit", [0, 1, 8])
def test_a_soft_edge_fades_around_the_same_outline_and_ends_before_the_picture_does(digit):
    cells = load_handwriting()[0][digit]

    crisp, half, soft = (
        write_digit(cells, height=120, style=InkStyle(softness=softness))
        for softness in (0.0, 0.5, 1.0)
    )

    assert crisp.margin == 0
    for ink in (half, soft):
        alpha = np.asarray(ink.alpha)
        height, width = ink.mask.shape
        inside = alpha[ink.margin : ink.margin + height, ink.margin : ink.margin + width]
        assert alpha.shape == (height + 2 * ink.margin, width + 2 * ink.margin)
        assert (ink.mask == (inside >= 128)).all()
        assert not np.concatenate([alpha[[0, -1]].ravel(), alpha[:, [0, -1]].ravel()]).any()
        assert alpha.max() > 200
    shares = [
        ((np.asarray(ink.alpha) % 255) > 0).sum() / ink.mask.sum() for ink in (crisp, half, soft)
    ]
    assert shares[0] * 2 < shares[1] < shares[2]


def test_a_lower_level_thickens_the_stroke():
    cells = load_handwriting()[0][0]

    thin, thick = (
        write_digit(cells, height=120, style=InkStyle(level=level)).mask.mean()
        for level in (120, 72)
    )

    assert thick > thin * 1.05


def test_a_height_too_small_to_write_is_refused():
    with pytest.raises(ValueError, match="height is 7"):
        write_digit(load_handwriting()[0][0], height=7, style=InkStyle())
