"""The networks as data: layers, kernels, channels, and the numbers of the 2014 program's modules.

Source: Sermanet et al. 2014, tables 1 (fast) and 3 (accurate). Table 1's layer-2 input of 24x24 is
a misprint of 28x28: kernels and strides decide. `tiny` keeps the geometry of `accurate` with few
channels.
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


@dataclass(frozen=True, kw_only=True, slots=True)
class PoolLayer:
    """A max-pooling without overlap and padding; a rest narrower than the kernel is dropped."""

    name: str
    """`pool1`, `pool2`, ..."""
    kernel: int
    """Side and step, in cells of the layer's input."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Architecture:
    """One network: a trunk, a last pooling that can be taken at every offset, and two heads."""

    name: str
    """The name in `config.json`: `fast`, `accurate`, `tiny`."""
    window: int
    """Side of the nominal window of one output cell, in pixels (table 1 and 3: the training
    crop)."""
    trunk: tuple[ConvLayer | PoolLayer, ...]
    """Layers up to the top convolution, whose map the last pooling reads."""
    offset_pool: PoolLayer
    """The last pooling; its kernel is the number of offsets per axis in fine stride."""
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
            22 names for `fast`, 25 for `accurate`; the position is the program's layer number.
        """
        return ("standardize", *self._hidden_modules(), self.output)

    def _hidden_modules(self) -> Iterator[str]:
        for layer in (*self.trunk, self.offset_pool, *self.hidden):
            if isinstance(layer, PoolLayer):
                yield layer.name
                continue
            if layer.padding:
                yield f"{layer.name}_pad"
            yield layer.name
            yield f"{layer.name}_relu"

    @property
    def default_feature_layer(self) -> str:
        """The last hidden layer before its ReLU: the 2014 program's layer 19 or 22."""
        return self.hidden[-1].name


def narrow(architecture: Architecture, *, divisor: int) -> Architecture:
    """Divide every channel count, keeping the geometry: for tests and for small machines.

    Args:
        architecture: The network to thin out.
        divisor: What the channel counts are divided by, at least 1; no layer falls below 4
            channels.

    Returns:
        The thinner network, under the same name.
    """

    def thin(layer: ConvLayer) -> ConvLayer:
        return replace(layer, channels=max(4, layer.channels // divisor))

    return replace(
        architecture,
        trunk=tuple(thin(x) if isinstance(x, ConvLayer) else x for x in architecture.trunk),
        hidden=tuple(thin(x) for x in architecture.hidden),
        regressor_hidden=tuple(thin(x) for x in architecture.regressor_hidden),
    )


def _conv(name: str, channels: int, kernel: int, *, stride: int = 1, padding: int = 0) -> ConvLayer:
    return ConvLayer(name=name, channels=channels, kernel=kernel, stride=stride, padding=padding)


def _ladder(*canvases: str) -> tuple[Canvas, ...]:
    return tuple(Canvas.parse(text) for text in canvases)


# Table 5; row 5 prints 32x35 for the map of 425x497, but kernels and its own last column give
# 32x38.
_PAPER_LADDER = _ladder("245x245", "281x317", "317x389", "389x461", "425x497", "461x569")
# 247 + 32k: the sizes at which the two offset maps of `fast` are equally large. The paper gives
# none.
_FAST_LADDER = _ladder("247x247", "279x311", "311x375", "375x471", "407x503", "471x567")

FAST = Architecture(
    name="fast",
    window=231,
    trunk=(
        _conv("conv1", 96, 11, stride=4),
        PoolLayer(name="pool1", kernel=2),
        _conv("conv2", 256, 5),
        PoolLayer(name="pool2", kernel=2),
        _conv("conv3", 512, 3, padding=1),
        _conv("conv4", 1024, 3, padding=1),
        _conv("conv5", 1024, 3, padding=1),
    ),
    offset_pool=PoolLayer(name="pool5", kernel=2),
    hidden=(_conv("fc6", 3072, 6), _conv("fc7", 4096, 1)),
    output="fc8",
    regressor_hidden=(_conv("box6", 4096, 6), _conv("box7", 1024, 1)),
    scales=_FAST_LADDER,
)

ACCURATE = Architecture(
    name="accurate",
    window=221,
    trunk=(
        _conv("conv1", 96, 7, stride=2),
        PoolLayer(name="pool1", kernel=3),
        _conv("conv2", 256, 7),
        PoolLayer(name="pool2", kernel=2),
        _conv("conv3", 512, 3, padding=1),
        _conv("conv4", 512, 3, padding=1),
        _conv("conv5", 1024, 3, padding=1),
        _conv("conv6", 1024, 3, padding=1),
    ),
    offset_pool=PoolLayer(name="pool6", kernel=3),
    hidden=(_conv("fc7", 4096, 5), _conv("fc8", 4096, 1)),
    output="fc9",
    regressor_hidden=(_conv("box7", 4096, 5), _conv("box8", 1024, 1)),
    scales=_PAPER_LADDER,
)

TINY = replace(
    ACCURATE,
    name="tiny",
    trunk=(
        _conv("conv1", 24, 7, stride=2),
        PoolLayer(name="pool1", kernel=3),
        _conv("conv2", 64, 7),
        PoolLayer(name="pool2", kernel=2),
        _conv("conv3", 96, 3, padding=1),
        _conv("conv4", 96, 3, padding=1),
        _conv("conv5", 96, 3, padding=1),
        _conv("conv6", 96, 3, padding=1),
    ),
    hidden=(_conv("fc7", 256, 5), _conv("fc8", 128, 1)),
    regressor_hidden=(_conv("box7", 128, 5), _conv("box8", 64, 1)),
)

ARCHITECTURES = {architecture.name: architecture for architecture in (FAST, ACCURATE, TINY)}


def get_architecture(name: str) -> Architecture:
    """Look an architecture up by its name.

    Args:
        name: `fast`, `accurate` or `tiny`.

    Returns:
        The architecture.

    Raises:
        ValueError: If there is none of that name.
    """
    if name not in ARCHITECTURES:
        msg = f"architecture: received {name!r}, expected one of {', '.join(ARCHITECTURES)}"
        raise ValueError(msg)
    return ARCHITECTURES[name]
