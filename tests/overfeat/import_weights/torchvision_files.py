"""Files as torchvision's users have them: small networks of its layout, in real `.pth` files."""

from __future__ import annotations

import torch

from overfeat.architectures import narrow
from overfeat.zoo import ALEXNET, ARCHITECTURES, VGG16
from tests.overfeat.reference_networks import make_reference, randomise

DIVISOR = 64


def shrink_networks(monkeypatch):
    """Let the names `alexnet` and `vgg16` mean networks of a few channels, with 1000 classes."""
    for architecture in (ALEXNET, VGG16):
        small = narrow(architecture, divisor=DIVISOR)
        monkeypatch.setitem(ARCHITECTURES, architecture.name, small)


def make_small_reference(name, *, seed=4):
    return randomise(make_reference(name, divisor=DIVISOR), seed=seed)


def write_state(path, state, **options):
    torch.save(state, path, **options)
    return path


def write_network(path, name="alexnet"):
    return write_state(path, make_small_reference(name).state_dict())
