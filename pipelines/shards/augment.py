"""How are training scenes made more varied than crops of seven photographs?

For the split `train` alone, and only on request. Backgrounds are mixed with procedural textures,
handwriting is slanted and thickened, the finished scene is blurred and made noisy.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from PIL import Image, ImageChops, ImageEnhance, ImageFilter

from pipelines.shards.handwriting import INK_LEVEL, InkStyle

_TEXTURE_SHARE: Final = 0.25
_MIX_SHARE: Final = 0.35
_BLUR_SHARE: Final = 0.3
_NOISE_SHARE: Final = 0.4


def vary_background(photograph: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Replace, mix or recolour a background.

    Args:
        photograph: RGB.
        rng: Every draw comes from it.

    Returns:
        RGB, same size.
    """
    choice = rng.random()
    if choice < _TEXTURE_SHARE:
        return make_texture(photograph.size, rng)
    image = _jitter_colours(photograph, rng)
    if choice < _TEXTURE_SHARE + _MIX_SHARE:
        texture = make_texture(photograph.size, rng)
        image = Image.blend(image, texture, round(0.2 + 0.5 * rng.random(), 3))
    return image


def vary_style(angle: float, rng: np.random.Generator) -> InkStyle:
    """Draw a slant, a width and a stroke thickness.

    Args:
        angle: The rotation, kept as it is, in degrees.
        rng: Every draw comes from it.

    Returns:
        A style with shear within 0.15, aspect 0.8 to 1.25 and level within 25 of the frozen one.
    """
    return InkStyle(
        angle=angle,
        shear=0.3 * rng.random() - 0.15,
        aspect=0.8 + 0.45 * rng.random(),
        level=INK_LEVEL + int(rng.integers(-25, 26)),
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


def make_texture(size: tuple[int, int], rng: np.random.Generator) -> Image.Image:
    """Draw a procedural texture: a grid of random colours, stretched.

    Few cells make gradients and patches, one row or column makes stripes, many cells make grain.

    Args:
        size: Width and height in pixels.
        rng: Every draw comes from it.

    Returns:
        RGB of that size.
    """
    rows, columns = (int(2 ** (6 * rng.random())) for _ in range(2))
    centre = rng.integers(0, 256, size=3)
    spread = int(rng.integers(20, 160))
    cells = np.clip(centre + rng.integers(-spread, spread + 1, (rows, columns, 3)), 0, 255)
    smooth = rng.random() < 2 / 3
    resampling = Image.Resampling.BICUBIC if smooth else Image.Resampling.NEAREST
    return Image.fromarray(cells.astype(np.uint8)).resize(size, resampling)


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
