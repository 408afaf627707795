"""Are the defaults those of the paper where it says them, and is every wrong value refused?"""

from __future__ import annotations

from dataclasses import replace

import pytest

from overfeat.geometry import map_size
from overfeat.targets import HALF_VISIBLE
from overfeat.zoo import TINY, get_architecture
from pipelines.errors import InputError
from pipelines.training.recipe import Recipe, choose_recipe
from tests.pipelines.training.tiny_training import make_train_config


@pytest.mark.parametrize("architecture", ["fast", "accurate"])
def test_the_classifier_is_trained_as_the_paper_says(architecture):
    recipe = choose_recipe(architecture, "classify")
    assert (recipe.batch_size, recipe.momentum, recipe.weight_decay) == (128, 0.6, 1e-5)
    assert (recipe.dropout, recipe.init_std, recipe.batch_norm) == (0.5, 0.01, False)
    assert (recipe.crops.short_side, recipe.crops.flip) == (256, 0.5)
    assert recipe.crops.colour_jitter == 0
    assert recipe.epochs > 80
    schedule = recipe.make_schedule()
    rates = [schedule.rate_at(epoch) for epoch in (0.01, 30.0, 50.0, 60.0, 70.0, 80.0, 90.0)]
    assert rates == pytest.approx([0.05, 0.05, 0.025, 0.0125, 0.00625, 0.003125, 0.0015625])


def test_the_steps_of_the_rate_are_settings():
    recipe = Recipe(learning_rate=0.3, drop_epochs=(1.0, 2.0), drop_factor=0.1)
    rates = [recipe.make_schedule().rate_at(epoch) for epoch in (1.0, 1.1, 2.1)]
    assert rates == pytest.approx([0.3, 0.03, 0.003])


def test_the_regressor_is_trained_on_a_frozen_trunk_with_the_squared_difference():
    recipe = choose_recipe("accurate", "localize")
    assert (recipe.train_trunk, recipe.targets) == (False, HALF_VISIBLE)
    assert (recipe.loss.class_weight, recipe.loss.background_weight) == (0, 0)
    assert (recipe.loss.box_loss, recipe.loss.box_weight) == ("l2", 1)


@pytest.mark.parametrize("task", ["classify", "localize", "detect", "joint"])
@pytest.mark.parametrize("architecture", ["tiny", "accurate"])
def test_a_task_trains_its_own_parts_whatever_the_network(architecture, task):
    loss = choose_recipe(architecture, task).loss
    trained = (loss.class_weight > 0, loss.background_weight > 0, loss.box_weight > 0)
    assert (
        trained
        == {
            "classify": (True, False, False),
            "localize": (False, False, True),
            "detect": (True, True, False),
            "joint": (True, True, True),
        }[task]
    )


@pytest.mark.parametrize(
    ("architecture", "windows"),
    [("fast", 16), ("accurate", 36), ("alexnet", 16), ("vgg16", 16), ("tiny", 9)],
)
def test_crops_of_a_detector_have_many_windows(architecture, windows):
    side = choose_recipe(architecture, "detect").crops.side
    assert map_size(get_architecture(architecture), side, "fine") ** 2 == windows


def test_digits_are_not_mirrored():
    assert choose_recipe("tiny", "joint").crops.flip == 0


def test_portraits_fade():
    recipe = Recipe(portrait_epochs=2, portrait_fade_epochs=3, portrait_share=0.2)
    shares = [recipe.share_of_portraits(epoch) for epoch in range(8)]
    assert shares == pytest.approx([1, 1, 0.8, 0.6, 0.4, 0.2, 0.2, 0.2])
    assert {choose_recipe("accurate", "joint").share_of_portraits(epoch) for epoch in (0, 9)} == {0}


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("epochs", 0, "--epochs: received 0, expected above 0"),
        ("batch_size", 0, "--batch-size: received 0"),
        ("learning_rate", float("nan"), "--learning-rate: received nan"),
        ("dropout", 1.0, "--dropout: received 1.0, expected from 0 to below 1"),
        ("averaging", 1.0, "--averaging: received 1.0"),
        ("momentum", -0.1, "--momentum: received -0.1"),
        ("weight_decay", float("inf"), "--weight-decay: received inf"),
        ("portrait_share", 1.1, "--portrait-share: received 1.1"),
        ("init_std", 0.0, "--init-std: received 0.0"),
        ("clip_norm", -1.0, "--clip-norm: received -1.0"),
        ("optimizer", "adam", "--optimizer: received adam, expected one of sgd, adamw"),
        ("schedule", "linear", "--schedule: received linear, expected one of steps, cosine"),
        ("drop_factor", 0.0, "--drop-factor: received 0.0, expected above 0, at most 1"),
        ("drop_factor", 1.1, "--drop-factor: received 1.1"),
        ("drop_factor", float("nan"), "--drop-factor: received nan"),
        ("drop_epochs", (5.0, 3.0), "drop_epochs: received (5.0, 3.0)"),
    ],
)
def test_a_value_out_of_range_is_refused(name, value, words):
    with pytest.raises(InputError) as error:
        replace(Recipe(), **{name: value})
    assert words in str(error.value)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"workers": 3}, "--workers: received 3, expected at most --streams 2"),
        ({"streams": 3}, "--batch-size: received 4, expected a multiple"),
        ({"decoders": -1}, "--decoders: received -1"),
        ({"checkpoint_steps": 0}, "--checkpoint-steps: received 0"),
        ({"keep": 0}, "--keep: received 0"),
        ({"wait_for_resources": float("nan")}, "--wait-for-resources: received nan"),
        ({"task": "localize"}, "--task localize: trains the box regressor on a finished trunk"),
    ],
)
def test_a_training_that_cannot_be_is_refused(changes, words):
    with pytest.raises(InputError) as error:
        make_train_config("/in", "/out", **changes)
    assert words in str(error.value)


@pytest.mark.parametrize("gpus", [2, -1])
def test_a_worker_has_one_gpu_or_none(tmp_path, gpus):
    with pytest.raises(InputError, match=f"--gpus-per-worker: received {gpus}, expected 0 or 1"):
        make_train_config(tmp_path, tmp_path, gpus_per_worker=gpus)


def test_a_window_is_cut_out_of_an_image_that_is_no_smaller():
    crops = replace(choose_recipe("tiny", "classify").crops, short_side=TINY.window - 1)
    words = f"--short-side: received {TINY.window - 1}, expected at least {TINY.window}"
    with pytest.raises(InputError, match=words):
        make_train_config("/in", "/out", task="classify", recipe={"crops": crops})
    make_train_config("/in", "/out", task="joint", recipe={"crops": crops})
