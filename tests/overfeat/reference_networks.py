"""The networks once more, in plain torch, as their papers and torchvision write them.

Each takes one crop of its window. Nothing here is shared with the code under test.
"""

from __future__ import annotations

import torch
from torch import nn


class LiteralResponseNorm(nn.Module):
    """Krizhevsky et al. 2012, section 3.3, channel by channel.

    The paper prints alpha before the bare sum; Krizhevsky's program divides it by the size first.
    """

    def __init__(self, *, size=5, alpha=1e-4, beta=0.75, k=2.0, as_printed=False):
        super().__init__()
        self.size, self.beta, self.k = size, beta, k
        self.weight_of_sum = alpha if as_printed else alpha / size

    def forward(self, values):
        normalised = torch.empty_like(values)
        channels = values.shape[1]
        for i in range(channels):
            first, last = max(0, i - self.size // 2), min(channels - 1, i + self.size // 2)
            total = sum(values[:, j] ** 2 for j in range(first, last + 1))
            normalised[:, i] = values[:, i] / (self.k + self.weight_of_sum * total) ** self.beta
        return normalised


class ReferenceNetwork(nn.Module):
    """The frame of torchvision's AlexNet and VGG: convolutions, then linear layers."""

    def __init__(self, features, cells, classifier):
        super().__init__()
        self.features = nn.Sequential(*features)
        self.avgpool = nn.AdaptiveAvgPool2d((cells, cells))
        self.classifier = nn.Sequential(*classifier)

    def forward(self, crops):
        *_, logits = self.iter_modules(crops)
        return logits

    def iter_modules(self, crops):
        """The output of every module that does something at test time."""
        values = crops
        for module in self.features:
            values = module(values)
            yield values
        values = torch.flatten(self.avgpool(values), 1)
        for module in self.classifier:
            values = module(values)
            if not isinstance(module, nn.Dropout):
                yield values


def make_fast(*, outputs, width):
    """Table 1 of Sermanet et al. 2014."""
    features = [
        nn.Conv2d(3, width(96), 11, stride=4), nn.ReLU(), nn.MaxPool2d(2, 2),
        nn.Conv2d(width(96), width(256), 5), nn.ReLU(), nn.MaxPool2d(2, 2),
        nn.Conv2d(width(256), width(512), 3, padding=1), nn.ReLU(),
        nn.Conv2d(width(512), width(1024), 3, padding=1), nn.ReLU(),
        nn.Conv2d(width(1024), width(1024), 3, padding=1), nn.ReLU(), nn.MaxPool2d(2, 2),
    ]  # fmt: skip
    classifier = [
        nn.Linear(width(1024) * 6 * 6, width(3072)), nn.ReLU(),
        nn.Linear(width(3072), width(4096)), nn.ReLU(),
        nn.Linear(width(4096), outputs),
    ]  # fmt: skip
    return ReferenceNetwork(features, 6, classifier)


def make_accurate(*, outputs, width):
    """Table 3 of Sermanet et al. 2014."""
    features = [
        nn.Conv2d(3, width(96), 7, stride=2), nn.ReLU(), nn.MaxPool2d(3, 3),
        nn.Conv2d(width(96), width(256), 7), nn.ReLU(), nn.MaxPool2d(2, 2),
        nn.Conv2d(width(256), width(512), 3, padding=1), nn.ReLU(),
        nn.Conv2d(width(512), width(512), 3, padding=1), nn.ReLU(),
        nn.Conv2d(width(512), width(1024), 3, padding=1), nn.ReLU(),
        nn.Conv2d(width(1024), width(1024), 3, padding=1), nn.ReLU(), nn.MaxPool2d(3, 3),
    ]  # fmt: skip
    classifier = [
        nn.Linear(width(1024) * 5 * 5, width(4096)), nn.ReLU(),
        nn.Linear(width(4096), width(4096)), nn.ReLU(),
        nn.Linear(width(4096), outputs),
    ]  # fmt: skip
    return ReferenceNetwork(features, 5, classifier)


def make_alexnet(*, outputs, width):
    """torchvision 0.29: the positions of its layers, dropout too, are the names of its tensors."""
    features = [
        nn.Conv2d(3, width(64), 11, stride=4, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2),
        nn.Conv2d(width(64), width(192), 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2),
        nn.Conv2d(width(192), width(384), 3, padding=1), nn.ReLU(),
        nn.Conv2d(width(384), width(256), 3, padding=1), nn.ReLU(),
        nn.Conv2d(width(256), width(256), 3, padding=1), nn.ReLU(), nn.MaxPool2d(3, 2),
    ]  # fmt: skip
    classifier = [
        nn.Dropout(), nn.Linear(width(256) * 6 * 6, width(4096)), nn.ReLU(),
        nn.Dropout(), nn.Linear(width(4096), width(4096)), nn.ReLU(),
        nn.Linear(width(4096), outputs),
    ]  # fmt: skip
    return ReferenceNetwork(features, 6, classifier)


def make_alexnet_2012(*, outputs, width):
    """Krizhevsky et al. 2012, figure 2 and sections 3.3 to 3.5, as one network instead of two."""
    features = [
        nn.Conv2d(3, width(96), 11, stride=4), nn.ReLU(), LiteralResponseNorm(), nn.MaxPool2d(3, 2),
        nn.Conv2d(width(96), width(256), 5, padding=2, groups=2), nn.ReLU(), LiteralResponseNorm(),
        nn.MaxPool2d(3, 2),
        nn.Conv2d(width(256), width(384), 3, padding=1), nn.ReLU(),
        nn.Conv2d(width(384), width(384), 3, padding=1, groups=2), nn.ReLU(),
        nn.Conv2d(width(384), width(256), 3, padding=1, groups=2), nn.ReLU(), nn.MaxPool2d(3, 2),
    ]  # fmt: skip
    classifier = [
        nn.Linear(width(256) * 6 * 6, width(4096)), nn.ReLU(), nn.Dropout(),
        nn.Linear(width(4096), width(4096)), nn.ReLU(), nn.Dropout(),
        nn.Linear(width(4096), outputs),
    ]  # fmt: skip
    return ReferenceNetwork(features, 6, classifier)


def make_vgg16(*, outputs, width):
    """torchvision 0.29, configuration D of Simonyan and Zisserman 2014."""
    features, inputs = [], 3
    for step in (64, 64, "M", 128, 128, "M", *(256,) * 3, "M", *(512,) * 3, "M", *(512,) * 3, "M"):
        if step == "M":
            features.append(nn.MaxPool2d(2, 2))
        else:
            features += [nn.Conv2d(inputs, width(step), 3, padding=1), nn.ReLU()]
            inputs = width(step)
    classifier = [
        nn.Linear(width(512) * 7 * 7, width(4096)), nn.ReLU(), nn.Dropout(),
        nn.Linear(width(4096), width(4096)), nn.ReLU(), nn.Dropout(),
        nn.Linear(width(4096), outputs),
    ]  # fmt: skip
    return ReferenceNetwork(features, 7, classifier)


_MAKERS = {
    "fast": make_fast,
    "accurate": make_accurate,
    "alexnet": make_alexnet,
    "alexnet-2012": make_alexnet_2012,
    "vgg16": make_vgg16,
}
REFERENCES = tuple(_MAKERS)
"""Names of the networks that there is a reference of."""


def make_reference(name, *, outputs=1000, divisor=1):
    """A network with torch's random weights, its channel counts divided, ready for testing."""
    return _MAKERS[name](outputs=outputs, width=lambda n: max(4, n // divisor)).eval()


def randomise(reference, *, seed=4):
    """Weights that keep activations of order one, and biases, so that no layer is linear."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in reference.parameters():
            fan_in = parameter[0].numel()
            std = (2 / fan_in) ** 0.5 if parameter.dim() > 1 else 0.1
            parameter.normal_(0.0, std, generator=generator)
    return reference


def copy_weights(reference, network):
    """Put the reference's weights into one of our networks, layer by layer."""
    ours = [*network.trunk.parameters(), *network.classifier.parameters()]
    with torch.no_grad():
        for parameter, theirs in zip(ours, reference.parameters(), strict=True):
            parameter.copy_(theirs.view_as(parameter))
    return network
