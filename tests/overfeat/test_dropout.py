"""Is the right part of the hidden layers dropped, in training alone?"""

from __future__ import annotations

import torch

from overfeat.network import OverFeat, initialize
from overfeat.zoo import get_architecture

ARCHITECTURE = get_architecture("tiny")
CANVAS = torch.randn(2, 3, 245, 245, generator=torch.Generator().manual_seed(1))
HIDDEN = [f"{layer.name}_relu" for layer in ARCHITECTURE.hidden]


def make_network(dropout):
    network = OverFeat(ARCHITECTURE, outputs=3)
    initialize(network, seed=1)
    network.dropout = dropout
    return network


def test_nothing_is_dropped_when_the_network_does_not_train():
    plain, dropping = make_network(0.0).eval(), make_network(0.5).eval()
    assert torch.equal(plain(CANVAS).logits, dropping(CANVAS).logits)


def test_half_of_every_hidden_layer_is_dropped_and_the_rest_is_doubled():
    plain, dropping = make_network(0.0).train(), make_network(0.5).train()
    first, *others = HIDDEN
    expected = plain.activations(CANVAS, layer=first)
    found = dropping.activations(CANVAS, layer=first)
    alive = expected > 0
    assert 0.4 < (found[alive] == 0).float().mean() < 0.6
    kept = found != 0
    assert torch.allclose(found[kept], 2 * expected[kept])
    for name in others:
        alive = (plain.activations(CANVAS, layer=name) > 0).float().mean()
        left = (dropping.activations(CANVAS, layer=name) > 0).float().mean()
        assert 0.3 * alive < left < 0.7 * alive


def test_the_trunk_and_the_output_are_whole():
    plain, dropping = make_network(0.0).train(), make_network(0.5).train()
    last = [name for name in ARCHITECTURE.module_names() if name.startswith("conv")][-1]
    assert torch.equal(
        plain.activations(CANVAS, layer=last), dropping.activations(CANVAS, layer=last)
    )
    assert (dropping(CANVAS).logits != 0).all()


def test_the_masks_follow_from_the_seed():
    network = make_network(0.5).train()
    outputs = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        outputs.append(network(CANVAS).logits)
    assert torch.equal(outputs[0], outputs[1])
    assert not torch.equal(outputs[0], outputs[2])
