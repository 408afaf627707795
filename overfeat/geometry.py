"""Which pixels an output cell sees: exact integer arithmetic over an architecture's layers.

Frames: *canvas* pixels are those of one scale's canvas; a *window* is the nominal square of one
output cell (221 or 231 pixels), its first one flush with the canvas corner. Zero-padding makes the
true receptive field larger than the window on every side.
Source: Sermanet et al. 2014, section 3.3 and table 5.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float32

from overfeat.architectures import Architecture, ConvLayer, NormLayer, PoolLayer

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
    return receptive_field(architecture, stride=stride).step


def map_size(architecture: Architecture, side: int, stride: Stride) -> int:
    """Compute how many output cells one side of a canvas gives.

    Args:
        architecture: The network.
        side: Height or width of the canvas, in pixels.
        stride: Fine or coarse.

    Returns:
        Cells along that side; 0 if the canvas is smaller than the window. (`alexnet` has a cell
        from 223 pixels on: at its window of 224 the kernels leave a pixel of padding out.)
    """
    pool = architecture.offset_pool
    kernel = architecture.hidden[0].kernel
    cells = pre_pool_size(architecture, side)
    if stride == "fine":
        return max(0, cells - pool.kernel - pool.stride * (kernel - 1) + 1)
    return max(0, (cells - pool.kernel) // pool.stride + 1 - kernel + 1)


def pre_pool_size(architecture: Architecture, side: int) -> int:
    """Compute one side of the top convolution's map, before the last pooling.

    Args:
        architecture: The network.
        side: Height or width of the canvas, in pixels.

    Returns:
        Cells along that side; 0 if nothing fits.
    """
    for layer in architecture.trunk:
        if isinstance(layer, NormLayer):
            continue
        padding = layer.padding if isinstance(layer, ConvLayer) else 0
        side = max(0, (side + 2 * padding - layer.kernel) // layer.stride + 1)
    return side


@dataclass(frozen=True, kw_only=True, slots=True)
class CellField:
    """What the cells of one module's map see, zero-padding taken as image: the same on both axes.

    Cell number n sees `size` pixels from `start + n * step` on.
    """

    size: int
    """Side of the receptive field, in canvas pixels."""
    start: int
    """First pixel that the first cell sees; below 0 where it sees zero-padding."""
    step: int
    """Distance between the fields of neighbouring cells, in canvas pixels."""

    def boxes(self, rows: int, cols: int) -> Float32[np.ndarray, "rows cols 4"]:
        """Lay out the field of every cell of a map.

        Args:
            rows: Cells from top to bottom.
            cols: Cells from left to right.

        Returns:
            x_min, y_min, x_max, y_max in canvas pixels, half-open; some lie partly outside.
        """
        starts = (self.start + np.arange(count) * self.step for count in (rows, cols))
        y, x = np.meshgrid(*starts, indexing="ij")
        corners = (x, y, x + self.size, y + self.size)
        return np.stack(corners, axis=-1).astype(np.float32)


def receptive_field(
    architecture: Architecture, module: str | None = None, stride: Stride = "coarse"
) -> CellField:
    """Compute what one cell of a module's map really sees.

    Args:
        architecture: The network.
        module: One of `Architecture.module_names`; None for the output.
        stride: Fine or coarse; it matters from the last pooling on.

    Returns:
        For the output of `accurate` 317 pixels from -48 on, of `fast` 327 from -48 on.
    """
    wanted = architecture.find_module(module or architecture.output)
    size, step, start, denser = 1, 1, 0, 1
    for name, layer in architecture.walk():
        if isinstance(layer, ConvLayer) and name != layer.name:
            start -= layer.padding * step
        elif isinstance(layer, ConvLayer | PoolLayer):
            size += (layer.kernel - 1) * step
            step *= layer.stride
        if layer is architecture.offset_pool and stride == "fine":
            # Its cells are this much denser, and the layers behind it skip as many.
            denser = architecture.offset_pool.stride
        if name == wanted:
            break
    return CellField(size=size, start=start, step=step // denser)


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
    return CellField(size=architecture.window, start=0, step=step).boxes(rows, cols)
