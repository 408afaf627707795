"""The console script `overfeat`: a command's name, then its flags; `python -m jobs.NAME` too."""

from __future__ import annotations

import importlib
import sys
from typing import Final

from jobs.streams import fill_closed_streams

COMMANDS: Final = {
    "demo": "the whole main job on a sample bucket: tables, a pandas query, an HTML page",
    "annotate": "images -> tables of classes and boxes",
    "status": "how far a run is; never disturbs it",
    "compact": "a finished run's tables -> a copy as few large files",
    "shards": "a data set -> WebDataset shards",
    "train": "shards, or a folder of images for each class -> a checkpoint",
    "evaluate": "tables against ground truth",
    "report": "tables -> one HTML page to look at",
    "import-weights": "weights of the 2014 program or of torchvision -> a checkpoint",
}
"""Every command, with what it does. A module of the same name, with underscores, is in `jobs`."""

_BAD_ARGUMENTS: Final = 2
_INTERRUPTED: Final = 130
"""As `jobs.entrypoint` has it, which takes as long to import as the rest."""


def main() -> None:
    """Run a command and leave the process with its exit code."""
    fill_closed_streams()
    sys.exit(dispatch(sys.argv[1:]))


def dispatch(args: list[str]) -> int:
    """Run one command.

    Args:
        args: Its name and its flags.

    Returns:
        The exit code.
    """
    if not args or args[0] in {"-h", "--help"}:
        print(_usage())
        return 0
    name, *flags = args
    if name not in COMMANDS:
        known = ", ".join(COMMANDS)
        sys.stderr.write(f"error: no command {name!r}; expected one of {known}\n")
        return _BAD_ARGUMENTS
    # Imported late: `overfeat --help` must not wait for torch and Ray.
    try:
        module = importlib.import_module(f"jobs.{name.replace('-', '_')}")
    except ModuleNotFoundError as error:
        hint = "pip install 'overfeat-at-scale[pipelines]'"
        sys.stderr.write(f"error: overfeat {name} needs the package {error.name}: {hint}\n")
        return _BAD_ARGUMENTS
    except KeyboardInterrupt:
        sys.stderr.write("interrupted before anything was started\n")
        return _INTERRUPTED
    return int(module.main(flags))


def _usage() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {what}" for name, what in COMMANDS.items()]
    return "\n".join(["usage: overfeat COMMAND [FLAGS]", "", *lines, "", "overfeat COMMAND --help"])
