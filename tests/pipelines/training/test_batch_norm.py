"""Does a network without normalisation say what the normalised one said?"""

from __future__ import annotations

import torch

from overfeat.architectures import narrow
from overfeat.network import OverFeat, initialize
from overfeat.zoo import TINY
from pipelines.training.batch_norm import attach_batch_norm, fold_batch_norm

ARCHITECTURE = narrow(TINY, divisor=8)


def make_network():
    return OverFeat(ARCHITECTURE, outputs=4, regressor="single")


def make_trained_network():
    """A network with normalisation that has seen some batches, every tensor of it moved."""
    network = make_network()
    initialize(network, seed=1)
    attach_batch_norm(network)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
        for _ in range(3):
            network.train()(2 + 3 * torch.randn(2, 3, 245, 245, generator=generator))
    return network.eval()


def test_the_folded_network_says_what_the_normalised_one_says():
    normalised = make_trained_network()
    plain = make_network().eval()
    plain.load_state_dict(fold_batch_norm(normalised.state_dict()))
    canvases = torch.randn(2, 3, 245, 281, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        expected, found = normalised(canvases), plain(canvases)
        unfolded = make_network().eval()
        unfolded.load_state_dict(normalised.state_dict(), strict=False)
        without = unfolded(canvases)
    scale = expected.logits.abs().max()
    torch.testing.assert_close(found.logits, expected.logits, rtol=1e-4, atol=1e-4 * scale.item())
    torch.testing.assert_close(found.codes, expected.codes, rtol=1e-4, atol=1e-4 * scale.item())
    # The normalisation does change what the network says: the comparison is not an empty one.
    assert (without.logits - expected.logits).abs().max() > 0.1 * scale


def test_a_folded_network_holds_no_trace_of_the_normalisation():
    folded = fold_batch_norm(make_trained_network().state_dict())
    assert folded.keys() == make_network().state_dict().keys()


def test_only_the_trunk_is_normalised_and_the_heads_stay_as_they_are():
    normalised = make_trained_network().state_dict()
    folded = fold_batch_norm(normalised)
    for name, tensor in folded.items():
        assert torch.equal(tensor, normalised[name]) == (not name.startswith("trunk."))
