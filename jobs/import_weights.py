"""Weights of the 2014 program, or of torchvision's AlexNet or VGG-16 -> a checkpoint of ours.

    overfeat import-weights --source nyu --input net_weight_1 --output overfeat-accurate
    overfeat import-weights --source torchvision-vgg16 --input vgg16-397923af.pth --output vgg16

The 2014 program and its weights are licensed for research only; get them from NYU yourself.
torchvision keeps the files that it has fetched in the `checkpoints` folder of torch's cache. Its
networks tell the classes in another order than the 2014 program's; the labels go with them.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, Literal

from jobs.entrypoint import Result, make_main
from overfeat.checkpoint import CheckpointConfig
from overfeat.import_weights import (
    WeightFileError,
    import_nyu_weights,
    import_torchvision_weights,
)
from pipelines.errors import InputError

_IMPORTERS: Final[Mapping[str, Callable[[Path, Path], CheckpointConfig]]] = {
    "nyu": import_nyu_weights,
    "torchvision-alexnet": partial(import_torchvision_weights, architecture="alexnet"),
    "torchvision-vgg16": partial(import_torchvision_weights, architecture="vgg16"),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class ImportWeightsConfig:
    """Which file, and where to."""

    input: Path
    """A local file. Of the 2014 program `net_weight_0` (fast) or `net_weight_1` (accurate): its
    size says which. Of torchvision a `.pth` file with the state dict of the network and 1000
    classes, in any float format, also under `state_dict` or with `module.` in its names."""
    output: Path
    """Local folder for the checkpoint; untouched if the file is refused."""
    source: Literal["nyu", "torchvision-alexnet", "torchvision-vgg16"] = "nyu"
    """Whose layout the file has."""


def run(config: ImportWeightsConfig) -> Result:
    """Import a weight file.

    Args:
        config: The flags.

    Returns:
        What was imported.

    Raises:
        InputError: If the file is missing or damaged or is not of the given source, or if the
            output is a file.
    """
    if config.output.is_file():
        raise InputError(f"output {config.output}: is a file, expected a folder; name another")
    try:
        imported = _IMPORTERS[config.source](config.input, config.output)
    except WeightFileError as error:
        raise InputError(str(error)) from error
    values = {
        "output": str(config.output),
        "architecture": imported.architecture,
        "classes": len(imported.classes),
    }
    text = f"{imported.architecture}, {len(imported.classes)} classes: {config.output}"
    return Result(values=dict(values), text=text)


main = make_main(ImportWeightsConfig, run, name="import-weights", description=__doc__)


if __name__ == "__main__":
    sys.exit(main())
