"""What a network is made of: layers in order, and the numbers of the 2014 program's modules.

The networks themselves are in `zoo`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from overfeat.scales import Canvas


@dataclass(frozen=True, kw_only=True, slots=True)
class ConvLayer:
    """A convolution followed by a ReLU; a fully connected layer is one over its whole input."""

    name: str
    """The paper's name, such as `conv1` or `fc7`."""
    channels: int
    """Output channels."""
    kernel: int
    """Side of the square kernel, in cells of the layer's input."""
    stride: int = 1
    """Step, in cells of the layer's input."""
    padding: int = 0
    """Zeros added on each side, in cells of the layer's input."""
    groups: int = 1
    """Parts into which input and output channels are cut; each part sees only its own."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PoolLayer:
    """A max-pooling without padding; a rest narrower than the kernel is dropped."""

    name: str
    """`pool1`, `pool2`, ..."""
    kernel: int
    """Side, in cells of the layer's input."""
    stride: int
    """Step, in cells of the layer's input; below the kernel, the poolings overlap."""


@dataclass(frozen=True, kw_only=True, slots=True)
class NormLayer:
    """Local response normalisation across channels: a / (k + alpha / size * sum(a^2)) ** beta.

    The sum runs over `size` neighbouring channels at the same cell.
    Source: Krizhevsky et al. 2012, section 3.3.
    """

    name: str
    """`norm1`, `norm2`, ..."""
    size: int
    """Channels in the sum."""
    alpha: float
    """Weight of the mean square, as in Krizhevsky's program and in torch; the formula printed in
    the paper has no division by `size`, so its alpha is this one over `size`."""
    beta: float
    """Exponent."""
    k: float
    """What is added to the mean square."""


TrunkLayer = ConvLayer | PoolLayer | NormLayer


@dataclass(frozen=True, kw_only=True, slots=True)
class Architecture:
    """One network: a trunk, a last pooling that can be taken at every offset, and two heads."""

    name: str
    """The name in `config.json`, such as `fast`."""
    window: int
    """Side of the nominal window of one output cell, in pixels: the training crop."""
    trunk: tuple[TrunkLayer, ...]
    """Layers up to the top convolution, whose map the last pooling reads."""
    offset_pool: PoolLayer
    """The last pooling; its stride is the number of offsets per axis in fine stride."""
    hidden: tuple[ConvLayer, ...]
    """The classifier's hidden layers; the first one is as wide as the pooled map of one window."""
    output: str
    """Name of the classifier's output layer (a 1x1 convolution without a ReLU)."""
    regressor_hidden: tuple[ConvLayer, ...]
    """The box regressor's hidden layers, on the same pooled map."""
    scales: tuple[Canvas, ...]
    """Default ladder of scales, smallest first."""

    def module_names(self) -> tuple[str, ...]:
        """List the modules in the order in which the 2014 program numbers them.

        A padded convolution counts as two modules, `conv3_pad` and `conv3`; every ReLU is one.

        Returns:
            22 names for `fast`, 25 for `accurate`, where the position is the program's layer
            number; the other networks are numbered by the same rule.
        """
        return tuple(name for name, _ in self.walk())

    def walk(self) -> Iterator[tuple[str, TrunkLayer | None]]:
        """Go through the modules in order.

        Yields:
            Each module's name, and the layer that it is or pads for; None for a ReLU, for
            `standardize` and for the output, which change no cell's place.
        """
        yield "standardize", None
        for layer in (*self.trunk, self.offset_pool, *self.hidden):
            if isinstance(layer, ConvLayer) and layer.padding:
                yield f"{layer.name}_pad", layer
            yield layer.name, layer
            if isinstance(layer, ConvLayer):
                yield f"{layer.name}_relu", None
        yield self.output, None

    @property
    def default_feature_layer(self) -> str:
        """The last hidden layer before its ReLU: the 2014 program's layer 19 or 22."""
        return self.hidden[-1].name

    @property
    def top_channels(self) -> int:
        """Channels of the top convolution's map."""
        return [layer for layer in self.trunk if isinstance(layer, ConvLayer)][-1].channels

    def find_module(self, layer: str | int | None) -> str:
        """Turn what a user calls a layer into a module's name.

        Args:
            layer: A name (`fc7` before its ReLU, `fc7_relu` after it), a position in
                `module_names`, or None for the last hidden layer before its ReLU.

        Returns:
            One of `module_names`.

        Raises:
            ValueError: If there is no such module.
        """
        if layer is None:
            return self.default_feature_layer
        names = self.module_names()
        if isinstance(layer, int):
            if not 0 <= layer < len(names):
                msg = f"layer: received {layer}, expected a number from 0 to {len(names) - 1}"
                raise ValueError(msg)
            return names[layer]
        if layer not in names:
            msg = f"layer: received {layer!r}, expected one of {', '.join(names)}"
            raise ValueError(msg)
        return layer


def narrow(architecture: Architecture, *, divisor: int) -> Architecture:
    """Divide every channel count, keeping the geometry: for tests and for small machines.

    Args:
        architecture: The network to thin out.
        divisor: What the channel counts are divided by, at least 1; no layer falls below 4
            channels, and all stay divisible by the groups.

    Returns:
        The thinner network, under the same name.
    """
    groups = max(layer.groups for layer in architecture.trunk if isinstance(layer, ConvLayer))

    def thin(layer: ConvLayer) -> ConvLayer:
        return replace(layer, channels=max(4, layer.channels // (divisor * groups) * groups))

    return replace(
        architecture,
        trunk=tuple(thin(x) if isinstance(x, ConvLayer) else x for x in architecture.trunk),
        hidden=tuple(thin(x) for x in architecture.hidden),
        regressor_hidden=tuple(thin(x) for x in architecture.regressor_hidden),
    )
