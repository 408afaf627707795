"""Is memory laid out as convolutions are fastest, whatever is learnt and after a resume too?"""

from __future__ import annotations

import pytest
import torch

from pipelines.training.learner import Learner
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
