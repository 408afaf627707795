"""Is memory laid out as convolutions are fastest, and is nothing learnt where there is nothing?"""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from overfeat.network import OverFeat
from overfeat.zoo import TINY
from pipelines.training.examples import make_blank
from pipelines.training.learner import Learner, Turn
from pipelines.training.recipe import choose_recipe
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
