"""The weight files of the 2014 program, read into a checkpoint of ours.

`net_weight_0` (fast) and `net_weight_1` (accurate) are headerless little-endian float32: for each
convolution its weight (out, in, height, width), unflipped, then its bias, in forward order. The
size says which one it is. The program and its weights are licensed for research only: they are
read from the user's path, never shipped.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from overfeat.architectures import Architecture
from overfeat.checkpoint import NYU_NORMALIZATION, CheckpointConfig, save_checkpoint
from overfeat.import_weights.imagenet_classes import read_imagenet_classes
from overfeat.import_weights.weight_file import WeightFileError, check_finite, check_is_file
from overfeat.network import OverFeat, count_parameters
from overfeat.zoo import ACCURATE, FAST

FLOAT_BYTES = 4


def import_nyu_weights(source: Path, folder: Path) -> CheckpointConfig:
    """Turn a released weight file into a checkpoint.

    Args:
        source: `net_weight_0` or `net_weight_1`, under any name.
        folder: Where the checkpoint goes.

    Returns:
        The checkpoint's description.

    Raises:
        WeightFileError: If the file is missing, has neither size, or holds numbers that are not
            finite.
    """
    architecture = _recognise(source)
    classes = read_imagenet_classes()
    config = CheckpointConfig(
        architecture=architecture.name,
        classes=classes,
        normalization=NYU_NORMALIZATION,
        provenance={"source": "nyu", "file": source.name, "bytes": source.stat().st_size},
    )
    floats = torch.from_numpy(np.memmap(source, dtype="<f4", mode="c"))
    # state_dict keeps the order of construction: trunk, then classifier, weight before bias.
    ours = config.build_network().state_dict()
    parts = torch.split(floats, [tensor.numel() for tensor in ours.values()])
    tensors = {
        name: part.view_as(tensor) for part, (name, tensor) in zip(parts, ours.items(), strict=True)
    }
    for name, tensor in tensors.items():
        check_finite(source, name, tensor)
    save_checkpoint(folder, config, tensors)
    return config


def _recognise(source: Path) -> Architecture:
    sizes = {_file_bytes(architecture): architecture for architecture in (FAST, ACCURATE)}
    check_is_file(source, give="net_weight_0 or net_weight_1")
    received = source.stat().st_size
    if received not in sizes:
        expected = " or ".join(f"{size:,} ({sizes[size].name})" for size in sizes)
        raise WeightFileError(
            f"weights {source}: received {received:,} bytes, expected {expected}; copy it again"
        )
    return sizes[received]


def _file_bytes(architecture: Architecture) -> int:
    with torch.device("meta"):
        network = OverFeat(architecture, outputs=len(read_imagenet_classes()))
    return FLOAT_BYTES * count_parameters(network)
