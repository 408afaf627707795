"""Dense evaluation: fully connected layers as convolutions, the last pooling taken at every offset.

The paper pools the top map once for every offset (dy, dx), slides the head over each pooled map and
interleaves the results: output index = stride * k + offset. The same numbers come in one pass from
a pooling of stride 1 followed by a head whose first layer is dilated by the pooling's own stride.
Source: Sermanet et al. 2014, section 3.3 and figure 3.
"""

from __future__ import annotations

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from overfeat.architectures import PoolLayer
from overfeat.geometry import Stride


def pool_top_map(
    top_map: Float[Tensor, "b c h w"], *, pool: PoolLayer, stride: Stride
) -> Float[Tensor, "b c pooled_h pooled_w"]:
    """Apply the last max-pooling, at every offset or at offset 0 alone.

    Args:
        top_map: The top convolution's map, after its ReLU.
        pool: The pooling.
        stride: Fine (every offset, in closed form) or coarse.

    Returns:
        The pooled map; in fine stride it is only `kernel - 1` cells smaller.
    """
    return F.max_pool2d(top_map, pool.kernel, stride=1 if stride == "fine" else pool.stride)


def apply_head(
    pooled: Float[Tensor, "b c h w"],
    layers: Sequence[nn.Conv2d],
    *,
    pool: PoolLayer,
    stride: Stride,
) -> Float[Tensor, "b k rows cols"]:
    """Slide a head over a pooled map, with a ReLU between its layers and none after the last.

    Args:
        pooled: What `pool_top_map` returned for the same pooling and stride.
        layers: The head; its first layer spans one window's pooled map.
        pool: The last pooling.
        stride: Fine or coarse.

    Returns:
        One column of values per window, fine maps already interleaved.
    """
    first, *rest = layers
    values = apply_first_layer(pooled, first, pool=pool, stride=stride)
    for layer in rest:
        values = layer(F.relu(values))
    return values


def apply_first_layer(
    pooled: Float[Tensor, "b c h w"], layer: nn.Conv2d, *, pool: PoolLayer, stride: Stride
) -> Float[Tensor, "b k rows cols"]:
    """Apply the layer that reads the pooled map, skipping the other offsets' cells in fine stride.

    Args:
        pooled: What `pool_top_map` returned for the same pooling and stride.
        layer: The head's first layer.
        pool: The last pooling.
        stride: Fine or coarse.

    Returns:
        The layer's values before its ReLU.
    """
    dilation = pool.stride if stride == "fine" else 1
    return F.conv2d(pooled, layer.weight, layer.bias, dilation=dilation)
