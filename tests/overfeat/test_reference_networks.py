"""Do our networks compute what their papers and torchvision write down, module by module?"""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from overfeat.architectures import NormLayer, narrow
from overfeat.network import OverFeat, count_parameters
from overfeat.zoo import ALEXNET_2012, ARCHITECTURES, get_architecture
from tests.overfeat.builders import make_canvases, make_network
from tests.overfeat.reference_networks import (
    REFERENCES,
    LiteralResponseNorm,
    copy_weights,
    make_reference,
    randomise,
)

PARAMETERS = {
    "fast": 145_920_872,
    "accurate": 144_656_488,
    "alexnet": 61_100_840,
    "alexnet-2012": 60_965_224,
    "vgg16": 138_357_544,
}
# Pixels so bright that response normalisation is far from a division by a constant.
BRIGHTNESS = 300.0


def build_on_meta(name):
    with torch.device("meta"):
        return OverFeat(get_architecture(name), outputs=1000), make_reference(name)


def list_modules(architecture):
    """Our modules but for those that the references have not: padding is part of a convolution."""
    names = architecture.module_names()
    return [name for name in names if name != "standardize" and not name.endswith("_pad")]


def relative_difference(values, reference):
    return ((values - reference).abs().max() / reference.abs().max()).item()


def test_every_network_but_the_thin_one_has_a_reference():
    assert set(REFERENCES) == set(PARAMETERS) == set(ARCHITECTURES) - {"tiny"}


@pytest.mark.parametrize("name", REFERENCES)
def test_the_parameters_are_as_many_as_published(name):
    network, reference = build_on_meta(name)
    assert count_parameters(network) == count_parameters(reference) == PARAMETERS[name]


@pytest.mark.parametrize("name", REFERENCES)
def test_at_full_width_every_module_has_the_references_shape(name):
    network, reference = build_on_meta(name)
    window = network.architecture.window
    crop = torch.empty(1, 3, window, window, device="meta")
    modules = list_modules(network.architecture)
    for module, theirs in zip(modules, reference.iter_modules(crop), strict=True):
        shape = tuple(theirs.shape) if theirs.dim() == 4 else (*theirs.shape, 1, 1)
        assert tuple(network.activations(crop, layer=module).shape) == shape, module


@pytest.mark.parametrize("name", REFERENCES)
def test_every_module_gives_the_references_values_on_one_crop(name):
    architecture = narrow(get_architecture(name), divisor=32)
    reference = randomise(make_reference(name, outputs=7, divisor=32)).double()
    network = copy_weights(reference, OverFeat(architecture, outputs=7)).double().eval()
    crops = BRIGHTNESS * make_canvases(architecture.window, architecture.window, batch=2)
    modules = list_modules(architecture)
    with torch.no_grad():
        for module, theirs in zip(modules, reference.iter_modules(crops), strict=True):
            ours = network.activations(crops, layer=module)
            assert relative_difference(ours, theirs.view_as(ours)) <= 1e-12, module
        ours, theirs = network(crops, "coarse").logits, reference(crops)
    assert ours.shape == (2, 7, 1, 1)
    assert relative_difference(ours[..., 0, 0], theirs) <= 1e-12


@pytest.mark.parametrize(("alpha", "as_printed"), [(1e-4, False), (5e-4, False), (1e-4, True)])
def test_response_normalisation_is_the_literal_loop_over_channels(alpha, as_printed):
    """What the paper prints with alpha is what its program computes with five times as much."""
    ours = alpha * 5 if as_printed else alpha
    norm = NormLayer(name="norm1", size=5, alpha=ours, beta=0.75, k=2.0)
    trunk = tuple(norm if layer.name == "norm1" else layer for layer in ALEXNET_2012.trunk)
    architecture = narrow(replace(ALEXNET_2012, trunk=trunk), divisor=8)
    reference = randomise(make_reference("alexnet-2012", outputs=2, divisor=8)).double()
    network = copy_weights(reference, OverFeat(architecture, outputs=2)).double()
    canvases = BRIGHTNESS * make_canvases(60, 47)
    with torch.no_grad():
        before, after = (
            network.activations(canvases, layer=module) for module in ("conv1_relu", "norm1")
        )
        literal = LiteralResponseNorm(alpha=alpha, as_printed=as_printed)(before)
        other = LiteralResponseNorm(alpha=alpha, as_printed=not as_printed)(before)
    assert relative_difference(after, literal) <= 1e-12
    assert relative_difference(after, other) > 0.1


def test_the_2012_network_normalises_as_krizhevskys_program_does():
    norms = [layer for layer in ALEXNET_2012.trunk if isinstance(layer, NormLayer)]
    assert [norm.name for norm in norms] == ["norm1", "norm2"]
    assert {(norm.size, norm.alpha, norm.beta, norm.k) for norm in norms} == {(5, 1e-4, 0.75, 2.0)}


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float16, 2e-3), (torch.bfloat16, 2e-2)])
def test_response_normalisation_stands_large_values_in_half_precision(dtype, tolerance):
    """The square of 300 is infinite in float16, and a quotient by it 0."""
    network = make_network(narrow(ALEXNET_2012, divisor=8)).to(dtype)
    canvases = make_canvases(47, 47).mul(BRIGHTNESS).to(dtype)
    with torch.no_grad():
        before = network.activations(canvases, layer="conv1_relu").double()
        after = network.activations(canvases, layer="norm1")
    assert before.max() > BRIGHTNESS
    assert after.dtype == dtype
    assert relative_difference(after.double(), LiteralResponseNorm()(before)) <= tolerance
