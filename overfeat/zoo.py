"""The networks by name: OverFeat's, and those it is compared with or that stand on its trunk.

`fast` and `accurate` are tables 1 and 3 of Sermanet et al. 2014; table 1's layer-2 input of 24x24
is a misprint of 28x28, for kernels and strides decide. `tiny` has the geometry of `accurate` with
few channels. `alexnet-2012` is Krizhevsky et al. 2012, `alexnet` torchvision's one-tower form of
it (Krizhevsky 2014), `vgg16` configuration D of Simonyan and Zisserman 2014.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from overfeat.architectures import Architecture, ConvLayer, NormLayer, PoolLayer
from overfeat.scales import Canvas


def _conv(
    name: str, channels: int, kernel: int, *, stride: int = 1, padding: int = 0, groups: int = 1
) -> ConvLayer:
    return ConvLayer(
        name=name, channels=channels, kernel=kernel, stride=stride, padding=padding, groups=groups
    )


def _pool(name: str, kernel: int, *, stride: int | None = None) -> PoolLayer:
    return PoolLayer(name=name, kernel=kernel, stride=stride or kernel)


def _norm(name: str) -> NormLayer:
    # The constants of Krizhevsky's program; alpha=5e-4 would be the formula as it is printed.
    return NormLayer(name=name, size=5, alpha=1e-4, beta=0.75, k=2.0)


def _ladder(*canvases: str) -> tuple[Canvas, ...]:
    return tuple(Canvas.parse(text) for text in canvases)


# Table 5; row 5 prints 32x35 for the map of 425x497, but kernels and its own last column give
# 32x38.
_PAPER_LADDER = _ladder("245x245", "281x317", "317x389", "389x461", "425x497", "461x569")
# No paper gives a ladder for the others: theirs are sizes at which all offset maps are equally
# large, window + 16 + 32k, near those of table 5.
_FAST_LADDER = _ladder("247x247", "279x311", "311x375", "375x471", "407x503", "471x567")
_LADDER_224 = _ladder("240x240", "272x304", "304x368", "368x464", "400x496", "464x560")
_LADDER_227 = _ladder("243x243", "275x307", "307x371", "371x467", "403x499", "467x563")

FAST = Architecture(
    name="fast",
    window=231,
    trunk=(
        _conv("conv1", 96, 11, stride=4),
        _pool("pool1", 2),
        _conv("conv2", 256, 5),
        _pool("pool2", 2),
        _conv("conv3", 512, 3, padding=1),
        _conv("conv4", 1024, 3, padding=1),
        _conv("conv5", 1024, 3, padding=1),
    ),
    offset_pool=_pool("pool5", 2),
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
        _pool("pool1", 3),
        _conv("conv2", 256, 7),
        _pool("pool2", 2),
        _conv("conv3", 512, 3, padding=1),
        _conv("conv4", 512, 3, padding=1),
        _conv("conv5", 1024, 3, padding=1),
        _conv("conv6", 1024, 3, padding=1),
    ),
    offset_pool=_pool("pool6", 3),
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
        _pool("pool1", 3),
        _conv("conv2", 64, 7),
        _pool("pool2", 2),
        _conv("conv3", 96, 3, padding=1),
        _conv("conv4", 96, 3, padding=1),
        _conv("conv5", 96, 3, padding=1),
        _conv("conv6", 96, 3, padding=1),
    ),
    hidden=(_conv("fc7", 256, 5), _conv("fc8", 128, 1)),
    regressor_hidden=(_conv("box7", 128, 5), _conv("box8", 64, 1)),
)

ALEXNET = Architecture(
    name="alexnet",
    window=224,
    trunk=(
        _conv("conv1", 64, 11, stride=4, padding=2),
        _pool("pool1", 3, stride=2),
        _conv("conv2", 192, 5, padding=2),
        _pool("pool2", 3, stride=2),
        _conv("conv3", 384, 3, padding=1),
        _conv("conv4", 256, 3, padding=1),
        _conv("conv5", 256, 3, padding=1),
    ),
    offset_pool=_pool("pool5", 3, stride=2),
    hidden=(_conv("fc6", 4096, 6), _conv("fc7", 4096, 1)),
    output="fc8",
    regressor_hidden=(_conv("box6", 4096, 6), _conv("box7", 1024, 1)),
    scales=_LADDER_224,
)

ALEXNET_2012 = replace(
    ALEXNET,
    name="alexnet-2012",
    # The paper says 224, at which (224 - 11) / 4 is no whole number; 227 gives its 55x55 map.
    window=227,
    trunk=(
        _conv("conv1", 96, 11, stride=4),
        _norm("norm1"),
        _pool("pool1", 3, stride=2),
        _conv("conv2", 256, 5, padding=2, groups=2),
        _norm("norm2"),
        _pool("pool2", 3, stride=2),
        _conv("conv3", 384, 3, padding=1),
        _conv("conv4", 384, 3, padding=1, groups=2),
        _conv("conv5", 256, 3, padding=1, groups=2),
    ),
    scales=_LADDER_227,
)


def _vgg_block(block: int, convolutions: int, channels: int) -> Iterator[ConvLayer | PoolLayer]:
    for index in range(1, convolutions + 1):
        yield _conv(f"conv{block}_{index}", channels, 3, padding=1)
    yield _pool(f"pool{block}", 2)


*_VGG_TRUNK, _VGG_LAST_POOL = (
    *_vgg_block(1, 2, 64),
    *_vgg_block(2, 2, 128),
    *_vgg_block(3, 3, 256),
    *_vgg_block(4, 3, 512),
    *_vgg_block(5, 3, 512),
)
assert isinstance(_VGG_LAST_POOL, PoolLayer)

VGG16 = Architecture(
    name="vgg16",
    window=224,
    trunk=tuple(_VGG_TRUNK),
    offset_pool=_VGG_LAST_POOL,
    hidden=(_conv("fc6", 4096, 7), _conv("fc7", 4096, 1)),
    output="fc8",
    regressor_hidden=(_conv("box6", 4096, 7), _conv("box7", 1024, 1)),
    scales=_LADDER_224,
)

ARCHITECTURES = {
    architecture.name: architecture
    for architecture in (FAST, ACCURATE, TINY, ALEXNET, ALEXNET_2012, VGG16)
}


def get_architecture(name: str) -> Architecture:
    """Look an architecture up by its name.

    Args:
        name: One of `ARCHITECTURES`.

    Returns:
        The architecture.

    Raises:
        ValueError: If there is none of that name.
    """
    if name not in ARCHITECTURES:
        msg = f"architecture: received {name!r}, expected one of {', '.join(ARCHITECTURES)}"
        raise ValueError(msg)
    return ARCHITECTURES[name]
