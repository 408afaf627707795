"""The frozen difficulty of digit scenes, rule by rule, over a sample of the published test set."""

from __future__ import annotations

import io
from dataclasses import replace
from functools import cache
from itertools import pairwise

import numpy as np
import pytest
from PIL import Image

from pipelines.errors import InputError
from pipelines.shards import digit_scenes
from pipelines.shards.digit_scenes import (
    CLASSES,
    SOURCES,
    TEST_DIGEST_FIRST_40,
    TEST_SEED,
    choose_colour,
    digest_scenes,
    draw_objects,
    make_sample,
    make_scene,
    plan_scene,
)
from pipelines.shards.handwriting import bound_ink, write_digit
from pipelines.shards.photographs import load_handwriting
from tests.pipelines.shards.coco import read_mask

SPLITS = ("train", "validation", "test")
COUNT = 80


def start_rng(index, split="test"):
    return np.random.Generator(np.random.PCG64([TEST_SEED, SOURCES[split].number, index]))


@cache
def make_test_scenes():
    return tuple(make_scene(split="test", seed=TEST_SEED, index=index) for index in range(COUNT))


@cache
def plan_test_scenes():
    return tuple(plan_scene(SOURCES["test"], start_rng(index)) for index in range(COUNT))


def match_objects_to_plans():
    """Pairs of (object, its whole ink), found by walking through plan and scene together."""
    for plan, scene in zip(plan_test_scenes(), make_test_scenes(), strict=True):
        tried = zip(plan.digits, plan.heights, plan.styles, strict=True)
        pairs = []
        for one in scene.objects:
            style = next(s for d, h, s in tried if (d, h) == (one.digit_index, one.drawn_height))
            cells = load_handwriting()[0][one.digit_index]
            pairs.append((one, write_digit(cells, height=one.drawn_height, style=style).mask))
        yield pairs


def test_the_first_scenes_are_the_published_test_set():
    assert digest_scenes(make_test_scenes()[:40]) == TEST_DIGEST_FIRST_40


def test_sides_are_320_to_640_pixels():
    scenes = make_test_scenes()
    sides = [side for scene in scenes for side in (scene.width, scene.height)]

    assert 320 <= min(sides) < 340
    assert 620 < max(sides) <= 640
    for scene in scenes[:10]:
        assert Image.open(io.BytesIO(scene.jpeg)).size == (scene.width, scene.height)


def test_one_to_five_objects_are_tried_and_nearly_all_find_a_place():
    tried = [len(plan.heights) for plan in plan_test_scenes()]
    placed = [len(scene.objects) for scene in make_test_scenes()]

    assert set(tried) == {1, 2, 3, 4, 5}
    assert all(there <= wanted for there, wanted in zip(placed, tried, strict=True))
    assert min(placed) >= 1
    assert sum(placed) > 0.95 * sum(tried)


def test_heights_are_drawn_uniformly_from_15_to_80_percent_of_the_short_side():
    shares = np.sort(
        [
            height / min(plan.width, plan.height)
            for plan in plan_test_scenes()
            for height in plan.heights
        ]
    )

    assert shares[0] >= 0.15
    assert shares[-1] <= 0.80
    uniform = (shares - 0.15) / 0.65
    ranks = np.arange(1, len(shares) + 1) / len(shares)
    # Kolmogorov-Smirnov at the 1 % level.
    assert np.abs(uniform - ranks).max() < 1.63 / np.sqrt(len(shares))


def test_objects_have_the_height_that_was_drawn_for_them():
    whole = [one for scene in make_test_scenes() for one in scene.objects if not one.truncated]

    assert len(whole) > 50
    for one in whole:
        assert one.box_xyxy[3] - one.box_xyxy[1] == one.drawn_height


def test_rotation_stays_within_15_degrees_and_uses_them():
    angles = [style.angle for plan in plan_test_scenes() for style in plan.styles]

    assert -15 <= min(angles) < -13
    assert 13 < max(angles) <= 15
    assert all(
        (style.shear, style.aspect, style.level, style.softness) == (0.0, 1.0, 96, 0.0)
        for plan in plan_test_scenes()
        for style in plan.styles
    )


def test_colours_are_at_least_120_from_the_mean_of_what_is_under_them():
    distances = []
    for index in range(40):
        rng = start_rng(index)
        plan = plan_scene(SOURCES["test"], rng)
        alone = replace(
            plan, heights=plan.heights[:1], digits=plan.digits[:1], styles=plan.styles[:1]
        )
        canvas, (one,) = draw_objects(alone, rng)
        left, top, right, bottom = (int(edge) for edge in one.box_xyxy)
        under = np.asarray(plan.background)[top:bottom, left:right].reshape(-1, 3)
        inks, counts = np.unique(np.asarray(canvas)[one.mask], axis=0, return_counts=True)
        distances.append(np.abs(inks[counts.argmax()] - under.mean(axis=0)).sum())

    assert min(distances) >= 120
    assert min(distances) < 200


@pytest.mark.parametrize("mean", [0, 127, 255])
def test_every_background_has_a_colour_that_stands_out(mean):
    rng = np.random.default_rng(0)

    for _ in range(50):
        colour = choose_colour(np.full((4, 4, 3), mean, np.uint8), rng)
        assert sum(abs(channel - mean) for channel in colour) >= 120


def test_border_and_later_objects_take_at_most_a_fifth_of_the_ink():
    lost = []
    for pairs in match_objects_to_plans():
        for number, (one, whole) in enumerate(pairs):
            covered = np.any(
                [np.zeros_like(one.mask), *(o.mask for o, _ in pairs[number + 1 :])], 0
            )
            lost.append(1 - (one.mask & ~covered).sum() / whole.sum())

    assert max(lost) <= 0.2
    assert max(lost) > 0.15
    assert min(lost) == 0


def test_truncated_says_whether_the_border_cuts_ink_off():
    flags = [
        (one.truncated, one.mask.sum() < whole.sum())
        for pairs in match_objects_to_plans()
        for one, whole in pairs
    ]

    assert all(said == is_cut for said, is_cut in flags)
    assert {said for said, _ in flags} == {True, False}


def test_boxes_are_the_tight_bounds_of_the_ink_inside_the_image():
    for scene in make_test_scenes():
        for one in scene.objects:
            assert one.mask.shape == (scene.height, scene.width)
            assert one.box_xyxy == bound_ink(one.mask)


def test_the_ink_is_where_the_pixels_changed():
    for index in range(20):
        rng = start_rng(index)
        plan = plan_scene(SOURCES["test"], rng)
        canvas, objects = draw_objects(plan, rng)
        changed = (np.asarray(canvas) != np.asarray(plan.background)).any(axis=2)
        ink = np.any([one.mask for one in objects], axis=0)

        assert changed[ink].mean() > 0.999
        # What changed outside the ink is its antialiased edge.
        assert (changed & ~ink).sum() < 0.1 * ink.sum()


def test_a_covered_pixel_belongs_to_both_masks():
    overlaps = [
        (first.mask & second.mask).any()
        for scene in make_test_scenes()
        for first, second in pairwise(scene.objects)
    ]

    assert sum(overlaps) >= 5


def test_jpeg_quality_is_60_to_95():
    qualities = {}
    for quality in range(1, 101):
        buffer = io.BytesIO()
        Image.new("RGB", (8, 8)).save(buffer, "JPEG", quality=quality)
        qualities[str(Image.open(buffer).quantization)] = quality

    found = [
        qualities[str(Image.open(io.BytesIO(scene.jpeg)).quantization)]
        for scene in make_test_scenes()
    ]

    assert 60 <= min(found) < 65
    assert 90 < max(found) <= 95


def test_test_scenes_share_no_digit_and_no_photograph_with_the_others():
    train, validation, test = (SOURCES[split] for split in SPLITS)

    assert set(train.digits) | set(validation.digits) == set(range(1437))
    assert set(test.digits) == set(range(1437, 1797))
    assert not set(train.digits) & set(validation.digits)
    assert set(test.photographs) == {"coffee", "rocket", "china"}
    assert not set(test.photographs) & (set(train.photographs) | set(validation.photographs))


@pytest.mark.parametrize(
    ("split", "augment"),
    [("train", False), ("train", True), ("validation", False), ("test", False)],
)
def test_a_split_uses_its_own_sources_only(split, augment, monkeypatch):
    opened = set()
    load = digit_scenes.load_photograph
    monkeypatch.setattr(
        digit_scenes, "load_photograph", lambda name: opened.add(name) or load(name)
    )

    scenes = [make_scene(split=split, seed=0, index=i, augment=augment) for i in range(40)]

    assert opened == set(SOURCES[split].photographs)
    assert all(one.digit_index in SOURCES[split].digits for s in scenes for one in s.objects)


def test_labels_are_those_of_the_handwriting():
    labels = load_handwriting()[1]

    seen = {
        (one.label, int(labels[one.digit_index]))
        for scene in make_test_scenes()
        for one in scene.objects
    }

    assert seen == {(digit, digit) for digit in range(len(CLASSES))}


@pytest.mark.parametrize("augment", [False, True])
def test_a_scene_depends_on_its_index_and_not_on_the_order(augment):
    forward = [make_scene(split="train", seed=3, index=i, augment=augment) for i in range(6)]
    backward = [
        make_scene(split="train", seed=3, index=i, augment=augment) for i in reversed(range(6))
    ]

    for one, other in zip(forward, reversed(backward), strict=True):
        assert one.jpeg == other.jpeg
        assert [o.box_xyxy for o in one.objects] == [o.box_xyxy for o in other.objects]
    assert len({scene.jpeg for scene in forward}) == 6


def test_seeds_and_splits_give_other_scenes():
    jpegs = {
        make_scene(split=split, seed=seed, index=0).jpeg for split in SPLITS for seed in (0, 1)
    }

    assert len(jpegs) == 6


@pytest.mark.parametrize("split", ["validation", "test"])
def test_augmentation_outside_training_is_refused(split):
    with pytest.raises(InputError, match="expected 'train' alone"):
        make_scene(split=split, seed=0, index=0, augment=True)


def test_a_negative_seed_is_refused():
    with pytest.raises(InputError, match="seed -1"):
        make_scene(split="test", seed=-1, index=0)


def test_samples_carry_boxes_masks_and_flags_of_their_scene():
    samples = [make_sample(split="test", seed=TEST_SEED, index=index) for index in range(3)]

    assert [sample.key for sample in samples] == ["test-000000", "test-000001", "test-000002"]
    for sample, scene in zip(samples, make_test_scenes(), strict=False):
        metadata = sample.metadata
        assert sample.image == scene.jpeg
        assert (metadata.width, metadata.height) == (scene.width, scene.height)
        assert len(metadata.objects) == len(scene.objects)
        for written, drawn in zip(metadata.objects, scene.objects, strict=True):
            assert written.label == drawn.label
            assert written.box_xyxy == drawn.box_xyxy
            assert written.truncated == drawn.truncated
            assert (read_mask(written.mask) == drawn.mask).all()


@pytest.mark.parametrize("softness", [0.0, 0.5, 1.0])
def test_a_box_is_where_ink_covers_half_of_what_is_under_it_however_soft_its_edge_is(softness):
    for index in range(12):
        plan = plan_scene(SOURCES["train"], start_rng(index, "train"))
        paper = Image.new("RGB", plan.background.size, (255, 255, 255))
        style = replace(plan.styles[0], softness=softness)
        alone = replace(
            plan,
            background=paper,
            heights=plan.heights[:1],
            digits=plan.digits[:1],
            styles=(style,),
        )

        canvas, (one,) = draw_objects(alone, np.random.default_rng(index))

        missing = 255 - np.asarray(canvas).astype(int).sum(axis=2) / 3
        assert bound_ink(missing > missing.max() / 2) == pytest.approx(one.box_xyxy, abs=1)
