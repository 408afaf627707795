"""Dense evaluation: fully connected layers as convolutions, the last pooling taken at every offset.

The paper pools the top map once for every offset (dy, dx), slides the head over each pooled map and
interleaves the results: output index = kernel * k + offset. The same numbers come in one pass from
a pooling of stride 1 followed by a head whose first layer is dilated by the pooling's kernel.
Source: Sermanet et al. 2014, section 3.3 and figure 3.
"""

from __future__ import annotations

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from overfeat.geometry import Stride


def pool_top_map(
    top_map: Float[Tensor, "b c h w"], *, kernel: int, stride: Stride
) -> Float[Tensor, "b c pooled_h pooled_w"]:
    """Apply the last max-pooling, at every offset or at offset 0 alone.

    Args:
        top_map: The top convolution's map, after its ReLU.
        kernel: Side of the pooling, in cells.
        stride: Fine (every offset, in closed form) or coarse.

    Returns:
        The pooled map: `kernel - 1` cells smaller in fine stride, `kernel` times smaller in coarse.
    """
    return F.max_pool2d(top_map, kernel, stride=1 if stride == "fine" else kernel)


def apply_head(
    pooled: Float[Tensor, "b c h w"], layers: Sequence[nn.Conv2d], *, kernel: int, stride: Stride
) -> Float[Tensor, "b k rows cols"]:
    """Slide a head over a pooled map, with a ReLU between its layers and none after the last.

    Args:
        pooled: What `pool_top_map` returned for the same kernel and stride.
        layers: The head; its first layer spans one window's pooled map.
        kernel: Side of the last pooling, in cells.
        stride: Fine or coarse.

    Returns:
        One column of values per window, fine maps already interleaved.
    """
    first, *rest = layers
    values = apply_first_layer(pooled, first, kernel=kernel, stride=stride)
    for layer in rest:
        values = layer(F.relu(values))
    return values


def apply_first_layer(
    pooled: Float[Tensor, "b c h w"], layer: nn.Conv2d, *, kernel: int, stride: Stride
) -> Float[Tensor, "b k rows cols"]:
    """Apply the layer that reads the pooled map, with holes as wide as the pooling in fine stride.

    Args:
        pooled: What `pool_top_map` returned for the same kernel and stride.
        layer: The head's first layer.
        kernel: Side of the last pooling, in cells.
        stride: Fine or coarse.

    Returns:
        The layer's values before its ReLU.
    """
    dilation = kernel if stride == "fine" else 1
    return F.conv2d(pooled, layer.weight, layer.bias, dilation=dilation)
