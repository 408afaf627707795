"""Heat as colour: grey is none, and more is lighter on every photograph, for every eye."""

from __future__ import annotations

import numpy as np
import pytest

from overfeat.draw.heat_colors import DARKEST, HATCH, LIGHTEST, hatch, tint
from tests.overfeat.draw.builders import make_photograph, relative_luminance

GRAYS = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, axis=2)
# What red, green and blue become in linear light for protanopes and deuteranopes: Vienot 1999.
DICHROMATS = {
    "protanopia": [[0.11238, 0.88762, 0], [0.11238, 0.88762, 0], [0.00401, -0.00401, 1]],
    "deuteranopia": [[0.29275, 0.70725, 0], [0.29275, 0.70725, 0], [-0.02234, 0.02234, 1]],
}


def tint_evenly(photograph, heat):
    return tint(photograph, np.full(photograph.shape[:2], heat, dtype=np.float32))


def test_without_heat_a_colourful_photograph_is_grey():
    photograph = np.random.default_rng(0).integers(0, 256, (20, 20, 3), dtype=np.uint8)
    tinted = tint_evenly(photograph, 0)
    assert np.array_equal(tinted[..., 0], tinted[..., 1])
    assert np.array_equal(tinted[..., 0], tinted[..., 2])
    assert len(np.unique(tinted)) > 40


def test_black_and_white_become_the_ends_of_the_dimmed_greys():
    tinted = tint_evenly(GRAYS, 0)
    assert tinted[0, 0].tolist() == [DARKEST] * 3
    assert tinted[0, 255].tolist() == [LIGHTEST] * 3


def test_more_heat_is_lighter_on_every_grey():
    steps = [relative_luminance(tint_evenly(GRAYS, heat)) for heat in np.linspace(0, 1, 26)]
    assert (np.diff(steps, axis=0) > 0).all()


def test_the_least_heat_that_is_shown_darkens_nothing():
    steps = [relative_luminance(tint_evenly(GRAYS, heat)) for heat in np.linspace(0, 0.05, 101)]
    # Rounding to whole levels may take back a part of one step.
    assert np.diff(steps, axis=0).min() > -3e-3
    assert (steps[-1] > steps[0]).all()


@pytest.mark.parametrize("eye", DICHROMATS)
def test_full_heat_is_told_from_white_paper_with_a_colour_vision_deficiency(eye):
    def see(colors):
        return (np.asarray(colors) / 255) ** 2.2 @ np.array(DICHROMATS[eye]).T

    for photograph in (make_photograph(1, 1, 0), make_photograph(1, 1, 255)):
        for heat in (0.3, 1):
            red, _, blue = see(tint_evenly(photograph, heat)[0, 0])
            assert red > 1.15 * blue, "yellow rather than grey"


def test_the_photograph_still_shows_through_full_heat():
    tinted = relative_luminance(tint_evenly(GRAYS, 1)[0])
    assert tinted[255] > 1.1 * tinted[0]


def test_one_pixel_of_heat_colours_one_pixel():
    heat = np.zeros((4, 5), dtype=np.float32)
    heat[1, 3] = 1
    photograph = make_photograph(4, 5)
    changed = (tint(photograph, heat) != tint_evenly(photograph, 0)).any(axis=2)
    assert np.argwhere(changed).tolist() == [[1, 3]]


def test_hatching_stays_where_nothing_is_covered_and_has_no_colour():
    pixels = make_photograph(20, 20)
    is_covered = np.zeros((20, 20), dtype=bool)
    is_covered[:, :10] = True
    hatch(pixels, is_covered, 2)
    assert (pixels[:, :10] == 128).all()
    assert set(np.unique(pixels[:, 10:])) == {*HATCH, 128}
    assert np.array_equal(pixels[..., 0], pixels[..., 2])


def test_a_hatched_picture_is_no_dimmed_photograph():
    assert min(HATCH) < DARKEST
    assert max(HATCH) > LIGHTEST
