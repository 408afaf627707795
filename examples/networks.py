"""Print every network: its layers, parameters, windows and scales, as `docs/model.md` has it.

python examples/networks.py
"""

from __future__ import annotations

import torch

from overfeat.architectures import Architecture, ConvLayer, NormLayer, PoolLayer, TrunkLayer
from overfeat.geometry import map_size, receptive_field, window_stride
from overfeat.network import OverFeat, count_parameters
from overfeat.zoo import ARCHITECTURES

CLASSES = 1000


def main() -> None:
    """Print one paragraph per network."""
    print("\n\n".join(describe(architecture) for architecture in ARCHITECTURES.values()))


def describe(architecture: Architecture) -> str:
    """Write down one network."""
    with torch.device("meta"):
        network = OverFeat(architecture, outputs=CLASSES)
    field = receptive_field(architecture)
    strides = [window_stride(architecture, stride) for stride in ("coarse", "fine")]
    layers = [*architecture.trunk, architecture.offset_pool, *architecture.hidden]
    scales = [
        f"{canvas}->{map_size(architecture, canvas.height, 'fine')}x"
        f"{map_size(architecture, canvas.width, 'fine')}"
        for canvas in architecture.scales
    ]
    rows = [
        f"{architecture.name}: {count_parameters(network):,} parameters with {CLASSES} classes, "
        f"{len(architecture.module_names())} modules",
        f"window {architecture.window} px every {strides[0]} px (coarse), {strides[1]} px (fine); "
        f"receptive field {field.size} px from {field.start} on",
        *wrap([describe_layer(layer) for layer in layers] + [f"{architecture.output} CLASSES"]),
        "fine maps: " + " ".join(scales),
    ]
    return "\n".join(f"    {row}" for row in rows)


def describe_layer(layer: TrunkLayer) -> str:
    """Write down one layer: a convolution's channels@kernel, a pooling's kernel, and steps."""
    match layer:
        case ConvLayer():
            text = f"{layer.name} {layer.channels}@{layer.kernel}x{layer.kernel}"
            text += f"/{layer.stride}" if layer.stride > 1 else ""
            text += f" pad {layer.padding}" if layer.padding else ""
            return text + (f" groups {layer.groups}" if layer.groups > 1 else "")
        case PoolLayer():
            return f"{layer.name} {layer.kernel}x{layer.kernel}/{layer.stride}"
        case NormLayer():
            return f"{layer.name} over {layer.size}"


def wrap(words: list[str], width: int = 92) -> list[str]:
    """Join layers to lines."""
    lines = [words[0]]
    for word in words[1:]:
        if len(lines[-1]) + len(word) > width:
            lines[-1] += ","
            lines.append(word)
        else:
            lines[-1] += f", {word}"
    return lines


if __name__ == "__main__":
    main()
