"""How are training scenes made more varied than crops of seven photographs?

For the split `train` alone, and only on request. Backgrounds are cut anew, recoloured and mixed
with each other and with procedural textures, handwriting is slanted, thickened and softened, the
finished scene is blurred and made noisy.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from PIL import Image, ImageChops, ImageEnhance, ImageFilter

from pipelines.shards.handwriting import INK_LEVEL, InkStyle
from pipelines.shards.textures import make_shapes, make_texture

_TEXTURE_SHARE: Final = 0.3
_BLEND_SHARE: Final = 0.2
_PATCHES_SHARE: Final = 0.2
_SOFT_SHARE: Final = 0.5
_BLUR_SHARE: Final = 0.3
_NOISE_SHARE: Final = 0.4
_LEAST_PART: Final = 1 / 3
"""Least part of a background, in each direction, that is enlarged to the whole."""
_HALF_GREY: Final = 128


def vary_background(photograph: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Cut a background anew, or mix it with a texture or another part of it, or replace it.

    Args:
        photograph: RGB.
        rng: Every draw comes from it.

    Returns:
        RGB, same size.
    """
    choice = rng.random()
    if choice < _TEXTURE_SHARE:
        return make_texture(photograph.size, rng)
    image = _cut_anew(photograph, rng)
    if choice < _TEXTURE_SHARE + _BLEND_SHARE:
        texture = make_texture(photograph.size, rng)
        return Image.blend(image, texture, round(0.2 + 0.5 * rng.random(), 3))
    if choice < _TEXTURE_SHARE + _BLEND_SHARE + _PATCHES_SHARE:
        shapes = make_shapes(photograph.size, rng).convert("L")
        patches = shapes.point([0] * _HALF_GREY + [255] * (256 - _HALF_GREY))
        return Image.composite(image, _cut_anew(photograph, rng), patches)
    return image


def vary_style(angle: float, rng: np.random.Generator) -> InkStyle:
    """Draw a slant, a width, a stroke thickness and an edge.

    Args:
        angle: The rotation, kept as it is, in degrees.
        rng: Every draw comes from it.

    Returns:
        A style with shear within 0.15, aspect 0.8 to 1.25 and level within 25 of the frozen one;
        half of them have a crisp edge, the others any softer one.
    """
    return InkStyle(
        angle=angle,
        shear=0.3 * rng.random() - 0.15,
        aspect=0.8 + 0.45 * rng.random(),
        level=INK_LEVEL + int(rng.integers(-25, 26)),
        softness=rng.random() if rng.random() < _SOFT_SHARE else 0.0,
    )


def degrade(scene: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Blur a scene and add noise, each in some scenes only.

    Args:
        scene: RGB.
        rng: Every draw comes from it.

    Returns:
        RGB, same size; no pixel moves, so boxes and masks stay true.
    """
    if rng.random() < _BLUR_SHARE:
        scene = scene.filter(ImageFilter.GaussianBlur(0.3 + 1.2 * rng.random()))
    if rng.random() < _NOISE_SHARE:
        scene = _add_noise(scene, amplitude=int(rng.integers(4, 25)), rng=rng)
    return scene


def _cut_anew(photograph: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Enlarge a part to the whole, turned by a multiple of 90 degrees, and recolour it."""
    width, height = (
        max(1, int(side * (_LEAST_PART + (1 - _LEAST_PART) * rng.random())))
        for side in photograph.size
    )
    left = int(rng.integers(photograph.width - width + 1))
    top = int(rng.integers(photograph.height - height + 1))
    part = photograph.crop((left, top, left + width, top + height))
    part = part.rotate(90 * int(rng.integers(4)), expand=True)
    return _jitter_colours(part.resize(photograph.size, Image.Resampling.BICUBIC), rng)


def _jitter_colours(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Other channel order, sometimes a negative, other brightness, contrast and saturation."""
    bands = image.split()
    image = Image.merge("RGB", [bands[i] for i in rng.permutation(3)])
    if rng.random() < 1 / 4:
        image = ImageChops.invert(image)
    for enhance in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
        image = enhance(image).enhance(round(0.6 + 0.8 * rng.random(), 3))
    return image


def _add_noise(scene: Image.Image, *, amplitude: int, rng: np.random.Generator) -> Image.Image:
    pixels = np.asarray(scene).astype(np.int16)
    pixels += rng.integers(-amplitude, amplitude + 1, pixels.shape, dtype=np.int16)
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
