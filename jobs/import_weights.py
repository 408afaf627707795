"""Weights of the program released in 2014 -> a checkpoint of ours.

    overfeat import-weights --source nyu --input net_weight_1 --output overfeat-accurate

The program and its weights are licensed for research only; get them from NYU yourself.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from jobs.entrypoint import Result, make_main
from overfeat.import_weights import WeightFileError, import_nyu_weights
from pipelines.errors import InputError


@dataclass(frozen=True, kw_only=True, slots=True)
class ImportWeightsConfig:
    """Which file, and where to."""

    input: Path
    """A local file: `net_weight_0` (fast) or `net_weight_1` (accurate); its size says which."""
    output: Path
    """Local folder for the checkpoint."""
    source: Literal["nyu"] = "nyu"
    """Whose layout the file has."""


def run(config: ImportWeightsConfig) -> Result:
    """Import a weight file.

    Args:
        config: The flags.

    Returns:
        What was imported.

    Raises:
        InputError: If the file is missing or not one of the released ones.
    """
    try:
        imported = import_nyu_weights(config.input, config.output)
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
