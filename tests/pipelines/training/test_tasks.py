"""What does each task learn: which weights, by which loss, and does that loss fall?"""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from typing import get_args

import pytest
import safetensors.torch
import torch

import overfeat
from overfeat.box_coding import BoxCoding
from overfeat.box_losses import BoxLoss
from overfeat.losses import Negatives
from overfeat.network import initialize
from pipelines.errors import InputError
from pipelines.training.journal import read_journal
from pipelines.training.recipe import choose_recipe
from pipelines.training.run import plan_job
from tests.builders import make_checkpoint, write_scenes
from tests.pipelines.training.tiny_training import make_train_config, train_here


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    """Four scenes: one step an epoch."""
    return write_scenes(tmp_path_factory.mktemp("scenes"), 4)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A checkpoint of all parts that knows the scenes' classes."""
    return make_checkpoint(tmp_path_factory.mktemp("base"), classes=("red", "green"))


def read_tensors(folder):
    return safetensors.torch.load_file(f"{folder}/model.safetensors")


def name_changed(config, before):
    """Name the weights that a training has changed; the others are the same bit for bit."""
    after = read_tensors(config.output)
    assert after.keys() == before.keys()
    return {name for name, value in after.items() if not torch.equal(value, before[name])}


def draw_first_weights(config):
    network = plan_job(config, config.output).checkpoint.build_network()
    initialize(network, seed=config.seed, std=config.recipe.init_std)
    return network.state_dict()


EPOCHS = 6
# Boxes drawn at random may be so large that their sizes have to come down first.
LONGER = {"epochs": 12, "portrait_epochs": 12}
# Single objects have no background around them.
NO_PORTRAITS = {"portrait_epochs": 0, "portrait_fade_epochs": 0, "portrait_share": 0.0}
# Batch normalisation is folded into what is saved, which changes the first weights too.
PLAIN = {"batch_norm": False}


@pytest.mark.parametrize("task", ["joint", "detect", "classify"])
def test_a_task_from_random_weights_changes_every_weight_of_its_parts(scenes, tmp_path, task):
    config = make_train_config(scenes, tmp_path, task=task, recipe=PLAIN)
    first = draw_first_weights(config)
    train_here(config)
    parts = {"trunk", "classifier"} | ({"regressor"} if task == "joint" else set())
    assert {name.partition(".")[0] for name in first} == parts
    assert name_changed(config, first) == first.keys()


@pytest.mark.parametrize("train_trunk", [False, True])
def test_localize_changes_the_trunk_only_if_asked_and_the_classifier_never(
    scenes, base, tmp_path, train_trunk
):
    recipe = PLAIN | {"train_trunk": train_trunk}
    config = make_train_config(scenes, tmp_path, task="localize", weights=base, recipe=recipe)
    train_here(config)
    before = read_tensors(base)
    parts = ("regressor.", "trunk.") if train_trunk else ("regressor.",)
    assert name_changed(config, before) == {name for name in before if name.startswith(parts)}


def test_detect_from_a_network_with_boxes_leaves_no_regressor(scenes, base, tmp_path):
    config = make_train_config(scenes, tmp_path, task="detect", weights=base, recipe=PLAIN)
    train_here(config)
    before = {name: one for name, one in read_tensors(base).items() if "regressor" not in name}
    assert name_changed(config, before) == before.keys()
    assert overfeat.load(tmp_path).members[0].config.regressor == "none"


def learn_steadily(task, **loss):
    """Each epoch is one step on the same pictures of single objects."""
    usual = choose_recipe("tiny", task)
    crops = replace(
        usual.crops, side=245, colour_jitter=0.0, portrait_fill=(0.7, 0.7), portrait_spread=0.0
    )
    return {
        "epochs": EPOCHS,
        "learning_rate": 3e-4,
        "warm_up": 0.0,
        "averaging": 0.0,
        "portrait_epochs": EPOCHS,
        "crops": crops,
        "loss": replace(usual.loss, **loss),
    }


def read_losses(config, part):
    losses = [line[f"loss_{part}"] for line in read_journal(config.output)]
    assert len(losses) == EPOCHS
    return losses


@pytest.mark.parametrize(
    ("coding", "box_loss"), list(product(get_args(BoxCoding), get_args(BoxLoss)))
)
def test_the_loss_of_boxes_falls(scenes, base, tmp_path, coding, box_loss):
    config = make_train_config(
        scenes,
        tmp_path,
        task="localize",
        weights=base,
        recipe=learn_steadily("localize", box_loss=box_loss) | LONGER,
        box_coding=coding,
        checkpoint_steps=100,
        log_steps=1,
    )
    train_here(config)
    losses = [line["loss_boxes"] for line in read_journal(config.output)]
    assert losses[-1] < 0.6 * losses[0]


def test_each_choice_of_negatives_teaches_the_background_in_its_own_way(scenes, tmp_path):
    told = []
    for negatives in get_args(Negatives):
        recipe = learn_steadily("detect", negatives=negatives) | NO_PORTRAITS
        config = make_train_config(
            scenes,
            tmp_path / negatives,
            task="detect",
            recipe=recipe,
            checkpoint_steps=100,
            log_steps=1,
        )
        train_here(config)
        losses = read_losses(config, "background")
        assert sum(losses[-2:]) < 0.7 * sum(losses[:2]), negatives
        told.append(losses[1:])
    assert len(set(map(tuple, told))) == len(told)


@pytest.mark.parametrize("task", ["detect", "joint", "localize"])
def test_shards_without_a_box_are_refused_where_boxes_are_to_be_learnt(base, tmp_path, task):
    shards = write_scenes(tmp_path / "scenes", 4, objects=0)
    config = make_train_config(shards, tmp_path, task=task, weights=base)
    with pytest.raises(InputError, match=f"no image of split train has a box.*--task {task}"):
        plan_job(config, str(tmp_path))
