from __future__ import annotations

import numpy as np
import pytest

from pipelines.shards.textures import make_clouds, make_grid, make_shapes, make_texture

MAKERS = [make_clouds, make_grid, make_shapes, make_texture]


@pytest.mark.parametrize("make", MAKERS)
def test_a_texture_has_the_size_asked_for_and_follows_from_the_generator_alone(make):
    images, again = (
        [make((64, 48), rng) for _ in range(10)]
        for rng in (np.random.default_rng(0), np.random.default_rng(0))
    )

    assert {(image.size, image.mode) for image in images} == {((64, 48), "RGB")}
    assert [image.tobytes() for image in images] == [image.tobytes() for image in again]
    assert len({image.tobytes() for image in images}) == 10


def test_grids_range_from_flat_to_busy():
    rng = np.random.default_rng(0)

    spreads = [np.asarray(make_grid((64, 48), rng)).std(axis=(0, 1)).max() for _ in range(40)]

    assert min(spreads) < 20
    assert max(spreads) > 50


def test_shapes_are_plain_and_have_sharp_edges():
    rng = np.random.default_rng(0)

    pixels = np.asarray(make_shapes((320, 240), rng)).astype(int)

    steps = np.abs(np.diff(pixels, axis=1)).sum(axis=2)
    assert (steps == 0).mean() > 0.8
    assert np.percentile(steps[steps > 0], 50) > 30


def test_clouds_are_the_smoother_the_closer_one_looks():
    rng = np.random.default_rng(0)
    clouds = [np.asarray(make_clouds((256, 256), rng)).astype(float) for _ in range(10)]

    near, far = (
        np.mean([np.abs(pixels[:, gap:] - pixels[:, :-gap]).mean() for pixels in clouds])
        for gap in (1, 64)
    )

    assert near < far / 2


def test_a_texture_is_each_of_the_three_by_turns():
    drawn = set()
    for seed in range(20):
        texture = make_texture((32, 24), np.random.default_rng(seed))
        for make in (make_clouds, make_grid, make_shapes):
            rng = np.random.default_rng(seed)
            rng.integers(3)
            if make((32, 24), rng).tobytes() == texture.tobytes():
                drawn.add(make)

    assert drawn == {make_clouds, make_grid, make_shapes}
