"""The weight files of the 2014 program, read into a checkpoint of ours.

`net_weight_0` (fast) and `net_weight_1` (accurate) are headerless little-endian float32: for each
convolution its weight (out, in, height, width), unflipped, then its bias, in forward order. The
size says which one it is. The program and its weights are licensed for research only: they are
read from the user's path, never shipped.
"""

from __future__ import annotations

import csv
from importlib import resources
from pathlib import Path

import numpy as np
import torch

from overfeat.architectures import ACCURATE, FAST, Architecture
from overfeat.checkpoint import NYU_NORMALIZATION, CheckpointConfig, save_checkpoint
from overfeat.network import OverFeat, count_parameters

FLOAT_BYTES = 4


class WeightFileError(ValueError):
    """A weight file is missing or is not one of the released ones."""


def import_nyu_weights(source: Path, folder: Path) -> CheckpointConfig:
    """Turn a released weight file into a checkpoint.

    Args:
        source: `net_weight_0` or `net_weight_1`, under any name.
        folder: Where the checkpoint goes.

    Returns:
        The checkpoint's description.

    Raises:
        WeightFileError: If the file is missing or has neither size.
    """
    architecture = _recognise(source)
    classes = read_imagenet_classes()
    config = CheckpointConfig(
        architecture=architecture.name,
        classes=classes,
        normalization=NYU_NORMALIZATION,
        provenance={"source": "nyu", "file": source.name, "bytes": source.stat().st_size},
    )
    network = config.build_network()
    floats = torch.from_numpy(np.fromfile(source, dtype="<f4"))
    position = 0
    # state_dict keeps the order of construction: trunk, then classifier, weight before bias.
    for tensor in network.state_dict().values():
        tensor.copy_(floats[position : position + tensor.numel()].view_as(tensor))
        position += tensor.numel()
    save_checkpoint(folder, config, network.state_dict())
    return config


def read_imagenet_classes() -> tuple[str, ...]:
    """Read the 1000 labels in the order of the released networks (the ILSVRC2012 devkit's).

    Returns:
        Labels; "crane" is there twice, the bird at 428 and the machine at 544.
    """
    text = (resources.files("overfeat") / "data" / "imagenet_classes.csv").read_text("utf-8")
    return tuple(row["label"] for row in csv.DictReader(text.splitlines()))


def _recognise(source: Path) -> Architecture:
    sizes = {_file_bytes(architecture): architecture for architecture in (FAST, ACCURATE)}
    if not source.is_file():
        raise WeightFileError(f"weights {source}: no such file; give net_weight_0 or net_weight_1")
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
