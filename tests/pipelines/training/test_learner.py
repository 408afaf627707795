"""Is what the recipe says done, in memory as convolutions are fastest, and nothing from nothing?"""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from overfeat.network import OverFeat, initialize
from overfeat.zoo import TINY
from pipelines.training import worker
from pipelines.training.examples import make_blank
from pipelines.training.learner import Learner, Turn
from pipelines.training.recipe import choose_recipe
from pipelines.training.run import plan_job
from tests.builders import write_scenes
from tests.pipelines.training.tiny_training import make_train_config, train_here


@pytest.mark.parametrize("settings", [{"task": "classify"}, {"task": "detect", "context": True}])
def test_weights_and_inputs_are_channels_last_in_every_step(tmp_path, monkeypatch, settings):
    seen = []

    def look(layer, inputs):
        tensors = (inputs[0], layer.weight)
        seen.append([one.is_contiguous(memory_format=torch.channels_last) for one in tensors])

    take_step = Learner.take_step

    def take_step_watched(self, batch, turn):
        layers = [one for one in self.network.modules() if isinstance(one, torch.nn.Conv2d)]
        hooks = [layer.register_forward_pre_hook(look) for layer in layers]
        loss = take_step(self, batch, turn)
        for hook in hooks:
            hook.remove()
        return loss

    monkeypatch.setattr(Learner, "take_step", take_step_watched)
    scenes = write_scenes(tmp_path / "scenes", 4)
    # The second one goes on from the first one's state.
    for epochs in (1, 2):
        config = make_train_config(scenes, tmp_path / "out", recipe={"epochs": epochs}, **settings)
        train_here(config)
    assert len(seen) >= 2 * 8
    assert all(map(all, seen))


@pytest.mark.parametrize("is_blank", [True, False])
def test_a_worker_without_samples_forgets_nothing_of_what_images_are_like(is_blank):
    network = OverFeat(TINY, outputs=2, regressor="none")
    learner = Learner(
        network,
        choose_recipe("tiny", "classify"),
        device=torch.device("cpu"),
        background=None,
        context=False,
        autocast=False,
        compiled=False,
        seed=0,
    )
    names = [name for name in network.state_dict() if name.startswith("batch_norm.")]
    names = [name for name in names if "running" in name]
    before = {name: network.state_dict()[name].clone() for name in names}
    batch = make_blank(TINY.window, 1, context=False)
    learner.take_step(replace(batch, is_blank=is_blank), Turn(steps=0, epoch=0.5))
    found = network.state_dict()
    assert names
    assert all(torch.equal(found[name], before[name]) for name in names) == is_blank


def make_pictures():
    """Three windows of noise and their classes."""
    generator = torch.Generator().manual_seed(3)
    blank = make_blank(TINY.window, 1, context=False)
    return replace(
        blank,
        canvases=torch.randn(3, *blank.canvases.shape[1:], generator=generator),
        labels=torch.tensor([[0], [1], [1]]),
        edges=torch.zeros(3, 1, 4),
        seeds=(1, 2, 3),
        is_blank=False,
    )


def list_weights(network):
    return torch.cat([one.detach().reshape(-1) for one in network.parameters()])


def descend(network, batch, recipe, rates):
    """Go down the slope with momentum, step by step, as textbooks say; returns the norms."""
    parameters = list(network.parameters())
    speeds, norms = [torch.zeros_like(one) for one in parameters], []
    for rate in rates:
        logits = network(batch.canvases, "fine").logits.flatten(1)
        loss = torch.nn.functional.cross_entropy(logits, batch.labels[:, 0])
        slopes = torch.autograd.grad(loss, parameters)
        norms.append(torch.cat([slope.reshape(-1) for slope in slopes]).norm().item())
        shrink = min(1.0, recipe.clip_norm / norms[-1])
        with torch.no_grad():
            for parameter, slope, speed in zip(parameters, slopes, speeds, strict=True):
                speed.mul_(recipe.momentum)
                speed.add_(slope * shrink + recipe.weight_decay * parameter)
                parameter.sub_(rate * speed)
    return norms


@pytest.mark.parametrize("clip_norm", [10.0, 1e4])
def test_steps_are_those_of_the_recipes_values(clip_norm):
    """Slopes are on one side of the clipping norm each time: all of them are longer, or shorter."""
    recipe = replace(
        choose_recipe("tiny", "classify"),
        optimizer="sgd",
        schedule="steps",
        learning_rate=1e-4,
        drop_epochs=(1.5,),
        drop_factor=0.3,
        momentum=0.7,
        weight_decay=0.05,
        clip_norm=clip_norm,
        batch_norm=False,
        averaging=0.0,
    )
    ours, expected = (OverFeat(TINY, outputs=2, regressor="none") for _ in range(2))
    for network in (ours, expected):
        initialize(network, seed=5, std=None)
    before = list_weights(ours)
    learner = Learner(
        ours,
        recipe,
        device=torch.device("cpu"),
        background=None,
        context=False,
        autocast=False,
        compiled=False,
        seed=0,
    )
    batch = make_pictures()
    for steps, epoch in enumerate((0.5, 1.0, 2.0)):
        learner.take_step(batch, Turn(steps=steps, epoch=epoch))
    norms = descend(expected, batch, recipe, (1e-4, 1e-4, 3e-5))
    assert all((norm > clip_norm) == (clip_norm < 100) for norm in norms)
    learnt, wanted = (list_weights(one) - before for one in (ours, expected))
    assert (learnt - wanted).norm() < 1e-4 * wanted.norm()


@pytest.mark.parametrize("init_std", [0.02, 0.3])
def test_the_first_weights_are_as_wide_as_the_recipe_says(tmp_path, init_std):
    scenes = write_scenes(tmp_path / "scenes", 2)
    config = make_train_config(
        scenes, tmp_path / "out", task="classify", recipe={"init_std": init_std}
    )
    job = plan_job(config, config.output)
    learner = worker._open_learner(job, torch.device("cpu"))
    layers = [one for one in learner.network.modules() if isinstance(one, torch.nn.Conv2d)]
    assert layers
    for layer in layers:
        assert layer.weight.std().item() == pytest.approx(init_std, rel=0.1)
