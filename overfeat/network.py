"""The ConvNet: one trunk, a classifier and a box regressor that share it.

Source: Sermanet et al. 2014, sections 3.2, 3.3 and 4.2, tables 1 and 3.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Final, Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from overfeat import dense
from overfeat.architectures import (
    Architecture,
    ConvLayer,
    NormLayer,
    PoolLayer,
    TrunkLayer,
)
from overfeat.box_coding import BoxCoding
from overfeat.geometry import Stride

Regressor = Literal["none", "single", "per-class"]
"""No boxes, one box for all classes (the paper's winning entry), or one box for each class."""


class WindowValues(NamedTuple):
    """What the network says of every window of a batch of canvases."""

    logits: Float[Tensor, "b outputs rows cols"]
    """Class scores before the softmax; the background, if there is one, is last."""
    codes: Float[Tensor, "b regressors*4 rows cols"] | None
    """Four numbers per box, as the network's `box_coding` has it; None without a regressor."""
    context: Float[Tensor, "b hidden rows cols"] | None = None
    """What the windows of the next larger scale are told; None for a network without context."""
    tapped: Float[Tensor, "b c cells_h cells_w"] | None = None
    """Output of the module that was asked for."""


class OverFeat(nn.Module):
    """Trunk and heads of one architecture, evaluated densely on canvases of any size."""

    def __init__(
        self,
        architecture: Architecture,
        *,
        outputs: int,
        regressor: Regressor = "none",
        box_coding: BoxCoding = "edges",
        context: bool = False,
    ) -> None:
        """Build the layers with uninitialised weights: load a checkpoint or call `initialize`.

        Args:
            architecture: Which network.
            outputs: Classes, and one more if there is a background class.
            regressor: Whether the net has a box regressor, and for how many classes.
            box_coding: What the regressor's numbers mean.
            context: Whether the classifier also reads the next lower scale (paper, section 5).
        """
        super().__init__()
        self.architecture = architecture
        self.box_coding: BoxCoding = box_coding
        self.dropout = 0.0
        """Part of the classifier's hidden outputs that is dropped in training; no checkpoint knows
        of it."""
        trunk_layers = [layer for layer in architecture.trunk if isinstance(layer, ConvLayer)]
        self.trunk = _stack(trunk_layers, inputs=3)
        self._hidden_names = frozenset(layer.name for layer in architecture.hidden)
        top = architecture.top_channels
        classifier = [*architecture.hidden, _output_layer(architecture.output, outputs)]
        self.classifier = _stack(classifier, inputs=top)
        codes = {"none": 0, "single": 4, "per-class": 4 * outputs}[regressor]
        boxes = [*architecture.regressor_hidden, _output_layer("edges", codes)] if codes else []
        self.regressor = _stack(boxes, inputs=top)
        self.context = _stack(architecture.hidden[:1] if context else (), inputs=top)

    def forward(
        self,
        canvases: Float[Tensor, "b 3 h w"],
        stride: Stride = "fine",
        *,
        context: Float[Tensor, "b hidden rows cols"] | None = None,
        tap: str | None = None,
        tell: bool = True,
    ) -> WindowValues:
        """Evaluate every window of a batch of equal canvases in one pass.

        Args:
            canvases: Normalised pixels.
            stride: Fine or coarse.
            context: What the next lower scale told each window; None on the lowest scale, and for
                a network without context.
            tap: A module whose output is wanted too: a name of `Architecture.module_names`.
            tell: Whether a network with context says what the next larger scale is told.

        Returns:
            Logits and, with a regressor, coded boxes, one cell per window.

        Raises:
            ValueError: If the architecture has no such module as `tap`.
        """
        wanted, zeros = self._find_tap(tap and self.architecture.find_module(tap))
        pooled = tapped = logits = canvases
        for name, values in self._run_modules(canvases, stride, context):
            if name == self.architecture.offset_pool.name:
                pooled = values
            if name == wanted:
                tapped = F.pad(values, (zeros,) * 4)
            logits = values
        return WindowValues(
            logits=logits,
            codes=self._apply_head(pooled, self.regressor, stride),
            context=self._apply_head(pooled, self.context, stride) if tell else None,
            tapped=tapped if tap else None,
        )

    def tell(
        self, canvases: Float[Tensor, "b 3 h w"], stride: Stride = "fine"
    ) -> Float[Tensor, "b hidden rows cols"]:
        """Say what the windows of a scale tell the next larger one, and nothing else.

        Args:
            canvases: Normalised pixels.
            stride: Fine or coarse.

        Returns:
            One cell per window.

        Raises:
            ValueError: If the network has no context.
        """
        pooled = canvases
        for name, values in self._run_modules(canvases, stride, None):
            pooled = values
            if name == self.architecture.offset_pool.name:
                break
        told = self._apply_head(pooled, self.context, stride)
        if told is None:
            raise ValueError("context: this network has none; build it with context=True")
        return told

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
        wanted, zeros = self._find_tap(self.architecture.find_module(layer))
        found = canvases
        for name, values in self._run_modules(canvases, stride, None):
            if name == wanted:
                found = values
                break
        return F.pad(found, (zeros,) * 4).clone()

    def count_channels(self, module: str) -> int:
        """Count the channels of a module's map.

        Args:
            module: A name of `Architecture.module_names`.

        Returns:
            The number.
        """
        channels = 3
        for name, layer in self.architecture.walk():
            if isinstance(layer, ConvLayer) and name == layer.name:
                channels = layer.channels
            if name == self.architecture.output:
                channels = self._conv(name).out_channels
            if name == module:
                break
        return channels

    def _find_tap(self, name: str | None) -> tuple[str | None, int]:
        """The module whose values are wanted, and the zeros that `_pad` modules put around."""
        before = None
        for module, layer in self.architecture.walk():
            if module == name and isinstance(layer, ConvLayer) and module != layer.name:
                return before, layer.padding
            before = module
        return name, 0

    def _run_modules(
        self, values: Tensor, stride: Stride, context: Tensor | None
    ) -> Iterator[tuple[str, Tensor]]:
        """Apply module after module; padding is part of the convolution that it is for."""
        for name, layer in self.architecture.walk():
            if layer is not None and name != layer.name:
                continue
            values = self._apply_module(name, layer, values, stride)
            if name == self.architecture.hidden[0].name and context is not None:
                values = values + context
            yield name, values

    def _apply_module(
        self, name: str, layer: TrunkLayer | None, values: Tensor, stride: Stride
    ) -> Tensor:
        pool, first = self.architecture.offset_pool, self.architecture.hidden[0]
        if layer is pool:
            return dense.pool_top_map(values, pool=pool, stride=stride)
        if layer is first:
            return dense.apply_first_layer(values, self._conv(name), pool=pool, stride=stride)
        if isinstance(layer, PoolLayer):
            return F.max_pool2d(values, layer.kernel, layer.stride)
        if isinstance(layer, NormLayer):
            terms = {"alpha": layer.alpha, "beta": layer.beta, "k": layer.k}
            # No half precision: a CPU cannot, and squares of 256 would be infinite in float16.
            wide = values.to(torch.promote_types(values.dtype, torch.float32))
            return F.local_response_norm(wide, layer.size, **terms).to(values.dtype)
        if name.endswith("_relu"):
            is_hidden = name.removesuffix("_relu") in self._hidden_names
            share = self.dropout if is_hidden else 0.0
            return F.dropout(F.relu(values), share, training=self.training)
        # Canvases are standardized when they are drawn.
        return values if name == "standardize" else self._convolve(name, values)

    def _convolve(self, name: str, values: Tensor) -> Tensor:
        # Called as a module, not a function: training hangs its batch normalisation on it.
        convolved: Tensor = self._conv(name)(values)
        return convolved

    def _apply_head(self, pooled: Tensor, head: nn.ModuleDict, stride: Stride) -> Tensor | None:
        """Slide the regressor or the context over the pooled map; None if there is none."""
        if not len(head):
            return None
        pool = self.architecture.offset_pool
        return dense.apply_head(pooled, _convs(head), pool=pool, stride=stride)

    def _conv(self, name: str) -> nn.Conv2d:
        stack = self.trunk if name in self.trunk else self.classifier
        conv = stack[name]
        assert isinstance(conv, nn.Conv2d)
        return conv


PAPER_STD: Final = 0.01
"""Standard deviation of the first weights in the paper."""


def initialize(network: nn.Module, *, seed: int, std: float | None = None) -> None:
    """Draw the weights of a network, or of one of its heads alone; biases become 0.

    The paper does not say what its biases were. At 0 no class and no place is preferred before the
    first example.

    Args:
        network: Any module made of convolutions, such as the regressor that is put on a trained
            trunk; changed in place.
        seed: Seed of the draw.
        std: Standard deviation of every weight, above 0, such as `PAPER_STD`; None draws each layer
            with sqrt(2 / fan_in), which keeps the activations' size through a net of any width.

    Raises:
        ValueError: If the standard deviation is not a finite number above 0.

    Source:
        Sermanet et al. 2014, section 3.1; He et al. 2015, equation 10, without a deviation.
    """
    if std is not None and not 0 < std < math.inf:
        raise ValueError(f"std: received {std}, expected a finite number above 0")
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in network.modules():
            if not isinstance(module, nn.Conv2d):
                continue
            assert module.bias is not None
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
            groups=layer.groups,
        )
        inputs = layer.channels
    return stack


def _convs(stack: nn.ModuleDict) -> list[nn.Conv2d]:
    return [module for module in stack.values() if isinstance(module, nn.Conv2d)]
