"""Which pixels an output cell sees: exact integer arithmetic over an architecture's layers.

Frames: *canvas* pixels are those of one scale's canvas; a *window* is the nominal square of one
output cell (221 or 231 pixels), its first one flush with the canvas corner. Zero-padding makes the
true receptive field larger than the window, by the same number of pixels on every side.
Source: Sermanet et al. 2014, section 3.3 and table 5.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from jaxtyping import Float32

from overfeat.architectures import Architecture, ConvLayer, PoolLayer

Stride = Literal["fine", "coarse"]
"""`fine` takes the last pooling at every offset, `coarse` at offset 0 alone."""


def window_stride(architecture: Architecture, stride: Stride) -> int:
    """Compute the distance between neighbouring windows.

    Args:
        architecture: The network.
        stride: Fine or coarse.

    Returns:
        Canvas pixels: 12 or 36 for `accurate`, 16 or 32 for `fast`.
    """
    step = _product_of_strides(architecture.trunk)
    return step if stride == "fine" else step * architecture.offset_pool.kernel


def map_size(architecture: Architecture, side: int, stride: Stride) -> int:
    """Compute how many output cells one side of a canvas gives.

    Args:
        architecture: The network.
        side: Height or width of the canvas, in pixels.
        stride: Fine or coarse.

    Returns:
        Cells along that side; 0 if the canvas is smaller than the window.
    """
    kernel = architecture.hidden[0].kernel
    pool = architecture.offset_pool.kernel
    cells = pre_pool_size(architecture, side)
    fine = cells - pool * kernel + 1
    if fine < 1:
        return 0
    return fine if stride == "fine" else cells // pool - kernel + 1


def pre_pool_size(architecture: Architecture, side: int) -> int:
    """Compute one side of the top convolution's map, before the last pooling.

    Args:
        architecture: The network.
        side: Height or width of the canvas, in pixels.

    Returns:
        Cells along that side; 0 if nothing fits.
    """
    for layer in architecture.trunk:
        if isinstance(layer, PoolLayer):
            side //= layer.kernel
        else:
            side = max(0, (side + 2 * layer.padding - layer.kernel) // layer.stride + 1)
    return side


def receptive_field(architecture: Architecture) -> tuple[int, int]:
    """Compute what one output cell really sees, zero-padding taken as image.

    Args:
        architecture: The network.

    Returns:
        Side in canvas pixels (317 for `accurate`, 327 for `fast`), and its first pixel relative to
        the window's first (-48 for both).
    """
    size, step, start = 1, 1, 0
    layers = (*architecture.trunk, architecture.offset_pool, architecture.hidden[0])
    for layer in layers:
        size += (layer.kernel - 1) * step
        if isinstance(layer, ConvLayer):
            start -= layer.padding * step
            step *= layer.stride
        else:
            step *= layer.kernel
    return size, start


def window_boxes(
    architecture: Architecture, rows: int, cols: int, stride: Stride
) -> Float32[np.ndarray, "rows cols 4"]:
    """Lay out the window of every output cell.

    Args:
        architecture: The network.
        rows: Output cells from top to bottom.
        cols: Output cells from left to right.
        stride: Fine or coarse.

    Returns:
        x_min, y_min, x_max, y_max in canvas pixels, half-open.
    """
    step = window_stride(architecture, stride)
    y, x = np.meshgrid(np.arange(rows) * step, np.arange(cols) * step, indexing="ij")
    corners = (x, y, x + architecture.window, y + architecture.window)
    return np.stack(corners, axis=-1).astype(np.float32)


def _product_of_strides(layers: Sequence[ConvLayer | PoolLayer]) -> int:
    step = 1
    for layer in layers:
        step *= layer.kernel if isinstance(layer, PoolLayer) else layer.stride
    return step
