from __future__ import annotations

import numpy as np
from PIL import Image

from pipelines.shards.augment import degrade, vary_background, vary_style
from pipelines.shards.handwriting import INK_LEVEL


def test_backgrounds_keep_their_size_and_differ_from_draw_to_draw():
    photograph = Image.new("RGB", (60, 40), (90, 120, 30))
    rng = np.random.default_rng(0)

    images = [vary_background(photograph, rng) for _ in range(40)]

    assert {(image.size, image.mode) for image in images} == {((60, 40), "RGB")}
    assert len({image.tobytes() for image in images}) == 40


def test_some_backgrounds_are_the_photograph_in_other_colours_and_some_have_nothing_of_it():
    photograph = Image.new("RGB", (60, 40), (90, 90, 90))
    rng = np.random.default_rng(0)

    images = [np.asarray(vary_background(photograph, rng)) for _ in range(200)]

    flat = sum((image == image[0, 0]).all() for image in images)
    assert 0.3 < flat / 200 < 0.7


def test_handwriting_varies_within_its_bounds_and_keeps_its_angle():
    rng = np.random.default_rng(0)

    styles = [vary_style(5.0, rng) for _ in range(200)]

    assert {style.angle for style in styles} == {5.0}
    assert all(abs(style.shear) <= 0.15 and 0.8 <= style.aspect <= 1.25 for style in styles)
    assert {abs(style.level - INK_LEVEL) for style in styles} == set(range(26))
    soft = [style.softness for style in styles if style.softness]
    assert 0.4 < len(soft) / 200 < 0.6
    assert 0 < min(soft) < 0.1
    assert 0.9 < max(soft) < 1


def test_degrading_leaves_some_scenes_alone_and_moves_no_pixel():
    rng = np.random.default_rng(0)
    scene = Image.new("RGB", (60, 40))
    scene.paste((255, 255, 255), (20, 10, 40, 30))

    images = [degrade(scene, rng) for _ in range(40)]

    unchanged = sum(image.tobytes() == scene.tobytes() for image in images)
    assert 0 < unchanged < 40
    for image in images:
        bright = np.asarray(image.convert("L")) >= 128
        assert bright[12:28, 22:38].all()
        assert not bright[:8].any()
        assert not bright[:, 42:].any()
