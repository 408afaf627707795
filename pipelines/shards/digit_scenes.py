"""What is a digit scene, and what is in scene number i?

Real handwriting on real photographs, saved as JPEG, with exact boxes and masks. A scene is a pure
function of (split, seed, index). The rules below are frozen: test numbers rest on them.
No digit and no photograph serves both training and test.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from PIL import Image

from pipelines.errors import InputError
from pipelines.shards.augment import degrade, vary_background, vary_style
from pipelines.shards.handwriting import InkStyle, bound_ink, write_digit
from pipelines.shards.masks import encode_mask
from pipelines.shards.photographs import load_handwriting, load_photograph
from pipelines.shards.placement import InkMap
from pipelines.shards.samples import ObjectMetadata, Sample, SampleMetadata

Split = Literal["train", "validation", "test"]

CLASSES: Final = ("0", "1", "2", "3", "4", "5", "6", "7", "8", "9")

SIDE_PIXELS: Final = (320, 640)
OBJECTS_TRIED: Final = (1, 5)
HEIGHT_PERCENT: Final = (15, 80)
"""Height of the ink after the rotation, in percent of the short side."""
MAX_ANGLE: Final = 15.0
"""Rotation in degrees, both ways."""
MIN_COLOUR_DISTANCE: Final = 120
"""Summed RGB distance of the ink from the mean of the pixels it is drawn on (its box, inside)."""
JPEG_QUALITY: Final = (60, 95)
MIN_BACKGROUND_SHARE: Final = 0.5
"""A background is at least this share, in each direction, of the photograph's largest crop of the
scene's shape."""

TEST_SEED: Final = 2013
TEST_SCENES: Final = 500
TEST_DIGEST: Final = "6f73121cb12a632396ee9a6a7e81ccacecc902d3d2592ee55c8a13ca9b052e5c"
"""`digest_scenes` of the published test set: split `test`, `TEST_SEED`, `TEST_SCENES` scenes."""
TEST_DIGEST_FIRST_40: Final = "b7f64a712f82e586e3c56b0b7cc1a594d9a145bf87b7b814dac8904f66268503"
"""The same of its first 40 scenes, quick enough to check every day."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SceneSources:
    """What scenes of a split are made of."""

    number: int
    """The split's part of the random seed; never reused."""

    digits: range
    """Indices into scikit-learn's `load_digits`."""

    photographs: tuple[str, ...]
    """Names in `photographs.PHOTOGRAPHS`."""


_TRAIN_PHOTOGRAPHS: Final = (
    "astronaut",
    "chelsea",
    "motorcycle_left",
    "brick",
    "grass",
    "gravel",
    "flower",
)

SOURCES: Final[dict[Split, SceneSources]] = {
    "train": SceneSources(number=0, digits=range(1200), photographs=_TRAIN_PHOTOGRAPHS),
    "validation": SceneSources(number=1, digits=range(1200, 1437), photographs=_TRAIN_PHOTOGRAPHS),
    "test": SceneSources(
        number=2, digits=range(1437, 1797), photographs=("coffee", "rocket", "china")
    ),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class SceneObject:
    """One digit of a scene. Its ink counts where it lies inside the image, covered or not."""

    label: int
    """0 to 9, an index into `CLASSES`."""

    digit_index: int
    """Index into scikit-learn's `load_digits`."""

    drawn_height: int
    """Height of the whole ink in pixels, also of what the border cut off."""

    box_xyxy: tuple[float, float, float, float]
    """Tight bounds of the ink inside the image: half-open pixels."""

    mask: np.ndarray
    """Bool (height, width) of the scene: the ink inside the image, covered ink included."""

    truncated: bool
    """Whether the border of the image cut ink off."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Scene:
    """A finished scene."""

    jpeg: bytes
    width: int
    height: int
    objects: tuple[SceneObject, ...]
    """In the order in which they were drawn: a later one may cover an earlier one."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ScenePlan:
    """What is drawn at random before any object looks for its place."""

    width: int
    height: int
    background: Image.Image
    """RGB of that size."""

    heights: tuple[int, ...]
    """One per object tried, in pixels."""

    digits: tuple[int, ...]
    """Indices into `load_digits`, one per object tried."""

    styles: tuple[InkStyle, ...]
    quality: int


def make_scene(*, split: Split, seed: int, index: int, augment: bool = False) -> Scene:
    """Make scene number `index`.

    Args:
        split: Decides which digits and photographs may be used.
        seed: Of the whole set, at least 0.
        index: Of the scene in the set, at least 0; scenes can be made in any order.
        augment: Vary backgrounds, handwriting and image quality beyond the frozen rules; only for
            `train`.

    Returns:
        The scene; equal arguments give equal bytes.

    Raises:
        InputError: `augment` outside `train`, a negative number, or a missing package.
    """
    if augment and split != "train":
        raise InputError(
            f"digit scenes: augment=True for split {split!r}, expected 'train' alone; "
            "validation and test scenes keep to the frozen rules"
        )
    if seed < 0 or index < 0:
        raise InputError(f"digit scenes: seed {seed}, index {index}; expected at least 0 for both")
    rng = np.random.Generator(np.random.PCG64([seed, SOURCES[split].number, index]))
    plan = plan_scene(SOURCES[split], rng, augment=augment)
    canvas, objects = draw_objects(plan, rng)
    if augment:
        canvas = degrade(canvas, rng)
    return Scene(
        jpeg=_encode_jpeg(canvas, plan.quality),
        width=plan.width,
        height=plan.height,
        objects=objects,
    )


def make_sample(*, split: Split, seed: int, index: int, augment: bool = False) -> Sample:
    """Make scene number `index` as a sample of a shard.

    Args:
        split: As for `make_scene`.
        seed: As for `make_scene`.
        index: As for `make_scene`.
        augment: As for `make_scene`.

    Returns:
        The sample.
    """
    scene = make_scene(split=split, seed=seed, index=index, augment=augment)
    objects = tuple(
        ObjectMetadata(
            label=one.label,
            box_xyxy=one.box_xyxy,
            truncated=one.truncated,
            mask=encode_mask(one.mask),
        )
        for one in scene.objects
    )
    return Sample(
        key=f"{split}-{index:06d}",
        image=scene.jpeg,
        extension="jpg",
        metadata=SampleMetadata(
            width=scene.width,
            height=scene.height,
            original_name=f"digit-scenes/{split}/seed-{seed}/{index:06d}",
            objects=objects,
        ),
    )


def is_augmented(index: int, share: float) -> bool:
    """Spread the augmented scenes of a set evenly.

    Args:
        index: Of the scene.
        share: Part of the scenes that are augmented, 0 to 1.

    Returns:
        Whether this one is.
    """
    return int((index + 1) * share) > int(index * share)


def plan_scene(
    sources: SceneSources, rng: np.random.Generator, *, augment: bool = False
) -> ScenePlan:
    """Draw everything of a scene but the places and colours of its objects.

    Heights come first and are never drawn again, so that large objects, which find a place less
    often, are not replaced by small ones.

    Args:
        sources: Digits and photographs to choose from.
        rng: Every draw comes from it.
        augment: Vary the background and the handwriting.

    Returns:
        The plan.
    """
    width, height = (int(side) for side in rng.integers(*_closed(SIDE_PIXELS), size=2))
    count = int(rng.integers(*_closed(OBJECTS_TRIED)))
    short = min(width, height)
    low, high = HEIGHT_PERCENT
    bounds = (-(-short * low // 100), short * high // 100)
    heights = tuple(int(value) for value in rng.integers(*_closed(bounds), size=count))
    digits = tuple(sources.digits[int(i)] for i in rng.integers(len(sources.digits), size=count))
    angles = [MAX_ANGLE * (2 * float(share) - 1) for share in rng.random(count)]
    quality = int(rng.integers(*_closed(JPEG_QUALITY)))
    name = sources.photographs[int(rng.integers(len(sources.photographs)))]
    background = _crop_background(load_photograph(name), (width, height), rng)
    if augment:
        background = vary_background(background, rng)
    return ScenePlan(
        width=width,
        height=height,
        background=background,
        heights=heights,
        digits=digits,
        styles=tuple(vary_style(a, rng) if augment else InkStyle(angle=a) for a in angles),
        quality=quality,
    )


def draw_objects(
    plan: ScenePlan, rng: np.random.Generator
) -> tuple[Image.Image, tuple[SceneObject, ...]]:
    """Place, colour and paint the planned objects one after the other.

    Args:
        plan: The scene.
        rng: Every draw comes from it.

    Returns:
        The RGB picture and the objects that found a place.
    """
    cells, labels = load_handwriting()
    canvas = plan.background.copy()
    owners = InkMap(width=plan.width, height=plan.height)
    objects = []
    for height, digit, style in zip(plan.heights, plan.digits, plan.styles, strict=True):
        ink = write_digit(cells[digit], height=height, style=style)
        place = owners.find_place(ink.mask, rng)
        if place is None:
            continue
        mask = owners.put(ink.mask, place)
        box = bound_ink(mask)
        colour = choose_colour(np.asarray(canvas.crop(box)), rng)
        canvas.paste(colour, (place[0] - ink.margin, place[1] - ink.margin), ink.alpha)
        objects.append(
            SceneObject(
                label=int(labels[digit]),
                digit_index=digit,
                drawn_height=height,
                box_xyxy=(float(box[0]), float(box[1]), float(box[2]), float(box[3])),
                mask=mask,
                truncated=bool(mask.sum() < ink.mask.sum()),
            )
        )
    return canvas, tuple(objects)


def choose_colour(under: np.ndarray, rng: np.random.Generator) -> tuple[int, int, int]:
    """Draw a colour far enough from the mean of what it will be drawn on.

    Args:
        under: uint8 (height, width, 3): the pixels of the object's box before it is painted.
        rng: Every draw comes from it.

    Returns:
        Red, green and blue, 0 to 255, whose summed distance from the mean is at least
        `MIN_COLOUR_DISTANCE`. Every mean has such colours: the far corner is at least 384 away.
    """
    count = under.shape[0] * under.shape[1]
    total = under.sum(axis=(0, 1), dtype=np.int64)
    while True:
        colour = rng.integers(0, 256, size=3)
        # Whole numbers: the comparison must fall the same way on every machine.
        if np.abs(colour * count - total).sum() >= MIN_COLOUR_DISTANCE * count:
            return int(colour[0]), int(colour[1]), int(colour[2])


def digest_scenes(scenes: Iterable[Scene]) -> str:
    """SHA-256 of a set of scenes: over the SHA-256 of each JPEG file, in order.

    Args:
        scenes: In the order of their index.

    Returns:
        64 hexadecimal digits.
    """
    digest = hashlib.sha256()
    for scene in scenes:
        digest.update(hashlib.sha256(scene.jpeg).digest())
    return digest.hexdigest()


def _closed(bounds: tuple[int, int]) -> tuple[int, int]:
    """Bounds that `Generator.integers` takes, upper one included."""
    return bounds[0], bounds[1] + 1


def _crop_background(
    photograph: Image.Image, size: tuple[int, int], rng: np.random.Generator
) -> Image.Image:
    """Random crop of the scene's shape, resized to it, mirrored half of the time."""
    fit = min(photograph.width / size[0], photograph.height / size[1])
    share = MIN_BACKGROUND_SHARE + (1 - MIN_BACKGROUND_SHARE) * float(rng.random())
    width, height = (int(side * fit * share) for side in size)
    left = int(rng.integers(photograph.width - width + 1))
    top = int(rng.integers(photograph.height - height + 1))
    crop = photograph.crop((left, top, left + width, top + height))
    if rng.random() < 1 / 2:
        crop = crop.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return crop.resize(size, Image.Resampling.BICUBIC)


def _encode_jpeg(image: Image.Image, quality: int) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()
