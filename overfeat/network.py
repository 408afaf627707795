"""The ConvNet: one trunk, a classifier and a box regressor that share it.

Source: Sermanet et al. 2014, sections 3.2, 3.3 and 4.2, tables 1 and 3.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from overfeat import dense
from overfeat.architectures import Architecture, ConvLayer, PoolLayer
from overfeat.geometry import Stride

Regressor = Literal["none", "single", "per-class"]
"""No boxes, one box for all classes (the paper's winning entry), or one box for each class."""


class WindowValues(NamedTuple):
    """What the network says of every window of a batch of canvases."""

    logits: Float[Tensor, "b outputs rows cols"]
    """Class scores before the softmax; the background, if there is one, is last."""
    edges: Float[Tensor, "b regressors*4 rows cols"] | None
    """Box edges top, left, bottom, right in the window's frame: 0 to 1 from its first to its last
    pixel."""


class OverFeat(nn.Module):
    """Trunk and heads of one architecture, evaluated densely on canvases of any size."""

    def __init__(
        self, architecture: Architecture, *, outputs: int, regressor: Regressor = "none"
    ) -> None:
        """Build the layers with uninitialised weights: load a checkpoint or call `initialize`.

        Args:
            architecture: Which network.
            outputs: Classes, and one more if there is a background class.
            regressor: Whether the net has a box regressor, and for how many classes.
        """
        super().__init__()
        self.architecture = architecture
        self.regressor_kind = regressor
        trunk_layers = [layer for layer in architecture.trunk if isinstance(layer, ConvLayer)]
        self.trunk = _stack(trunk_layers, inputs=3)
        top = trunk_layers[-1].channels
        classifier = [*architecture.hidden, _output_layer(architecture.output, outputs)]
        self.classifier = _stack(classifier, inputs=top)
        edges = {"none": 0, "single": 4, "per-class": 4 * outputs}[regressor]
        boxes = [*architecture.regressor_hidden, _output_layer("edges", edges)] if edges else []
        self.regressor = _stack(boxes, inputs=top)

    def forward(self, canvases: Float[Tensor, "b 3 h w"], stride: Stride = "fine") -> WindowValues:
        """Evaluate every window of a batch of equal canvases in one pass.

        Args:
            canvases: Normalised pixels.
            stride: Fine or coarse.

        Returns:
            Logits and, with a regressor, box edges, one cell per window.
        """
        kernel = self.architecture.offset_pool.kernel
        pooled = dense.pool_top_map(self.top_map(canvases), kernel=kernel, stride=stride)
        logits = dense.apply_head(pooled, _convs(self.classifier), kernel=kernel, stride=stride)
        if self.regressor_kind == "none":
            return WindowValues(logits, None)
        edges = dense.apply_head(pooled, _convs(self.regressor), kernel=kernel, stride=stride)
        return WindowValues(logits, edges)

    def top_map(self, canvases: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b c cells_h cells_w"]:
        """Run the trunk: everything before the last pooling.

        Args:
            canvases: Normalised pixels.

        Returns:
            The top convolution's map, after its ReLU.
        """
        values = canvases
        for layer in self.architecture.trunk:
            if isinstance(layer, PoolLayer):
                values = F.max_pool2d(values, layer.kernel)
            else:
                values = F.relu(self.trunk[layer.name](values))
        return values

    def activations(
        self, canvases: Float[Tensor, "b 3 h w"], *, layer: str, stride: Stride = "coarse"
    ) -> Float[Tensor, "b c cells_h cells_w"]:
        """Run the network up to one of its modules.

        Args:
            canvases: Normalised pixels.
            layer: A name of `Architecture.module_names`.
            stride: Fine or coarse; it matters from the last pooling on.

        Returns:
            A copy of that module's output: before the ReLU for a convolution's own name.

        Raises:
            ValueError: If the architecture has no such module.
        """
        names = self.architecture.module_names()
        if layer not in names:
            msg = f"layer: received {layer!r}, expected one of {', '.join(names)}"
            raise ValueError(msg)
        values = canvases
        for name in names[1 : names.index(layer) + 1]:
            values = self._apply_module(name, values, stride)
        return values.clone()

    def _apply_module(self, name: str, values: Tensor, stride: Stride) -> Tensor:
        """Apply one module of the original program's numbering."""
        architecture = self.architecture
        if name.endswith("_relu"):
            return F.relu(values)
        if name.endswith("_pad"):
            padding = self._conv(name.removesuffix("_pad")).padding
            return F.pad(values, (int(padding[1]),) * 2 + (int(padding[0]),) * 2)
        if name == architecture.offset_pool.name:
            kernel = architecture.offset_pool.kernel
            return dense.pool_top_map(values, kernel=kernel, stride=stride)
        pools = {x.name: x.kernel for x in architecture.trunk if isinstance(x, PoolLayer)}
        if name in pools:
            return F.max_pool2d(values, pools[name])
        conv = self._conv(name)
        if name == architecture.hidden[0].name:
            kernel = architecture.offset_pool.kernel
            return dense.apply_first_layer(values, conv, kernel=kernel, stride=stride)
        return F.conv2d(values, conv.weight, conv.bias, stride=(conv.stride[0], conv.stride[1]))

    def _conv(self, name: str) -> nn.Conv2d:
        stack = self.trunk if name in self.trunk else self.classifier
        conv = stack[name]
        assert isinstance(conv, nn.Conv2d)
        return conv


def initialize(network: OverFeat, *, seed: int, std: float | None = None) -> None:
    """Draw the weights of a network; biases become 0.

    Args:
        network: The network, changed in place.
        seed: Seed of the draw.
        std: Standard deviation of every weight (the paper: 0.01); None draws each layer with
            sqrt(2 / fan_in), which keeps the activations' size through a net of any width.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in network.modules():
            if not isinstance(module, nn.Conv2d) or module.bias is None:
                continue
            fan_in = module.weight[0].numel()
            module.weight.normal_(0.0, std or (2.0 / fan_in) ** 0.5, generator=generator)
            module.bias.zero_()


def count_parameters(network: nn.Module) -> int:
    """Count the trainable numbers of a network.

    Args:
        network: Any module.

    Returns:
        How many there are.
    """
    return sum(parameter.numel() for parameter in network.parameters())


def _output_layer(name: str, channels: int) -> ConvLayer:
    return ConvLayer(name=name, channels=channels, kernel=1)


def _stack(layers: Iterable[ConvLayer], *, inputs: int) -> nn.ModuleDict:
    """Make the convolutions of a chain, each reading the one before."""
    stack = nn.ModuleDict()
    for layer in layers:
        stack[layer.name] = nn.Conv2d(
            inputs,
            layer.channels,
            layer.kernel,
            stride=layer.stride,
            padding=layer.padding,
        )
        inputs = layer.channels
    return stack


def _convs(stack: nn.ModuleDict) -> list[nn.Conv2d]:
    return [module for module in stack.values() if isinstance(module, nn.Conv2d)]
