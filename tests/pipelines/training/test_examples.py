"""Does an example show its sample, and say what is there?"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from overfeat.checkpoint import Normalization
from overfeat.targets import IGNORED
from overfeat.zoo import get_architecture
from pipelines.errors import ImageError
from pipelines.shards.samples import ObjectMetadata, SampleMetadata
from pipelines.training.examples import ExampleMaker, join_examples, make_blank
from pipelines.training.recipe import choose_recipe

PLAIN = Normalization(mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
TINY = get_architecture("tiny")
BACKGROUND = 2
BOX = (40.0, 30.0, 160.0, 150.0)


def make_maker(task, *, flip=0.0, **changes):
    recipe = choose_recipe("tiny", task)
    crops = replace(recipe.crops, flip=flip, colour_jitter=0.0)
    return ExampleMaker(
        task=task,
        architecture=TINY,
        normalization=PLAIN,
        ladder=TINY.scales,
        background=BACKGROUND if task in {"detect", "joint"} else None,
        recipe=replace(recipe, crops=crops, **changes),
        context=False,
    )


def make_metadata(*objects, label=None):
    return SampleMetadata(
        width=320, height=240, original_name="x", label=label, objects=tuple(objects)
    )


def make_object(label=1, **changes):
    return ObjectMetadata(label=label, box_xyxy=BOX, **changes)


def make_pixels():
    """A dark image with a bright box."""
    pixels = np.zeros((240, 320, 3), np.uint8)
    pixels[30:150, 40:160] = 200
    return pixels


def make(maker, metadata, *, seed=1, epoch=9, pixels=None):
    pixels = make_pixels() if pixels is None else pixels
    return maker(pixels, metadata, np.random.default_rng(seed), epoch)


def test_classification_sees_one_window_of_the_scaled_image():
    example = make(make_maker("classify"), make_metadata(label=1))
    assert example.canvas.shape == (3, TINY.window, TINY.window)
    assert example.labels.tolist() == [1]


def test_a_window_of_a_classification_lies_inside_the_image():
    """Padding would be 0 in a picture that has no 0."""
    pixels = np.full((240, 320, 3), 7, np.uint8)
    for seed in range(20):
        example = make(make_maker("classify"), make_metadata(label=0), seed=seed, pixels=pixels)
        assert example.canvas.min() > 6.9


def test_an_image_without_a_class_of_its_own_has_that_of_its_objects():
    maker = make_maker("classify")
    assert make(maker, make_metadata(make_object(0), make_object(0))).labels.tolist() == [0]
    for metadata in (make_metadata(), make_metadata(make_object(0), make_object(1))):
        with pytest.raises(ImageError, match="expected one class to learn"):
            make(maker, metadata)


def test_mirrored_images_have_mirrored_boxes():
    metadata = make_metadata(make_object())
    plain = make(make_maker("joint"), metadata)
    mirrored_pixels = np.ascontiguousarray(make_pixels()[:, ::-1])
    moved = replace(make_object(), box_xyxy=(320 - BOX[2], BOX[1], 320 - BOX[0], BOX[3]))
    expected = make(make_maker("joint"), make_metadata(moved), pixels=mirrored_pixels)
    flipped = make(make_maker("joint", flip=1.0), metadata)
    assert np.array_equal(flipped.canvas, expected.canvas)
    assert np.array_equal(flipped.labels, expected.labels)
    assert np.array_equal(flipped.edges, expected.edges)
    assert not np.array_equal(flipped.canvas, plain.canvas)


def test_windows_on_a_crowd_or_a_difficult_object_say_nothing():
    maker = make_maker("joint", portrait_share=1.0)
    clear = make(maker, make_metadata(make_object()))
    assert 1 in clear.labels
    for doubt in ({"crowd": True}, {"difficult": True}):
        labels = make(maker, make_metadata(make_object(**doubt))).labels
        assert np.array_equal(labels == IGNORED, (clear.labels == 1) | (clear.labels == IGNORED))
        assert 1 not in labels


@pytest.mark.parametrize("task", ["detect", "joint"])
def test_an_image_of_a_class_without_boxes_says_nothing_and_one_of_none_is_background(task):
    """It shows its class somewhere: not all of ImageNet's training images have boxes."""
    labels = [
        set(make(make_maker(task), metadata, seed=seed).labels.tolist())
        for metadata in (make_metadata(label=1), make_metadata())
        for seed in range(3)
    ]
    assert labels == [{IGNORED}] * 3 + [{BACKGROUND}] * 3


def test_localization_knows_no_background():
    labels = make(make_maker("localize"), make_metadata(make_object())).labels
    assert set(labels.tolist()) <= {1, IGNORED}
    assert 1 in labels


def test_the_first_epochs_show_portraits():
    """The object of a portrait is in its middle."""
    maker = make_maker("joint", portrait_share=0.0)
    metadata = make_metadata(make_object())
    middle = maker.recipe.crops.side // 2
    centred = [
        [
            make(maker, metadata, seed=n, epoch=epoch).canvas[0, middle, middle] > 100
            for n in range(9)
        ]
        for epoch in (0, 9)
    ]
    assert all(centred[0])
    assert not all(centred[1])


def test_the_same_random_numbers_give_the_same_example():
    maker, metadata = make_maker("joint", flip=0.5), make_metadata(make_object())
    one, other, different = (make(maker, metadata, seed=seed) for seed in (1, 1, 2))
    assert np.array_equal(one.canvas, other.canvas)
    assert one.seed == other.seed != different.seed


def test_examples_stand_side_by_side():
    maker, metadata = make_maker("joint"), make_metadata(make_object())
    examples = [make(maker, metadata, seed=seed) for seed in (1, 2)]
    batch = join_examples(examples)
    assert batch.canvases.shape[0] == batch.labels.shape[0] == batch.edges.shape[0] == 2
    assert np.array_equal(batch.canvases[1].numpy(), examples[1].canvas)
    assert batch.seeds == (examples[0].seed, examples[1].seed)


def test_a_blank_batch_teaches_nothing():
    batch = make_blank(TINY.window, 1, context=False)
    assert batch.labels.tolist() == [[IGNORED]]
    assert batch.canvases.shape == (1, 3, TINY.window, TINY.window)
